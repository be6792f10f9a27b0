"""HTTP/2 (RFC 9113) on one connection, as much of it as gRPC needs."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from slipway_server.errors import Reason
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


class Connection(asyncio.Protocol):
    """One client, with any number of calls."""

    def __init__(self, server: RpcServer) -> None:
        self.server = server
        self._limits = server.limits
        self._streams = Streams(self, server.limits)
        #: The calls under way, by the number of their stream.
        self.streams = self._streams.open
        self.push = self._streams.push
        #: Since when a part of something has been waiting for the rest; 0 if nothing does.
        self.reading_since = perf_counter()
        self.write_paused_since = 0.0
        self.leaving_since = 0.0
        self.active = True
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._greeted = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.active = True
        if self._buffer:
            data = self._buffer + data
        try:
            taken = self._take(data)
        except ConnectionFaultError as fault:
            self._fail(fault)
            return
        self._buffer = data[taken:]
        if not self._buffer and not self._streams.expects_more:
            self.reading_since = 0.0
        elif taken or not self.reading_since:
            self.reading_since = perf_counter()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.server.connections.discard(self)
        self._transport = None
        for rpc in self.streams.values():
            rpc.abandon()
        self.streams.clear()

    def pause_writing(self) -> None:
        self.write_paused_since = perf_counter()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused_since = 0.0
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
            self.send(_greeting(self._limits))
            position = len(PREFACE)
        while size - position >= HEAD_BYTES and self._transport is not None:
            start = position + HEAD_BYTES
            length = int.from_bytes(data[position : position + 3], "big")
            if length > self._limits.frame_bytes:
                words = f"frames may have {self._limits.frame_bytes} bytes"
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

    def count_anew(self) -> None:
        """Some time has passed: begin again to count frames that ask for nothing."""
        self._streams.count_anew()

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

    def close_if_idle(self) -> None:
        if not self.streams:
            self.send(goaway(self._streams.last, Code.NO_ERROR))
            self._close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, fault: ConnectionFaultError, reason: Reason = Reason.MALFORMED) -> None:
        self.count_fault(reason)
        self.send(goaway(self._streams.last, fault.code, str(fault)))
        self._close()

    def _close(self) -> None:
        self._buffer = b""
        if self._transport is not None:
            self._transport.close()

    def count_fault(self, reason: Reason) -> None:
        """As HTTP's side counts what it refuses; not what comes in after the connection's end."""
        if self._transport is not None and not self._transport.is_closing():
            self.server.frontend.counters.refused(reason)


def _greeting(limits: Limits) -> bytes:
    """What the server says first: its settings, and the window of the connection."""
    values = {
        Setting.MAX_CONCURRENT_STREAMS: limits.streams,
        Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
        Setting.MAX_FRAME_SIZE: limits.frame_bytes,
        Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
    }
    return settings(values) + window_update(0, limits.connection_window - DEFAULT_WINDOW)
