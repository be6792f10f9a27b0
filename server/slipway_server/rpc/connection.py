"""One connection of gRPC: HTTP/2 by its wire, and the calls that came in by it."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy
from time import perf_counter

from slipway_server.call.body import Body
from slipway_server.door.admission import no_room
from slipway_server.door.connection import Connection
from slipway_server.door.pace import Pace
from slipway_server.errors import Reason, RequestError
from slipway_server.rpc.exchange import Rpc
from slipway_server.rpc.port import RpcPort
from slipway_server.wire.events import Broken, Ended, Fault, Left, Opened, Part
from slipway_server.wire.frames import HEAD_BYTES, Code
from slipway_server.wire.http2 import Http2


class RpcConnection(Connection):
    """One client, with any number of calls."""

    kind = "grpc"

    def __init__(self, server: RpcPort) -> None:
        super().__init__(server)
        self.server = server
        self.wire = Http2(server.limits, server.kept)
        #: The calls under way, by the number of their stream.
        self.calls: dict[int, Rpc] = {}
        #: Since when a part of something has been waiting for the rest; 0 if nothing does.
        self.reading_since = perf_counter()
        self.leaving_since = 0.0
        self._pending = Body(server.limits.frame_bytes + HEAD_BYTES, server.admission.bodies)
        self._share = _Share(self)
        self._is_reading = False
        self._waited = 0

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        self.active = True
        self.server.watched.add(self)
        wire, before = self.wire, self.wire.buffered
        if before:
            self._pending.free()
        self._is_reading = True
        self.handle(wire.feed(data))
        self._is_reading = False
        self._write()
        if wire.buffered:
            self._keep_part(wire.buffered)
        if not wire.expects_more:
            self.reading_since = 0.0
        elif wire.buffered != before + len(data) or not self.reading_since:
            self.reading_since = perf_counter()

    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.close()
        for rpc in list(self.calls.values()):
            rpc.abandon()
        self.server.admission.calls.give_back(self._share, len(self.calls))
        self.calls.clear()
        self._pending.free()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # Requests in.

    def receive(self, event: Part) -> None:
        rpc = self.calls.get(event.id)
        if rpc is not None:
            rpc.receive(event.data)

    def end(self, event: Ended) -> None:
        rpc = self.calls.get(event.id)
        if rpc is not None:
            rpc.end()

    def left(self, event: Left) -> None:
        self._drop(event.id)

    def broken(self, event: Broken) -> None:
        self.count_fault(Reason.OVERLOAD if event.is_refused else Reason.MALFORMED)
        rpc = self.calls.get(event.id)
        if rpc is not None and rpc.unanswered:
            rpc.count(400)
        self._drop(event.id)

    def fail(self, event: Fault) -> None:  # noqa: ARG002
        self._end(Reason.MALFORMED)

    def open(self, event: Opened) -> None:
        if not self.server.admission.calls.take(self._share, 1):
            self.wire.refuse(event.id)
            self.count_fault(Reason.OVERLOAD)
            return
        server = self.server
        head = event.head
        if self.certified is not None:
            # The same bytes are another caller's on another connection.
            head = copy(head)
        head.certified = self.certified
        rpc = Rpc(self, event.id, head, server.frontend, self.limits, self.owner)
        rpc.request_id = event.request_id
        self.calls[event.id] = rpc
        server.begin(rpc)

    # Answers out, see :class:`slipway_server.rpc.exchange.Reply`.

    def send(self, stream: int, start: bytes | None, data: bytes, trailers: bytes | None) -> int:
        waits = self.wire.send(stream, start, data, trailers)
        if not self._is_reading:
            self._write()
        return waits

    def drop(self, stream: int) -> None:
        self.wire.drop(stream, Code.CANCEL)
        self._drop(stream)
        if not self._is_reading:
            self._write()

    def _drop(self, stream: int) -> None:
        """A call ended before its answer did."""
        rpc = self.calls.pop(stream, None)
        if rpc is not None:
            self.server.admission.calls.give_back(self._share, 1, is_all=not self.calls)
            rpc.abandon()

    def _write(self) -> None:
        """Hand over what the wire has to say, and take note of answers that are complete."""
        wire = self.wire
        data = wire.take()
        if data:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(data)
            for stream in wire.take_written():
                rpc = self.calls.pop(stream, None)
                if rpc is not None:
                    self.server.admission.calls.give_back(self._share, 1, is_all=not self.calls)
                    rpc.written()
        if self.stalled or wire.waiting_bytes != self._waited:
            self._waited = wire.waiting_bytes
            self.count_unread(len(data) if self.stalled else 0, alone=len(wire.waiting) == 1)

    def _keep_part(self, size: int) -> None:
        """A part of a frame waits for the rest."""
        try:
            self._pending.charge(size)
        except RequestError as error:
            self.turn_away(error)

    # Who holds what.

    def waiting_bytes(self) -> int:
        return self.wire.waiting_bytes

    def give_way(self) -> None:
        """End the call whose answer waits with most bytes; its neighbours on a router's connection go on."""
        largest = max(self.wire.waiting.values(), key=lambda stream: stream.waits, default=None)
        if largest is not None:
            self.drop(largest.id)
        else:
            super().give_way()

    def refuse_one(self, error: RequestError) -> None:
        """Refuse the oldest call that is not under way in the model."""
        calls = self.calls.values()
        rpc = next((each for each in calls if not each.complete or each.watch_request is not None), None)
        if rpc is not None:
            rpc.refuse(error)

    # From time to time.

    def look(self, now: float) -> bool:
        self.wire.count_anew()
        again = super().look(now)
        if self.reading_since and now - self.reading_since > self.limits.head_seconds:
            self.late()
            return False
        for rpc in list(self.calls.values()):
            self._look_at(rpc, now)
        return again or bool(self.reading_since or self.calls)

    def _look_at(self, rpc: Rpc, now: float) -> None:
        if rpc.watch_request is not None:
            rpc.look_again()
        elif not rpc.complete:
            rpc.look(now)
        stream = self.wire.waiting.get(rpc.stream)
        if stream is None:
            rpc.reads = None
        elif rpc.reads is None:
            rpc.reads = Pace(now, stream.sent)
        elif rpc.reads.is_slow(now, stream.sent, self.limits) and not self.stalled:
            self.drop(rpc.stream)

    # Ends.

    def leave(self, now: float) -> None:
        """Ask the client to go elsewhere; close when it had time to hear it and nothing is under way."""
        if not self.leaving_since:
            self.leaving_since = now
            self.wire.say_goodbye()
            self._write()
        elif now - self.leaving_since > 1.0 and not any(
            rpc.watch_request is None for rpc in self.calls.values()
        ):
            self._close(Code.NO_ERROR)

    def late(self) -> None:
        """Something begun does not go on."""
        self.wire.fail(Code.ENHANCE_YOUR_CALM, "a frame took too long to arrive")
        self._end(Reason.SLOW_CLIENT)

    def close_if_idle(self) -> bool:
        """Close the connection if no call is under way on it; whether that is so."""
        if self.calls or self._transport is None:
            return False
        self._close(Code.NO_ERROR)
        return True

    def turn_away(self, error: RequestError) -> None:
        for rpc in list(self.calls.values()):
            rpc.refuse(error)
        self.wire.fail(Code.ENHANCE_YOUR_CALM, error.message)
        self._end(error.reason)

    def _end(self, reason: Reason) -> None:
        """The wire has said its last words."""
        self.count_fault(reason)
        self._write()
        if self._transport is not None:
            self._transport.close()

    def _close(self, code: Code) -> None:
        self.wire.fail(code, "")
        self._write()
        if self._transport is not None:
            self._transport.close()

    def count_fault(self, reason: Reason) -> None:
        """As HTTP's side counts what it refuses; not what comes in after the connection's end."""
        if self._transport is not None and not self._transport.is_closing():
            self.server.frontend.counters.refused(reason)


class _Share:
    """The calls of one connection, as the account of all of them sees it."""

    def __init__(self, connection: RpcConnection) -> None:
        self._connection = connection

    @property
    def owner(self) -> Hashable:
        return self._connection.owner

    @property
    def amount(self) -> int:
        return len(self._connection.calls)

    is_movable = True

    def give_way(self) -> None:
        self._connection.refuse_one(no_room("calls"))
