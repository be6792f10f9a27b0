"""Answers on one connection of HTTP/2: what waits for the client's windows, and what has left."""

from __future__ import annotations

from slipway_server.wire.frames import LARGEST_WINDOW, Code, ConnectionFaultError, goaway, reset
from slipway_server.wire.limits import Limits
from slipway_server.wire.windows import Stream, Windows

_MAX_DROPPED = 1024


class Sending:
    """The half of a connection that writes."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        #: Streams whose answer waits for the client's window, those that wait longest first.
        self.waiting: dict[int, Stream] = {}
        self.waiting_bytes = 0
        #: Frames of late that carried no work.
        self.idle_frames = 0
        self.windows = Windows(limits)
        self._answered = 0
        self._out: list[bytes] = []
        self._written: list[int] = []
        #: Streams that ended early, whose frames may still be on their way.
        self._dropped: set[int] = set()

    def take(self) -> bytes:
        """What is to be written now."""
        out, self._out = self._out, []
        return out[0] if len(out) == 1 else b"".join(out)

    def take_written(self) -> list[int]:
        """The streams whose answers are among what was taken, since the last call."""
        written, self._written = self._written, []
        return written

    def send(self, stream: int, start: bytes | None, data: bytes, trailers: bytes | None) -> int:
        """Go on with an answer: its first headers if given, more of it, and with trailers its end.

        Returns how many bytes of it wait for the client's windows.
        """
        found = self.streams.get(stream)
        if found is None:
            return 0
        if start is not None and trailers and self.windows.takes(found, len(data)):
            # Nearly always: all of the answer is here, and may leave at once.
            self._out.append(self.windows.whole(found, start, data, trailers))
            self._written_to_end(found)
            return 0
        if data:
            found.out = memoryview(bytes(found.out) + data if found.out else data)
        if trailers is not None:
            found.trailers = trailers
        self._push(found, start)
        return found.waits

    def drop(self, stream: int, code: Code) -> None:
        """End a stream without an answer, or in the middle of it."""
        self._out.append(reset(stream, code))
        self._remember(stream)
        self._forget(stream)

    def refuse(self, stream: int) -> None:
        """There is no room for it; it may be sent again."""
        self.drop(stream, Code.REFUSED_STREAM)
        self.idle_frames += 1

    def say_goodbye(self) -> None:
        """Ask the client to go elsewhere; what it sends before it has read this is still answered."""
        self._out.append(goaway(LARGEST_WINDOW, Code.NO_ERROR))

    def _push(self, stream: Stream, start: bytes | None) -> None:
        """Send what is ready as far as the windows allow."""
        self._out += self.windows.cut(stream, start)
        self._wait(stream)
        if stream.is_written:
            self._written_to_end(stream)

    def _written_to_end(self, stream: Stream) -> None:
        self._answered += 1
        if not stream.complete:
            # It may stop sending: the answer does not depend on the rest.
            self._out.append(reset(stream.id, Code.NO_ERROR))
            self._remember(stream.id)
        del self.streams[stream.id]
        self._written.append(stream.id)

    def _push_all(self) -> None:
        for stream in list(self.waiting.values()):
            if self.windows.connection <= 0:
                break
            if stream.window > 0:
                self._push(stream, None)
        pieces, self.windows.small_pieces = self.windows.small_pieces, 0
        self._count_idle(pieces)

    def _wait(self, stream: Stream) -> None:
        """Keep account of an answer that waits for the client's window, or waits no more."""
        before, stream.waits = stream.waits, len(stream.out)
        self.waiting_bytes += stream.waits - before
        if stream.waits:
            self.waiting[stream.id] = stream
        elif before:
            del self.waiting[stream.id]

    def _remember(self, stream: int) -> None:
        if len(self._dropped) >= _MAX_DROPPED:
            self._dropped.clear()
        self._dropped.add(stream)

    def _forget(self, stream: int) -> bool:
        """A stream is over; whether it was open."""
        found = self.streams.pop(stream, None)
        if found is None:
            return False
        found.out = memoryview(b"")
        self._wait(found)
        return True

    # Frames that carry no work.

    def count_anew(self) -> None:
        """Some time has passed: begin again to count frames that carry no work."""
        self._make_up()
        self.idle_frames = 0

    def _make_up(self) -> None:
        """Take what was answered meanwhile off the count of frames that carry no work."""
        made_up = self._answered * self.limits.idle_frames_per_call
        made_up += self.windows.sent // self.limits.bytes_per_idle_frame
        self.idle_frames = max(0, self.idle_frames - made_up)
        self._answered = self.windows.sent = 0

    def _count_idle(self, count: int = 1) -> None:
        self.idle_frames += count
        if self.idle_frames > self.limits.idle_frames:
            self._make_up()
        if self.idle_frames > self.limits.idle_frames:
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
