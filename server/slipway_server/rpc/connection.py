"""HTTP/2 (RFC 9113) on one connection, as much of it as gRPC needs."""

from __future__ import annotations

from collections.abc import Hashable
from time import perf_counter
from typing import TYPE_CHECKING

from slipway_server.door import connection as door
from slipway_server.door.admission import no_room
from slipway_server.door.pace import Pace
from slipway_server.errors import Reason, RequestError
from slipway_server.http.body import Body
from slipway_server.rpc.exchange import NOT_REST, Rpc
from slipway_server.rpc.frames import (
    DEFAULT_WINDOW,
    HEAD_BYTES,
    LARGEST_WINDOW,
    PREFACE,
    Code,
    ConnectionFaultError,
    Setting,
    goaway,
    reset,
    settings,
    window_update,
)
from slipway_server.rpc.streams import Streams
from slipway_server.wire.limits import Limits

if TYPE_CHECKING:
    from slipway_server.rpc.server import RpcServer

_METHODS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ")
_HTTP_1 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(NOT_REST), NOT_REST)
)


class Connection(door.Connection):
    """One client, with any number of calls."""

    kind = "grpc"

    def __init__(self, server: RpcServer) -> None:
        super().__init__(server)
        self.server = server
        self._streams = Streams(self, server.limits)
        #: The calls under way, by the number of their stream.
        self.streams = self._streams.open
        self.push = self._streams.push
        #: Since when a part of something has been waiting for the rest; 0 if nothing does.
        self.reading_since = perf_counter()
        self.leaving_since = 0.0
        self._buffer = b""
        self._pending = Body(server.limits.frame_bytes + HEAD_BYTES, server.admission.bodies)
        self._greeted = False
        self._calls = _Calls(self)

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        self.active = True
        self.server.watched.add(self)
        if self._buffer:
            data = self._buffer + data
            self._pending.let_go()
        try:
            taken = self._take(data)
        except ConnectionFaultError as fault:
            self._fail(fault)
            return
        self._buffer = data[taken:]
        if self._buffer:
            self._keep_part(len(self._buffer))
        if not self._buffer and not self._streams.expects_more:
            self.reading_since = 0.0
        elif taken or not self.reading_since:
            self.reading_since = perf_counter()

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_back_calls(len(self.streams))
        for rpc in self.streams.values():
            rpc.abandon()
        self.streams.clear()
        self._pending.let_go()
        self._streams.waiting_bytes = 0
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Bytes in and out.

    def _take(self, data: bytes) -> int:
        """Handle the whole frames in ``data``; how many bytes these were."""
        position, size = 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                self.count_fault(Reason.MALFORMED)
                if data.startswith(_METHODS):
                    self.send(_HTTP_1)
                self._close()
                return size
            if size < len(PREFACE):
                return 0
            self._greeted = True
            self.send(_greeting(self.limits))
            position = len(PREFACE)
        while size - position >= HEAD_BYTES and self._transport is not None:
            start = position + HEAD_BYTES
            length = int.from_bytes(data[position : position + 3], "big")
            if length > self.limits.frame_bytes:
                words = f"frames may have {self.limits.frame_bytes} bytes"
                raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, words)
            if start + length > size:
                break
            kind = data[position + 3]
            stream = int.from_bytes(data[position + 5 : start], "big") & LARGEST_WINDOW
            self._streams.handle(kind, data[position + 4], stream, data[start : start + length])
            position = start + length
        return position if self._transport is not None else size

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if self.stalled:
                self.count_unread(len(data))

    def _keep_part(self, size: int) -> None:
        """A part of a frame waits for the rest."""
        try:
            self._pending.charge(size)
        except RequestError as error:
            self._fail(ConnectionFaultError(Code.ENHANCE_YOUR_CALM, error.message), error.reason)

    # Who holds what.

    def take_call(self) -> bool:
        """Whether there is room for one more call, over all connections."""
        return self.server.admission.calls.take(self._calls, 1)

    def give_back_calls(self, count: int) -> None:
        self.server.admission.calls.give_back(self._calls, count)

    def waiting_bytes(self) -> int:
        return self._streams.waiting_bytes

    def give_way(self) -> None:
        """End the call whose answer waits with most bytes; its neighbours on a router's connection go on."""
        largest = max(self._streams.waiting.values(), key=lambda rpc: rpc.unsent, default=None)
        if largest is not None:
            self.drop_blocked(largest)
        else:
            super().give_way()

    def refuse_one(self, error: RequestError) -> None:
        """Refuse the oldest call that is not under way in the model."""
        calls = self.streams.values()
        rpc = next((each for each in calls if not each.complete or each.watched is not None), None)
        if rpc is not None:
            rpc.refuse(error)

    # From time to time.

    def look(self, now: float) -> bool:
        self._streams.count_anew()
        again = super().look(now)
        if self.reading_since and now - self.reading_since > self.limits.head_seconds:
            self.late()
            return False
        for rpc in list(self.streams.values()):
            self._look_at(rpc, now)
        return again or bool(self.reading_since or self.streams)

    def _look_at(self, rpc: Rpc, now: float) -> None:
        if rpc.watched is not None:
            rpc.look_again()
        elif not rpc.complete:
            rpc.look(now)
        if not rpc.out:
            rpc.reads = None
        elif rpc.reads is None:
            rpc.reads = Pace(now, rpc.sent)
        elif rpc.reads.is_slow(now, rpc.sent, self.limits) and not self.stalled:
            self.drop_blocked(rpc)

    # Ends.

    def leave(self, now: float) -> None:
        """Ask the client to go elsewhere; close when it had time to hear it and nothing is under way."""
        if not self.leaving_since:
            self.leaving_since = now
            # No number yet: what the client sends before it has read this is still answered.
            self.send(goaway(LARGEST_WINDOW, Code.NO_ERROR))
        elif now - self.leaving_since > 1.0 and not any(rpc.watched is None for rpc in self.streams.values()):
            self.send(goaway(self._streams.last, Code.NO_ERROR))
            self._close()

    def late(self) -> None:
        """Something begun does not go on."""
        fault = ConnectionFaultError(Code.ENHANCE_YOUR_CALM, "a frame took too long to arrive")
        self._fail(fault, Reason.SLOW_CLIENT)

    def drop_blocked(self, rpc: Rpc) -> None:
        """A client does not take its answer."""
        self.send(reset(rpc.stream, Code.CANCEL))
        self._streams.drop(rpc.stream)

    def close_if_idle(self) -> bool:
        """Close the connection if no call is under way on it; whether that is so."""
        if self.streams or self._transport is None:
            return False
        self.send(goaway(self._streams.last, Code.NO_ERROR))
        self._close()
        return True

    def turn_away(self, error: RequestError) -> None:
        for rpc in list(self.streams.values()):
            rpc.refuse(error)
        self._fail(ConnectionFaultError(Code.ENHANCE_YOUR_CALM, error.message), error.reason)

    def _fail(self, fault: ConnectionFaultError, reason: Reason = Reason.MALFORMED) -> None:
        self.count_fault(reason)
        self.send(goaway(self._streams.last, fault.code, str(fault)))
        self._close()

    def _close(self) -> None:
        self._buffer = b""
        self._pending.let_go()
        if self._transport is not None:
            self._transport.close()

    def count_fault(self, reason: Reason) -> None:
        """As HTTP's side counts what it refuses; not what comes in after the connection's end."""
        if self._transport is not None and not self._transport.is_closing():
            self.server.frontend.counters.refused(reason)


class _Calls:
    """The calls of one connection, as the account of all of them sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def owner(self) -> Hashable:
        return self._connection.owner

    def give_way(self) -> None:
        self._connection.refuse_one(no_room("calls"))


def _greeting(limits: Limits) -> bytes:
    """What the server says first: its settings, and the window of the connection."""
    values = {
        Setting.MAX_CONCURRENT_STREAMS: limits.streams,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
        Setting.MAX_FRAME_SIZE: limits.frame_bytes,
        Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
    }
    return settings(values) + window_update(0, limits.connection_window - DEFAULT_WINDOW)
