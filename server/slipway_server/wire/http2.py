"""HTTP/2 (RFC 9113) on one connection, as much of it as gRPC needs: bytes in, events out, and back.

There is no clock, no socket and no metric in here: whoever feeds it writes what :meth:`Http2.take` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slipway_server.wire.events import Broken, Ended, Event, Fault, Left, Opened, Part, State
from slipway_server.wire.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    LARGEST_WINDOW,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    Code,
    ConnectionFaultError,
    Kind,
    Setting,
    StreamFaultError,
    frame,
    goaway,
    read_settings,
    settings,
    window_update,
    without_padding,
)
from slipway_server.wire.headers import HeaderReader, MalformedError
from slipway_server.wire.kept import Kept
from slipway_server.wire.limits import Limits
from slipway_server.wire.sending import Sending
from slipway_server.wire.windows import Stream

#: The content of an answer to what is no gRPC.
NOT_REST = b'{"error":"this port speaks gRPC; REST has one of its own"}'
_METHODS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ")
_HTTP_1 = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(NOT_REST), NOT_REST)
)
#: By names of their own, which takes less time than to look them up for each frame.
_READY, _CLOSED = State.READY, State.CLOSED
_Handler = Callable[[int, int, bytes], tuple[Event, ...]]


class Http2(Sending):
    """The server's end of one connection."""

    def __init__(self, limits: Limits, kept: Kept | None = None) -> None:
        """``kept`` has headers that were read before, on this connection or on others."""
        super().__init__(limits)
        #: The highest number that the client has used.
        self.last = 0
        self.state = State.PREFACE
        #: Bytes of a frame whose rest has not arrived.
        self.buffered = 0
        self._reader = HeaderReader(limits, Kept() if kept is None else kept)
        self._buffer = b""
        #: Headers whose rest has to come next.
        self._block: tuple[int, int, bytearray] | None = None
        self._credit = limits.connection_window
        self._spent = 0
        self._handlers: dict[int, _Handler] = {
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

    # Bytes in.

    def feed(self, data: bytes) -> Iterator[Event]:
        """What comes of the next bytes, frame by frame."""
        if self.buffered:
            data, self._buffer = self._buffer + data, b""
        position, size, most = 0, len(data), self.limits.frame_bytes
        try:
            if self.state is State.PREFACE:
                position = self._greet(data)
            while self.state is _READY or self._may_go_on:
                start = position + HEAD_BYTES
                if size < start:
                    break
                length, flags, stream = HEAD.unpack_from(data, position)
                kind, length = length & 0xFF, length >> 8
                if length > most:
                    raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, f"frames may have {most} bytes")
                if start + length > size:
                    break
                position = start + length
                try:
                    if self.state is not _READY:
                        self._check_order(kind, stream & LARGEST_WINDOW)
                    handler = self._handlers.get(kind, self._on_unknown)
                    events = handler(flags, stream & LARGEST_WINDOW, data[start:position])
                except StreamFaultError as fault:
                    self.drop(fault.stream, fault.code)
                    yield Broken(fault.stream, fault.code == Code.REFUSED_STREAM)
                    # Headers took time to read before they turned out to be wrong.
                    self._count_idle(1 + length // 256)
                else:
                    yield from events
        except ConnectionFaultError as fault:
            self.fail(fault.code, str(fault))
            yield Fault(str(fault))
        self.buffered = 0 if self.state is _CLOSED else size - position
        if self.buffered:
            self._buffer = data[position:]

    @property
    def expects_more(self) -> bool:
        """Whether something begun has to go on: the greeting, a frame, or the headers of a call."""
        state = self.state
        return self.buffered > 0 or (state is not _READY and state is not _CLOSED)

    @property
    def _may_go_on(self) -> bool:
        """Whether the next frame is read, if only one of its kinds may come."""
        return self.state is State.SETTINGS or self.state is State.HEAD

    def _greet(self, data: bytes) -> int:
        """Take the client's preface and answer it; how many bytes that were."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            self.close()
            if data.startswith(_METHODS):
                self._out.append(_HTTP_1)
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "this is no HTTP/2")
        if len(data) < len(PREFACE):
            return 0
        self.state = State.SETTINGS
        values = {
            Setting.MAX_CONCURRENT_STREAMS: self.limits.streams,
            Setting.INITIAL_WINDOW_SIZE: self.limits.stream_window,
            Setting.MAX_FRAME_SIZE: self.limits.frame_bytes,
            Setting.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
        }
        ahead = self.limits.connection_window - DEFAULT_WINDOW
        self._out.append(settings(values) + window_update(0, ahead))
        return len(PREFACE)

    def _check_order(self, kind: int, stream: int) -> None:
        """Raises :class:`ConnectionFaultError` for a frame that may not come now."""
        if self._block is not None and (kind != Kind.CONTINUATION or stream != self._block[0]):
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "headers must go on in the next frame")
        if self.state is State.SETTINGS and kind != Kind.SETTINGS:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "the first frame must be SETTINGS")

    def _on_unknown(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        self._count_idle()
        return ()

    def _on_data(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:
        size = len(payload)
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._spent += size
        if self._spent >= self.limits.connection_window // 2:
            self._out.append(window_update(0, self._spent))
            self._credit += self._spent
            self._spent = 0
        found = self.streams.get(stream)
        if found is None:
            self._stray(stream, flags)
            return ()
        if found.complete:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        found.credit -= size
        if found.credit < 0:
            raise StreamFaultError(stream, Code.FLOW_CONTROL_ERROR)
        content = without_padding(flags, payload) if flags & PADDED else payload
        found.received += len(content)
        if flags & END_STREAM:
            ended = self._end(found)
            return (Part(stream, content), ended) if content else (ended,)
        if not content:
            self._count_idle()
            return ()
        window = self.limits.stream_window
        if found.credit < window // 2:
            self._out.append(window_update(stream, window - found.credit))
            found.credit = window
        return (Part(stream, content),)

    def _stray(self, stream: int, flags: int) -> None:
        """A frame of a stream that is not open."""
        if stream == 0 or stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        if stream not in self._dropped:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        self._count_idle()
        if flags & END_STREAM:
            self._dropped.discard(stream)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:
        if stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"a client's stream cannot have number {stream}")
        if len(payload) > self.limits.header_bytes:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, self._too_large)
        if flags & PADDED:
            payload = without_padding(flags, payload)
        if flags & PRIORITY_FLAG:
            if len(payload) < 5:
                raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            if int.from_bytes(payload[:4], "big") & LARGEST_WINDOW == stream:
                raise ConnectionFaultError(Code.PROTOCOL_ERROR, "a stream depends on itself")
            payload = payload[5:]
        if flags & END_HEADERS:
            return self._open(flags, stream, payload)
        self._block = (stream, flags, bytearray(payload))
        self.state = State.HEAD
        return ()

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:
        if self._block is None:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "CONTINUATION goes on with nothing")
        self._count_idle()
        _, first, block = self._block
        block += payload
        if len(block) > self.limits.header_bytes:
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, self._too_large)
        if not flags & END_HEADERS:
            return ()
        self._block = None
        self.state = _READY
        return self._open(first, stream, bytes(block))

    @property
    def _too_large(self) -> str:
        return f"the headers of a call may have {self.limits.header_bytes} bytes"

    def _open(self, flags: int, stream: int, block: bytes) -> tuple[Event, ...]:
        found = self.streams.get(stream)
        if found is not None or stream <= self.last:
            return self._trail(flags, stream, block, found)
        self.last = stream
        try:
            head, request_id = self._reader.read(block)
        except MalformedError:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR) from None
        if len(self.streams) >= self.limits.streams:
            raise StreamFaultError(stream, Code.REFUSED_STREAM)
        opened = Stream(stream, head, self.windows.initial, self.limits.stream_window)
        self.streams[stream] = opened
        if flags & END_STREAM:
            return Opened(stream, head, request_id), self._end(opened)
        return (Opened(stream, head, request_id),)

    def _trail(self, flags: int, stream: int, block: bytes, found: Stream | None) -> tuple[Event, ...]:
        """Headers of a stream that is open, or was: trailers, which mean nothing in a gRPC request."""
        is_trailers = self._reader.skip(block)
        if found is None:
            if stream not in self._dropped:
                raise ConnectionFaultError(Code.STREAM_CLOSED, f"stream {stream} is closed")
            self._dropped.discard(stream)
            return ()
        if found.complete:
            raise StreamFaultError(stream, Code.STREAM_CLOSED)
        if not flags & END_STREAM or not is_trailers:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)
        return (self._end(found),)

    def _end(self, stream: Stream) -> Ended:
        length = stream.head.content_length
        if length is not None and length != stream.received:
            raise StreamFaultError(stream.id, Code.PROTOCOL_ERROR)
        stream.complete = True
        return Ended(stream.id)

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        self._count_idle()
        if stream == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "PRIORITY needs a stream")
        if len(payload) != 5:
            raise StreamFaultError(stream, Code.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4], "big") & LARGEST_WINDOW == stream:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)
        return ()

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        self._count_idle()
        if len(payload) != 4:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if stream == 0 or stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        self._dropped.discard(stream)
        return (Left(stream),) if self._forget(stream) else ()

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:
        # Each stream's window may change with them.
        self._count_idle(1 + len(self.streams) // 16)
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "SETTINGS belongs to no stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "SETTINGS has 6 bytes for each setting")
        if flags & ACK:
            return ()
        if len(payload) > 6 * self.limits.settings:
            words = f"a frame may have {self.limits.settings} settings"
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, words)
        self.state = _READY
        self.windows.set_all(read_settings(payload), self.streams.values())
        self._out.append(frame(Kind.SETTINGS, ACK, 0))
        self._push_all()
        return ()

    def _on_push(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        raise ConnectionFaultError(Code.PROTOCOL_ERROR, "clients push nothing")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:
        self._count_idle()
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & ACK:
            self._out.append(frame(Kind.PING, ACK, 0, payload))
        return ()

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        self._count_idle()
        if stream:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "GOAWAY belongs to no stream")
        if len(payload) < 8:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes at least")
        return ()

    def _on_window(self, flags: int, stream: int, payload: bytes) -> tuple[Event, ...]:  # noqa: ARG002
        if len(payload) != 4:
            raise ConnectionFaultError(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._count_idle()
        size = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if stream == 0:
            self.windows.grow(size)
            self._push_all()
            return ()
        if stream > self.last or stream % 2 == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, f"there is no stream {stream}")
        found = self.streams.get(stream)
        if found is None:
            return ()
        found.window += size
        if size == 0:
            raise StreamFaultError(stream, Code.PROTOCOL_ERROR)
        if found.window > LARGEST_WINDOW:
            raise StreamFaultError(stream, Code.FLOW_CONTROL_ERROR)
        self._push(found, None)
        return ()

    # Its end.

    def close(self) -> None:
        self.state = _CLOSED

    def fail(self, code: Code, words: str) -> None:
        """End the connection."""
        if self.state is not _CLOSED:
            self._out.append(goaway(self.last, code, words))
        self.close()
        self._buffer = b""
        self.buffered = 0
