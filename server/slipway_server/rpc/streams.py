"""The streams of one connection: what a client's frames do to them (RFC 9113, sections 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway_server.errors import Reason
from slipway_server.rpc.exchange import Rpc
from slipway_server.rpc.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    LARGEST_WINDOW,
    PRIORITY_FLAG,
    Code,
    ConnectionFaultError,
    Kind,
    StreamFaultError,
    frame,
    read_settings,
    reset,
    window_update,
    without_padding,
)
from slipway_server.rpc.headers import HeaderReader, MalformedError
from slipway_server.rpc.windows import Windows
from slipway_server.wire.limits import Limits

if TYPE_CHECKING:
    from slipway_server.rpc.connection import Connection

_MAX_DROPPED = 1024


class Streams:
    """Opens calls, feeds them and sends what they have to say."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self.open: dict[int, Rpc] = {}
        #: The highest number that the client has used.
        self.last = 0
        #: The client's settings have come.
        self.is_set_up = False
        #: Frames of late that carried no work, and calls that were answered.
        self.idle_frames = 0
        self._answered = 0
        self.limits = limits
        self._connection = connection
        self._reader = HeaderReader(limits)
        #: Streams that ended early, whose frames may still be on their way.
        self._dropped: set[int] = set()
        self._block: tuple[int, int, bytearray] | None = None
        self._windows = Windows(limits)
        #: Calls whose answer waits for the client's window, those that wait longest first.
        self.waiting: dict[int, Rpc] = {}
        self.waiting_bytes = 0
        self._credit = limits.connection_window
        self._spent = 0
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PUSH_PROMISE: self._on_push,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_goaway,
            Kind.WINDOW_UPDATE: self._on_window,
            Kind.CONTINUATION: self._on_continuation,
        }

    @property
    def expects_more(self) -> bool:
        """Whether something begun has to go on: the greeting, or the headers of a call."""
        return self._block is not None or not self.is_set_up

    # Frames in.

    def handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A whole frame; raises :class:`ConnectionFaultError`."""
        if self._block is not None and (kind != Kind.CONTINUATION or stream != self._block[0]):
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "headers must go on in the next frame")
        if not self.is_set_up and kind != Kind.SETTINGS:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "the first frame must be SETTINGS")
        handler = self._handlers.get(kind)
        if handler is None:
            self._count_idle()
            return
        try:
            handler(flags, stream, payload)
        except StreamFaultError as fault:
            self._connection.count_fault(
                Reason.OVERLOAD if fault.code == Code.REFUSED_STREAM else Reason.MALFORMED
            )
            rpc = self.open.get(fault.stream)
            if rpc is not None and rpc.counted:
                rpc.count(400)
            self._connection.send(reset(fault.stream, fault.code))
            self.drop(fault.stream)
            # Headers took time to read before they turned out to be wrong.
            self._count_idle(1 + len(payload) // 256)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._spent += size
        if self._spent >= self.limits.connection_window // 2:
            self._connection.send(window_update(0, self._spent))
            self._credit += self._spent
            self._spent = 0
        rpc = self.open.get(stream)
        if rpc is None:
            self._stray(stream, flags)
            return
        if rpc.complete:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        rpc.credit -= size
        if rpc.credit < 0:
            raise StreamFaultError(stream, Code.FLOW_CONTROL_ERROR)
        content = without_padding(flags, payload)
        ends = flags & END_STREAM
        if not content and not ends:
            self._count_idle()
        window = self.limits.stream_window
        if not ends and rpc.credit < window // 2:
            self._connection.send(window_update(stream, window - rpc.credit))
            rpc.credit = window
        rpc.take(content)
        if ends:
            self._end(rpc)

    def _stray(self, stream: int, flags: int) -> None:
        """A frame of a stream that is not open."""
        if stream == 0 or stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        if stream not in self._dropped:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        self._count_idle()
        if flags & END_STREAM:
            self._dropped.discard(stream)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"a client's stream cannot have number {stream}")
        if len(payload) > self.limits.header_bytes:
            words = f"the headers of a call may have {self.limits.header_bytes} bytes"
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, words)
        payload = without_padding(flags, payload)
        if flags & PRIORITY_FLAG:
            if len(payload) < 5:
                raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            if int.from_bytes(payload[:4], "big") & LARGEST_WINDOW == stream:
                raise ConnectionFaultError(Code.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._open(flags, stream, payload)
        else:
            self._block = (stream, flags, bytearray(payload))

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "CONTINUATION goes on with nothing")
        self._count_idle()
        _, first, block = self._block
        block += payload
        if len(block) > self.limits.header_bytes:
            words = f"the headers of a call may have {self.limits.header_bytes} bytes"
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, words)
        if flags & END_HEADERS:
            self._block = None
            self._open(first, stream, bytes(block))

    def _open(self, flags: int, stream: int, block: bytes) -> None:
        rpc = self.open.get(stream)
        if rpc is not None or stream <= self.last:
            self._trail(flags, stream, block, rpc)
            return
        self.last = stream
        try:
            head = self._reader.read(block)
        except MalformedError:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR) from None
        if len(self.open) >= self.limits.streams or not self._connection.take_call():
            raise StreamFaultError(stream, Code.REFUSED_STREAM)
        rpc = self.open[stream] = Rpc(
            self._connection, stream, head, self._windows.initial, self.limits.stream_window
        )
        self._connection.server.begin(rpc)
        if flags & END_STREAM:
            self._end(rpc)

    def _trail(self, flags: int, stream: int, block: bytes, rpc: Rpc | None) -> None:
        """Headers of a stream that is open, or was: trailers, which mean nothing in a gRPC request."""
        is_trailers = self._reader.skip(block)
        if rpc is None:
            if stream not in self._dropped:
                raise ConnectionFaultError(Code.STREAM_CLOSED, f"stream {stream} is closed")
            self._dropped.discard(stream)
        elif rpc.complete:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        elif not flags & END_STREAM or not is_trailers:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)
        else:
            self._end(rpc)

    def _end(self, rpc: Rpc) -> None:
        length = rpc.head.content_length
        if length is not None and length != rpc.received:
            raise StreamFaultError(rpc.stream, Code.PROTOCOL_ERROR)
        rpc.end()

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> None:  # noqa: ARG002
        self._count_idle()
        if stream == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "PRIORITY needs a stream")
        if len(payload) != 5:
            raise StreamFaultError(stream, Code.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4], "big") & LARGEST_WINDOW == stream:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:  # noqa: ARG002
        self._count_idle()
        if len(payload) != 4:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if stream == 0 or stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        self._dropped.discard(stream)
        self._end_early(stream)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        # Each call's window may change with them.
        self._count_idle(1 + len(self.open) // 16)
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "SETTINGS belongs to no stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "SETTINGS has 6 bytes for each setting")
        if flags & ACK:
            return
        if len(payload) > 6 * self.limits.settings:
            words = f"a frame may have {self.limits.settings} settings"
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, words)
        self.is_set_up = True
        self._windows.set_all(read_settings(payload), self.open.values())
        self._connection.send(frame(Kind.SETTINGS, ACK, 0))
        self._push_all()

    def _on_push(self, flags: int, stream: int, payload: bytes) -> None:  # noqa: ARG002
        raise ConnectionFaultError(Code.PROTOCOL_ERROR, "clients push nothing")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._count_idle()
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & ACK:
            self._connection.send(frame(Kind.PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:  # noqa: ARG002
        self._count_idle()
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "GOAWAY belongs to no stream")
        if len(payload) < 8:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes at least")

    def _on_window(self, flags: int, stream: int, payload: bytes) -> None:  # noqa: ARG002
        if len(payload) != 4:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._count_idle()
        size = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if stream == 0:
            self._windows.grow(size)
            self._push_all()
            return
        if stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        rpc = self.open.get(stream)
        if rpc is None:
            return
        rpc.window += size
        if size == 0:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)
        if rpc.window > LARGEST_WINDOW:
            raise StreamFaultError(stream, Code.FLOW_CONTROL_ERROR)
        self.push(rpc, None)

    # Frames out.

    def push(self, rpc: Rpc, start: bytes | None) -> None:
        """Send a call's first headers if given, and of what it has to say as much as the windows allow."""
        if self.open.get(rpc.stream) is not rpc:
            return
        data = self._windows.cut(rpc, start)
        self._wait(rpc)
        if rpc.is_said:
            self._answered += 1
            if not rpc.complete:
                # It may stop sending: the answer does not depend on the rest.
                data += reset(rpc.stream, Code.NO_ERROR)
                self._remember(rpc.stream)
            del self.open[rpc.stream]
            self._connection.give_back_calls(1)
            rpc.forget()
        if data:
            self._connection.send(data)

    def _wait(self, rpc: Rpc) -> None:
        """Keep account of an answer that waits for the client's window, or waits no more."""
        before, rpc.unsent = rpc.unsent, len(rpc.out)
        if rpc.unsent == before:
            return
        self.waiting_bytes += rpc.unsent - before
        if rpc.unsent:
            self.waiting[rpc.stream] = rpc
        else:
            self.waiting.pop(rpc.stream, None)
        self._connection.count_unread(0, alone=len(self.waiting) == 1)

    def _push_all(self) -> None:
        for rpc in list(self.waiting.values()):
            if self._windows.connection <= 0:
                break
            if rpc.window > 0:
                self.push(rpc, None)
        pieces, self._windows.small_pieces = self._windows.small_pieces, 0
        self._count_idle(pieces)

    # Ends.

    def _remember(self, stream: int) -> None:
        if len(self._dropped) >= _MAX_DROPPED:
            self._dropped.clear()
        self._dropped.add(stream)

    def drop(self, stream: int) -> None:
        self._remember(stream)
        self._end_early(stream)

    def _end_early(self, stream: int) -> None:
        rpc = self.open.pop(stream, None)
        if rpc is not None:
            self._connection.give_back_calls(1)
            rpc.abandon()
            rpc.out = memoryview(b"")
            self._wait(rpc)

    def count_anew(self) -> None:
        """Some time has passed: begin again to count frames that carry no work."""
        self._make_up()
        self.idle_frames = 0

    def _make_up(self) -> None:
        """Take what was answered meanwhile off the count of frames that carry no work."""
        made_up = self._answered * self.limits.idle_frames_per_call
        made_up += self._windows.sent // self.limits.bytes_per_idle_frame
        self.idle_frames = max(0, self.idle_frames - made_up)
        self._answered = self._windows.sent = 0

    def _count_idle(self, count: int = 1) -> None:
        self.idle_frames += count
        if self.idle_frames > self.limits.idle_frames:
            self._make_up()
        if self.idle_frames > self.limits.idle_frames:
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
