"""A line to a server that can be cut in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Line:
    """Where the line begins, and how many bytes of answers came through it."""

    url: str
    carried: int = 0
    sockets: list[socket.socket] = field(default_factory=list)


@contextmanager
def relay(url: str, cuts: list[int] | None = None, then: Callable[[], None] = lambda: None) -> Iterator[Line]:
    """Pass bytes to and from the server at ``url``.

    ``cuts``: after how many bytes of answers the first connections are cut; later ones never.
    ``then`` is called after each cut, before the client knows of it.
    """
    address = (urlsplit(url).hostname, urlsplit(url).port)
    left = list(cuts or [])
    listener = socket.create_server(("127.0.0.1", 0))
    line = Line(f"http://localhost:{listener.getsockname()[1]}")

    def forward(source: socket.socket, to: socket.socket, limit: int, counts: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(65536):
                to.sendall(piece)
                passed += len(piece)
                line.carried += len(piece) if counts else 0
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
