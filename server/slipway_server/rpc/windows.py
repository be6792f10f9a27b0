"""What a client takes: how much at once, in which frames, and how far its headers may rely on each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway_server.rpc.exchange import Rpc
from slipway_server.rpc.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    LARGEST_FRAME_BYTES,
    LARGEST_WINDOW,
    Code,
    ConnectionFaultError,
    Kind,
    Setting,
    frame,
)
from slipway_server.rpc.headers import NO_TABLE
from slipway_server.wire.limits import Limits

_TABLE_BYTES = 4096


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

    def set_all(self, values: Mapping[int, int], calls: Iterable[Rpc]) -> None:
        """Take up settings; ``calls`` are those under way. Raises :class:`ConnectionFaultError`."""
        for name, value in values.items():
            self._set(name, value, calls)

    def _set(self, name: int, value: int, calls: Iterable[Rpc]) -> None:
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
            for rpc in calls:
                rpc.window += value - self.initial
                if rpc.window > LARGEST_WINDOW:
                    raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "a stream's window is up to 2^31-1")
            self.initial = value

    def grow(self, size: int) -> None:
        """Make the connection's window larger. Raises :class:`ConnectionFaultError`."""
        self.connection += size
        if size == 0:
            raise ConnectionFaultError(Code.PROTOCOL_ERROR, "a window cannot grow by 0")
        if self.connection > LARGEST_WINDOW:
            raise ConnectionFaultError(Code.FLOW_CONTROL_ERROR, "the window is up to 2^31-1")

    def cut(self, rpc: Rpc, start: bytes | None) -> bytes:
        """Frames of a call's first headers if given, and of what it has to say, as the windows allow."""
        stream, parts = rpc.stream, []
        if start is not None:
            parts.append(self._headers(stream, start, 0))
        while rpc.out:
            size = min(len(rpc.out), self.connection, rpc.window, self._frame_bytes)
            if size <= 0:
                break
            if size < len(rpc.out) and size < self.limits.small_piece_bytes:
                self.small_pieces += 1
            else:
                self.sent += size
            parts.append(frame(Kind.DATA, 0, stream, bytes(rpc.out[:size])))
            rpc.out = rpc.out[size:]
            rpc.window -= size
            rpc.sent += size
            self.connection -= size
        if rpc.is_said:
            if rpc.trailers:
                parts.append(self._headers(stream, rpc.trailers, END_STREAM))
            else:
                parts.append(frame(Kind.DATA, END_STREAM, stream))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _headers(self, stream: int, block: bytes, flags: int) -> bytes:
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        return frame(Kind.HEADERS, END_HEADERS | flags, stream, block)
