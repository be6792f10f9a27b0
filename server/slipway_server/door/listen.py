"""Listening sockets, and TLS whose certificates may be renewed while it serves."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import socket
import ssl
import sys
from typing import Any

from slipway_server.access.callers import Certified
from slipway_server.settings import TlsFiles

log = logging.getLogger(__name__)

_LONGEST_NAME = 512
_NAME = re.compile(r"[!-~]+")

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
        self._protocol = protocol
        self._seen = self._stamp()
        self.context = _Current(ssl.PROTOCOL_TLS_SERVER)
        self.context.made = self._make()

    def follow(self) -> bool:
        """Load all files again if they changed; new connections get them. Raises ``OSError``.

        Returns whether the authority of clients' certificates changed: those that were shown count no more.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        self.context.made = self._make()
        is_other, self._seen = stamp[2] != self._seen[2], stamp
        return is_other

    def _make(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([self._protocol])
        context.load_cert_chain(files.certificate, files.key)
        if files.client_ca is not None:
            # A session that goes on is not verified again.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            try:
                context.load_verify_locations(files.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED if files.is_required else ssl.CERT_OPTIONAL
            except OSError as error:
                if files.is_required:
                    raise
                log.error("no certificates of clients are taken", extra={"error": str(error)})
        return context

    def _stamp(self) -> tuple[int, int, int]:
        files = self._files
        try:
            authority = 0 if files.client_ca is None else files.client_ca.stat().st_mtime_ns
        except OSError:
            if files.is_required:
                raise
            authority = -1
        return (files.certificate.stat().st_mtime_ns, files.key.stat().st_mtime_ns, authority)


class _Current(ssl.SSLContext):
    """Begins each connection by the context that was made last: authorities cannot be taken out of one."""

    made: ssl.SSLContext

    def wrap_bio(self, *given: Any, **more: Any) -> ssl.SSLObject:
        return self.made.wrap_bio(*given, **more)


def certified(transport: asyncio.BaseTransport) -> Certified | None:
    """Whom a client's certificate names; None without one, or where it names nobody.

    By SPIFFE, where it has such a URI, and then exactly one; else by its DNS names, but for wildcards. A
    common name is nobody's: anybody may have asked for it.
    """
    shown = transport.get_extra_info("peercert")
    if not shown:
        return None
    names = shown.get("subjectAltName", ())
    found = [name for kind, name in names if kind == "URI"]
    if found:
        if len(found) > 1 or not found[0].startswith("spiffe://"):
            return None
    else:
        found = [f"dns:{name.lower()}" for kind, name in names if kind == "DNS" and "*" not in name]
    if not found or not all(len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) for name in found):
        return None
    return Certified(tuple(found), float(ssl.cert_time_to_seconds(shown["notAfter"])))
