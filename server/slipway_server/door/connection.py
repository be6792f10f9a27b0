"""One client of a port: what it holds, whether it reads, and how fast."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from time import perf_counter
from typing import Protocol

from slipway_server.access.callers import Certified
from slipway_server.door.admission import Admission, owner_of
from slipway_server.door.listen import certified
from slipway_server.door.pace import Pace
from slipway_server.errors import RequestError
from slipway_server.wire.events import Broken, Ended, Event, Fault, Left, Opened, Part
from slipway_server.wire.limits import Limits


class Port(Protocol):
    """What a connection came in by."""

    @property
    def admission(self) -> Admission:
        """What all connections share."""

    @property
    def limits(self) -> Limits:
        """What each of them may do."""

    def enter(self, connection: Connection) -> None: ...

    def leave(self, connection: Connection) -> None: ...

    def watch(self, connection: Connection) -> None:
        """Look at it from time to time, as long as it asks for it."""


class Connection(asyncio.Protocol):
    """One connection around a wire; the protocols say what becomes of requests."""

    kind = ""

    def __init__(self, door: Port) -> None:
        self.door = door
        self.limits = door.limits
        self.owner: Hashable = ""
        #: Whom the client's certificate names.
        self.certified: Certified | None = None
        #: Something arrived since the last look at idle connections.
        self.active = True
        #: The client does not read what it is sent.
        self.stalled = False
        self._transport: asyncio.Transport | None = None
        self._reads = Pace(0.0)
        #: Bytes that were sent, or wait to be sent, since the client stopped reading.
        self._unread = 0
        #: Bytes of answers that the client does not take, as the account of all connections has them.
        self.amount = 0
        self.is_movable = True

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.owner = owner_of(transport.get_extra_info("peername"))
        self.certified = certified(transport)
        self.door.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._hold(0)
        self.door.leave(self)

    def pause_writing(self) -> None:
        self.stalled = True
        self._unread = self._buffered()
        self._reads = Pace(perf_counter())
        self.door.watch(self)
        self.count_unread(0, alone=True)

    def resume_writing(self) -> None:
        self.stalled = False
        self.count_unread(0)

    def forget_certificate(self) -> None:
        """The client's certificate counts no more."""
        if self.certified is not None:
            self.certified = None
            self.leave(perf_counter())

    # What comes of bytes, whichever wire they came by.

    def handle(self, events: Iterable[Event]) -> None:
        """Deal with what the wire made of bytes, in its order."""
        for event in events:
            # By their types, which is quick; first what most requests consist of.
            kind = type(event)
            if kind is Part:
                self.receive(event)  # type: ignore[arg-type]
            elif kind is Ended:
                self.end(event)  # type: ignore[arg-type]
            elif kind is Opened:
                self.open(event)  # type: ignore[arg-type]
            elif kind is Left:
                self.left(event)  # type: ignore[arg-type]
            elif kind is Broken:
                self.broken(event)  # type: ignore[arg-type]
            else:
                self.fail(event)  # type: ignore[arg-type]

    def open(self, event: Opened) -> None:
        """A request began."""
        raise NotImplementedError

    def receive(self, event: Part) -> None:
        """A piece of its body is there."""
        raise NotImplementedError

    def end(self, event: Ended) -> None:
        """It is complete."""
        raise NotImplementedError

    def left(self, event: Left) -> None:
        """The client wants no answer to it any more."""
        raise NotImplementedError

    def broken(self, event: Broken) -> None:
        """It broke the protocol; the others on the connection go on."""
        raise NotImplementedError

    def fail(self, event: Fault) -> None:
        """The connection broke the protocol, and is read no further."""
        raise NotImplementedError

    # Who holds what.

    def count_unread(self, more: int, alone: bool = False) -> None:
        """So many bytes of answers more were written while the client does not read.

        With ``alone`` it is one answer, which may be as large as it is where no others wait.
        """
        self._unread += more
        if not self._hold(self.unread_bytes(), alone):
            self.give_way()

    def _hold(self, amount: int, alone: bool = False) -> bool:
        """Let the account say so much; whether there was room."""
        answers, more = self.door.admission.answers, amount - self.amount
        if more > 0 and not answers.take(self, more, alone):
            return False
        if more < 0:
            answers.give_back(self, -more, is_all=not amount)
        self.amount = amount
        return True

    def unread_bytes(self) -> int:
        """Bytes of answers in memory that the client does not take."""
        return self.waiting_bytes() + (self._buffered() if self.stalled else 0)

    def waiting_bytes(self) -> int:
        """Bytes of answers that are ready and not yet handed to the transport."""
        return 0

    def give_way(self) -> None:
        """Give back the memory of answers that nobody reads, which ends the connection."""
        if self.waiting_bytes() or self.stalled:
            self.abort()
            self._hold(0)

    def close_if_idle(self) -> bool:
        raise NotImplementedError

    def turn_away(self, error: RequestError) -> None:
        raise NotImplementedError

    def leave(self, now: float) -> None:
        """The server stops."""
        raise NotImplementedError

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # From time to time.

    def look(self, now: float) -> bool:
        """See whether the client is too slow; whether there is anything to look at again."""
        if self.stalled:
            self.count_unread(0)
            if self._reads.is_slow(now, self._unread - self._buffered(), self.limits):
                self.abort()
        return self.stalled

    def _buffered(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
