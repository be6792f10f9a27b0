"""A line to a server that can be cut in the middle of an answer."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trustme

_REQUEST = re.compile(rb"^([A-Z]+ \S+) HTTP/1\.1\r$", re.MULTILINE)


@dataclass
class Line:
    """Where the line begins, how many bytes of answers came through it, and the requests: ``GET /path``."""

    url: str
    carried: int = 0
    asked: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)


@contextmanager
def relay(
    url: str,
    cuts: list[int] | None = None,
    then: Callable[[], None] = lambda: None,
    authority: trustme.CA | None = None,
) -> Iterator[Line]:
    """Pass bytes to and from the server at ``url``.

    ``cuts``: after how many bytes of answers the first connections are cut; later ones never.
    ``then`` is called after each cut, before the client knows of it. With an authority the line is opened in
    between: it is by TLS on both sides, and requests come to the server under its own name.
    """
    parts = urlsplit(url)
    address = (parts.hostname, parts.port)
    left = list(cuts or [])
    listener = socket.create_server(("127.0.0.1", 0))
    names = (f"localhost:{listener.getsockname()[1]}".encode(), parts.netloc.encode())
    line = Line(f"{parts.scheme}://localhost:{listener.getsockname()[1]}{parts.path}")
    if authority is not None:
        served, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("localhost").configure_cert(served)
        authority.configure_trust(asked)

    def forward(source: socket.socket, to: socket.socket, limit: int, counts: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(65536):
                to.sendall(piece if counts or authority is None else piece.replace(*names))
                passed += len(piece)
                if counts:
                    line.carried += len(piece)
                else:
                    line.asked += [found.decode() for found in _REQUEST.findall(piece)]
                if limit and passed > limit:
                    then()
                    break
        except OSError:
            pass
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(address)
            if authority is not None:
                client = served.wrap_socket(client, server_side=True)
                server = asked.wrap_socket(server, server_hostname=parts.hostname)
            line.sockets += [client, server]
            limit = left.pop(0) if left else 0
            for arguments in ((client, server, 0, False), (server, client, limit, True)):
                threading.Thread(target=forward, args=arguments, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield line
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in line.sockets:
            each.close()
        thread.join(5)
