"""Listening sockets, and TLS whose certificates may be renewed while it serves."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import sys

from slipway_server.settings import TlsFiles

#: Where clients come in: by REST and by gRPC.
Sockets = tuple[socket.socket, socket.socket]


def bind(host: str | None, port: int, shared: bool = False) -> socket.socket:
    """A listening socket; without a host on every address, IPv6 and IPv4 alike. Raises ``OSError``.

    A ``shared`` one lets other processes listen on the same port; the kernel deals connections out to them.
    """
    if host is None and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048, reuse_port=shared
        )
    return socket.create_server((host or "", port), backlog=2048, reuse_port=shared)


def duplicate(descriptor: int) -> socket.socket:
    """A listening socket of one's own, of a descriptor that others have too. Raises ``OSError``."""
    return socket.socket(fileno=os.dup(descriptor))


#: Files that are no connections: libraries, listening sockets.
_OTHER_FILES = 256


def most_connections() -> int:
    """How many connections this process may have files for, after it asked for all that it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else max(1, hard - _OTHER_FILES)


class Tls:
    """A server's TLS context, which follows its files."""

    def __init__(self, files: TlsFiles, protocol: str = "http/1.1") -> None:
        """Raises ``OSError`` for a file that cannot be read or does not hold what it should."""
        self._files = files
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols([protocol])
        if files.client_ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(files.client_ca)
        self._seen = self._stamp()
        self.context.load_cert_chain(files.certificate, files.key)

    def follow(self) -> None:
        """Load the certificate again if its files changed; new connections get it. Raises ``OSError``."""
        stamp = self._stamp()
        if stamp != self._seen:
            self.context.load_cert_chain(self._files.certificate, self._files.key)
            self._seen = stamp

    def _stamp(self) -> tuple[int, int]:
        return (self._files.certificate.stat().st_mtime_ns, self._files.key.stat().st_mtime_ns)
