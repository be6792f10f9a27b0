"""A line to a server that can be cut in the middle of an answer."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

import trustme

_REQUEST = re.compile(rb"^([A-Z]+ \S+) HTTP/1\.1\r$", re.MULTILINE)


@dataclass
class Line:
    """Where the line begins, how many bytes of answers came through it, and the requests: ``GET /path``."""

    url: str = ""
    carried: int = 0
    asked: list[str] = field(default_factory=list)


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
    line, opened, ends = Line(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def stand() -> None:
        carrier = _Carrier(line, urlsplit(url), list(cuts or []), then, authority)
        server = await asyncio.start_server(carrier.carry, "127.0.0.1", 0, ssl=carrier.served)
        port = server.sockets[0].getsockname()[1]
        carrier.name = f"localhost:{port}".encode()
        line.url = f"{carrier.place.scheme}://localhost:{port}{carrier.place.path}"
        opened.set()
        await ends.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(stand())

    # A connection by TLS is not for two threads, so one carries all.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert opened.wait(10)
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(10)


@dataclass
class _Carrier:
    line: Line
    place: SplitResult
    cuts: list[int]
    then: Callable[[], None]
    authority: trustme.CA | None
    #: What clients call the server.
    name: bytes = b""
    served: ssl.SSLContext | None = None
    asked: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.authority is not None:
            self.served, self.asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
            self.authority.issue_cert("localhost").configure_cert(self.served)
            self.authority.configure_trust(self.asked)

    async def carry(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        limit = self.cuts.pop(0) if self.cuts else 0
        writers = [answers]
        with suppress(OSError):
            server, requests = await asyncio.open_connection(
                self.place.hostname, self.place.port, ssl=self.asked
            )
            writers.append(requests)
            ways = [self._ask(client, requests), self._answer(server, answers, limit)]
            tasks = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()

    async def _ask(self, client: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while piece := await client.read(65536):
            if self.authority is not None:
                piece = piece.replace(self.name, self.place.netloc.encode())
            self.line.asked += [found.decode() for found in _REQUEST.findall(piece)]
            to.write(piece)
            await to.drain()

    async def _answer(self, server: asyncio.StreamReader, to: asyncio.StreamWriter, limit: int) -> None:
        passed = 0
        while piece := await server.read(65536):
            to.write(piece)
            await to.drain()
            passed += len(piece)
            self.line.carried += len(piece)
            if limit and passed > limit:
                await asyncio.to_thread(self.then)
                return
