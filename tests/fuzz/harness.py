"""The serving ports without sockets: bytes go in as the event loop would hand them over, and are judged.

Each case has connections of its own; what it must leave behind is nothing at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from asyncio import events
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from slipway_server.board import Board
from slipway_server.engine.served import Served
from slipway_server.errors import Reason
from slipway_server.http.protocol import HttpProtocol
from slipway_server.http.server import HttpServer
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import CODE_SLOTS, REASON_SLOTS, Counters
from slipway_server.rpc.connection import RpcConnection
from slipway_server.rpc.server import RpcServer
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.runtime.trial import Trial
from slipway_server.settings import Serving
from slipway_server.site.frontend import Frontend
from slipway_server.wire.limits import Limits
from slipway_server.wire.response import Headers, Response

#: A case that takes longer hangs.
PATIENCE_SECONDS = 10.0
#: The two models, by how they are run: requests share calls, or each runs alone.
MODELS = {"identity": Profile(True, True, 128), "every_datatype": Profile(inline=True)}


class FaultError(Exception):
    """The server did what it must not do, whatever it is sent."""


class Port:
    """One model behind both of its ports."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path, profile: Profile) -> None:
        self.loop = loop
        self.board = Board(1)
        self._log = _Log()
        # What is left to linger would only pile up: thousands of cases fit into the time.
        self.frontend = Frontend(
            Serving("fraud", "3", "sha256:" + "0" * 64),
            Lifecycle(0),
            Counters(self.board.row(0)),
            limits=Limits(linger_seconds=0.0),
        )
        model = Model(path, 1)
        model.empties = Trial(model).result()
        self.served = Served(model, "fraud", "3", profile)
        loop.run_until_complete(self._start())
        self.http = _Judged(self.frontend)
        self.rpc = RpcServer(self.frontend)

    async def _start(self) -> None:
        self.frontend.engine.start(self.served)
        self.frontend.lifecycle.loaded = True

    def close(self) -> None:
        self._log.close()
        self.frontend.engine.close()

    def speak_http(self, pieces: Iterable[bytes]) -> bytes:
        """Everything that is answered on a connection of HTTP/1.1 to these pieces."""
        self.http.heads.clear()
        connection = HttpProtocol(self.http)
        return self._speak(
            connection,
            pieces,
            lambda: any(each.complete and each.out is None for each in connection._queue),
        )

    def speak_grpc(self, pieces: Iterable[bytes]) -> bytes:
        """The same on a connection of gRPC."""
        connection = RpcConnection(self.rpc)
        return self._speak(
            connection,
            pieces,
            lambda: any(
                each.complete and not each.is_answered and each.watch_request is None
                for each in connection.calls.values()
            ),
        )

    def speak_both(self, steps: Iterable[tuple[bool, bytes]]) -> bytes:
        """Pieces for a connection of each port, in turn: of gRPC where the first of the pair says so."""
        self.http.heads.clear()
        both = HttpProtocol(self.http), RpcConnection(self.rpc)
        wires = [Wire(self.loop, connection) for connection in both]
        for connection, wire in zip(both, wires, strict=True):
            connection.connection_made(wire)
        for is_grpc, piece in steps:
            if not wires[is_grpc].closed and not wires[is_grpc].paused:
                self.loop.call_soon(both[is_grpc].data_received, piece)
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        for wire in wires:
            wire.close()
        self._run_while(
            lambda: not all(wire.lost for wire in wires) or self.frontend.admission.bodies.used > 0
        )
        self._judge()
        return b"".join(wire.sent for wire in wires)

    def _speak(
        self, connection: HttpProtocol | RpcConnection, pieces: Iterable[bytes], waits: Callable[[], bool]
    ) -> bytes:
        wire = Wire(self.loop, connection)
        connection.connection_made(wire)
        for piece in pieces:
            self._run_while(lambda: wire.paused and not wire.closed and waits())
            if wire.closed:
                break
            self._within(connection.data_received, piece)
        self._run_while(lambda: not wire.closed and waits())
        if not wire.closed and not self._within(connection.eof_received):
            wire.close()
        self._run_while(lambda: not wire.closed and waits())
        wire.close()
        self._run_while(lambda: not wire.lost or self.frontend.admission.bodies.used > 0)
        self._judge()
        return bytes(wire.sent)

    def _within(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call as the loop would, which is said to run meanwhile: a turn of it for each would take long."""
        events._set_running_loop(self.loop)
        try:
            return call(*arguments)
        finally:
            events._set_running_loop(None)

    def _run_while(self, condition: Callable[[], bool]) -> None:
        began = time.perf_counter()
        while condition():
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if time.perf_counter() - began > PATIENCE_SECONDS:
                raise FaultError("it hangs")

    def _judge(self) -> None:
        if self.http.faults:
            raise FaultError(self.http.faults.pop())
        if self._log.errors:
            raise FaultError(f"an error was logged: {self._log.errors.pop()}")
        total, frontend, http = self.board.total, self.frontend, self.http
        admission = frontend.admission
        left = {
            "requests in flight": frontend.counters.in_flight,
            "requests kept in mind": frontend.lifecycle.in_flight,
            "bytes of requests": admission.bodies.used,
            "bytes of answers": admission.answers.used,
            "calls": admission.calls.used,
            "holders": sum(
                len(pool.holders) for pool in (admission.bodies, admission.answers, admission.calls)
            ),
            "connections": len(http.connections) + len(http.watched) + len(http.tasks),
            "gRPC connections": len(self.rpc.connections) + len(self.rpc.watched),
            "guests": len(admission.guests),
            "answers with 500": total(CODE_SLOTS[500]),
            "requests turned away": total(REASON_SLOTS[Reason.OVERLOAD])
            + total(REASON_SLOTS[Reason.NOT_READY]),
            "503 without a deadline": total(CODE_SLOTS[503]) - total(REASON_SLOTS[Reason.DEADLINE]),
        }
        wrong = {name: count for name, count in left.items() if count}
        if wrong:
            raise FaultError(f"there are {wrong}")


class Wire(asyncio.Transport):
    """A connection whose client reads everything."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: asyncio.Protocol) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = self.lost = self.paused = False
        self._loop = loop
        self._connection = connection

    def write(self, data: Any) -> None:
        if not self.closed:
            self.sent += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def _lose(self) -> None:
        self._connection.connection_lost(None)
        self.lost = True


class _Judged(HttpServer):
    """Looks at each response on its way out."""

    def __init__(self, frontend: Frontend) -> None:
        super().__init__(frontend)
        self.faults: list[str] = []

    def head(self, response: Response, extra: Headers) -> bytes:
        late = response.status == 503 and (b"retry-after", b"1") in response.headers
        if response.status >= 500 and not late:
            self.faults.append(f"{response.status}: {response.body[:500]!r}")
        elif response.status >= 400:
            words = orjson.loads(response.body)
            if not all(type(word) is str and 2 < len(word) < 2000 for word in words.values()):
                self.faults.append(f"an error in no words: {response.body[:500]!r}")
        return super().head(response, extra)


class _Log(logging.Handler):
    """Keeps what the server says of its own faults, its loop's included."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []
        for name in ("slipway_server", "asyncio"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))

    def close(self) -> None:
        for name in ("slipway_server", "asyncio"):
            logging.getLogger(name).removeHandler(self)
        super().close()
