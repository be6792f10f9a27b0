"""What a client takes: how much at once, in which frames, and how far its headers may rely on each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway_server.wire.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    LARGEST_FRAME_BYTES,
    LARGEST_WINDOW,
    Code,
    ConnectionFaultError,
    Kind,
    Setting,
    frame,
)
from slipway_server.wire.head import Head
from slipway_server.wire.headers import NO_TABLE
from slipway_server.wire.limits import Limits

_TABLE_BYTES = 4096
_HEADERS = int(Kind.HEADERS)
_LAST_HEADERS = END_HEADERS | END_STREAM


class Stream:
    """One request and its answer, as far as frames are concerned."""

    __slots__ = ("complete", "credit", "head", "id", "out", "received", "sent", "trailers", "waits", "window")

    def __init__(self, number: int, head: Head, window: int, credit: int) -> None:
        self.id = number
        self.head = head
        #: Bytes that the client takes, and that it may send.
        self.window = window
        self.credit = credit
        self.received = 0
        #: The client has sent all of its request.
        self.complete = False
        #: What is to be sent, and the trailers after it.
        self.out = memoryview(b"")
        self.trailers: bytes | None = None
        #: Bytes of the answer that have gone out, and those that are known to wait.
        self.sent = 0
        self.waits = 0

    @property
    def is_written(self) -> bool:
        """Whether the whole answer has gone out, but for the trailers."""
        return not self.out and self.trailers is not None


class Windows:
    """A client's settings and the flow-control window of its connection, in bytes (RFC 9113, 5.2)."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        #: Since somebody last counted: small pieces of answers that the client's windows made of them, and
        #: the bytes of all others.
        self.small_pieces = 0
        self.sent = 0
        self.connection = DEFAULT_WINDOW
        #: The window of a stream that opens.
        self.initial = DEFAULT_WINDOW
        self._frame_bytes = DEFAULT_FRAME_BYTES
        self._prefix = b""

    def set_all(self, values: Mapping[int, int], streams: Iterable[Stream]) -> None:
        """Take up settings; ``streams`` are those open. Raises :class:`ConnectionFaultError`."""
        for name, value in values.items():
            self._set(name, value, streams)

    def _set(self, name: int, value: int, streams: Iterable[Stream]) -> None:
        if name == Setting.HEADER_TABLE_SIZE and value < _TABLE_BYTES:
            self._prefix = NO_TABLE
        elif name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif name == Setting.MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
                raise ConnectionFaultError(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is from 2^14 to 2^24-1")
            self._frame_bytes = min(value, self.limits.frame_bytes)
        elif name == Setting.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is up to 2^31-1")
            for stream in streams:
                stream.window += value - self.initial
                if stream.window > LARGEST_WINDOW:
                    raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "a stream's window is up to 2^31-1")
            self.initial = value

    def grow(self, size: int) -> None:
        """Make the connection's window larger. Raises :class:`ConnectionFaultError`."""
        self.connection += size
        if size == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "a window cannot grow by 0")
        if self.connection > LARGEST_WINDOW:
            raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "the window is up to 2^31-1")

    def takes(self, stream: Stream, size: int) -> bool:
        """Whether so much of an answer, of which nothing has left, may leave at once and in one frame."""
        return 0 < size <= self._frame_bytes and size <= self.connection and size <= stream.window

    def whole(self, stream: Stream, start: bytes, data: bytes, trailers: bytes) -> bytes:
        """The frames of an answer that the windows take as it is."""
        self.sent += len(data)
        self.connection -= len(data)
        number = stream.id
        if self._prefix:
            start, self._prefix = self._prefix + start, b""
        return b"%b%b%b%b%b%b" % (
            HEAD.pack(len(start) << 8 | _HEADERS, END_HEADERS, number),
            start,
            HEAD.pack(len(data) << 8, 0, number),
            data,
            HEAD.pack(len(trailers) << 8 | _HEADERS, _LAST_HEADERS, number),
            trailers,
        )

    def cut(self, stream: Stream, start: bytes | None) -> list[bytes]:
        """Frames of a stream's first headers if given, and of its answer, as the windows allow."""
        parts = []
        if start is not None:
            parts.append(self._headers(stream.id, start, 0))
        while stream.out:
            size = min(len(stream.out), self.connection, stream.window, self._frame_bytes)
            if size <= 0:
                break
            if size < len(stream.out) and size < self.limits.small_piece_bytes:
                self.small_pieces += 1
            else:
                self.sent += size
            parts.append(frame(Kind.DATA, 0, stream.id, bytes(stream.out[:size])))
            stream.out = stream.out[size:]
            stream.window -= size
            stream.sent += size
            self.connection -= size
        if stream.is_written:
            if stream.trailers:
                parts.append(self._headers(stream.id, stream.trailers, END_STREAM))
            else:
                parts.append(frame(Kind.DATA, END_STREAM, stream.id))
        return parts

    def _headers(self, stream: int, block: bytes, flags: int) -> bytes:
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        return frame(Kind.HEADERS, END_HEADERS | flags, stream, block)
