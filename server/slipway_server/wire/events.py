"""What a wire makes of bytes; ``id`` says of which request, in the order in which they began."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple, Protocol

from slipway_server.wire.head import Head


class State(Enum):
    """What a wire reads next."""

    #: The preface, with which a client of HTTP/2 begins.
    PREFACE = auto()
    #: The settings that follow it.
    SETTINGS = auto()
    #: Whatever a client may begin with: nothing is in the middle.
    READY = auto()
    #: The rest of a request's head.
    HEAD = auto()
    #: The rest of its body; of HTTP/2 bodies come between all others.
    BODY = auto()
    #: Nothing more.
    CLOSED = auto()


class Opened(NamedTuple):
    """A request began: its head is there.

    ``request_id`` is the client's name for it where that is not in the head, as it came over the wire.
    """

    id: int
    head: Head
    request_id: bytes | None = None


class Part(NamedTuple):
    """A piece of its body."""

    id: int
    data: bytes


class Ended(NamedTuple):
    """It is complete."""

    id: int


class Left(NamedTuple):
    """The client wants no answer any more."""

    id: int


class Broken(NamedTuple):
    """It broke the protocol, and the wire has ended it; ``is_refused`` if there were merely too many."""

    id: int
    is_refused: bool


class Fault(NamedTuple):
    """The connection broke the protocol, and the wire has said its last words on it."""

    words: str


Event = Opened | Part | Ended | Left | Broken | Fault


class Wire(Protocol):
    """The server's end of one connection: bytes in, events out."""

    state: State
    #: The number of the request that began last.
    last: int

    def feed(self, data: bytes) -> Iterable[Event]:
        """What comes of the next bytes; each event is to be dealt with before the next one is taken."""

    def close(self) -> None:
        """Read nothing more."""
