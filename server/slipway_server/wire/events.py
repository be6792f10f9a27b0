"""What a wire makes of bytes; ``id`` says of which request, in the order in which they began."""

from __future__ import annotations

from typing import NamedTuple

from slipway_server.wire.head import Head


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
