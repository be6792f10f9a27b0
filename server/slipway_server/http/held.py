"""A connection that is read no further while as many of its requests wait as may."""

from __future__ import annotations

import asyncio
from collections import deque

from slipway_server.door.connection import Connection
from slipway_server.http.exchange import Exchange
from slipway_server.http.port import HttpPort


class HeldConnection(Connection):
    """Requests in their order, what has arrived of those for which there is no room yet, and the last one."""

    def __init__(self, server: HttpPort) -> None:
        super().__init__(server)
        self.server = server
        self._pipelined = server.limits.pipelined
        self._queue: deque[Exchange] = deque()
        #: It is read no further; what arrived before that waits.
        self._paused = False
        self._held = b""
        #: No further request is taken.
        self.ending = False
        #: Bytes of the body that is arriving, and those of it that nobody wants.
        self._received = 0
        self._discarded = 0

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError

    def waiting_bytes(self) -> int:
        return sum(len(each.out) for each in self._queue if each.out is not None)

    def pause_writing(self) -> None:
        self._pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if len(self._queue) < self._pipelined:
            self._resume()

    def _pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is None or not self._paused or self._transport.is_closing():
            return
        if self._held:
            # Not at once: this may be the middle of an answer.
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._paused = False
            self._transport.resume_reading()

    def _go_on(self) -> None:
        """Take what arrived before the connection was read no further."""
        if self._transport is None or not self._held or self.stalled or len(self._queue) >= self._pipelined:
            return
        data, self._held, self._paused = self._held, b"", False
        self.data_received(data)
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _shut(self, last: Exchange) -> None:
        """The last answer is written: close, but not into the face of a client that is still sending."""
        self.ending = True
        transport = self._transport
        for exchange in self._queue:
            exchange.abandon()
        self._queue.clear()
        if transport is None:
            return
        if last.complete or (last.head.expects and last.incoming is None):
            transport.close()
        else:
            asyncio.get_running_loop().call_later(self.limits.linger_seconds, transport.close)

    def _linger(self, size: int) -> None:
        """Read on what nobody wants, so that the answer is not lost with a connection that is cut."""
        self._received += size
        self._discarded += size
        if self._discarded > self.limits.linger_bytes:
            self.abort()
