"""What was answered to which request, for a while, so that two revisions' answers to one can be compared.

Off until somebody asks at the admin port, and off again when nobody asks any more. Who asks with a mark is
told what was written after it, so that nobody takes anything away from anybody. What is kept is a ring of
fixed size in the memory that the processes share: for each row a hash of the request's ``x-request-id`` and
the row's place, and a hash of its class or its number. No input, and nothing of a request but that hash.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Any

from slipway.names import ANSWERS_MARK

if TYPE_CHECKING:
    from slipway_server.call.call import Call
    from slipway_server.monitoring.outcomes import OutcomeReader

log = logging.getLogger(__name__)

#: Rows that one process remembers; older ones are overwritten.
ENTRIES = 32_768
#: A request of more rows is not remembered.
MOST_ROWS = 16
_ENTRY = 16
_HEAD = 24
#: Bytes of one process's ring; what is not used takes no memory.
RING_BYTES = _HEAD + ENTRIES * _ENTRY
#: Classes of which the hash is kept in mind.
_MOST_KNOWN = 1024
_PLACES = 0xFF
CLASSES, NUMBERS = 1, 2
_KEY, _NUMBER = struct.Struct("<Q").pack, struct.Struct("<d").pack


class Wanted:
    """Whether answers are to be remembered: one for all processes."""

    def __init__(self, memory: memoryview) -> None:
        """``memory`` has eight bytes."""
        self._until = memory.cast("d")

    def __bool__(self) -> bool:
        until = self._until[0]
        return until > 0.0 and until > monotonic()

    def extend(self, seconds: float) -> None:
        """From now on for so long."""
        self._until[0] = monotonic() + seconds


class Ring:
    """One process's answers, written by it alone and taken by whoever serves the admin port."""

    def __init__(self, memory: memoryview) -> None:
        """``memory`` has :data:`RING_BYTES` bytes."""
        #: Entries ever written, those taken, and what outcomes are.
        self._marks = memory[:_HEAD].cast("Q")
        self._entries = memory[_HEAD:]

    def append(self, entries: bytes) -> None:
        """The entries first, so that nobody reads what is not there."""
        at = (self._marks[0] % ENTRIES) * _ENTRY
        stop = at + len(entries)
        if stop <= ENTRIES * _ENTRY:
            self._entries[at:stop] = entries
        else:
            whole = ENTRIES * _ENTRY - at
            self._entries[at:] = entries[:whole]
            self._entries[: len(entries) - whole] = entries[whole:]
        self._marks[0] += len(entries) // _ENTRY

    @property
    def kind(self) -> int:
        """:data:`CLASSES`, :data:`NUMBERS`, or 0 before the first."""
        return self._marks[2]

    @kind.setter
    def kind(self, value: int) -> None:
        self._marks[2] = value

    def take(self) -> bytes:
        """As :meth:`since`, from where it was taken last."""
        found, self._marks[1] = self.since(self._marks[1])
        return found

    def since(self, start: int) -> tuple[bytes, int]:
        """What was written after so many entries, as far as it is there, oldest first, and a new mark."""
        stop = self._marks[0]
        start = min(max(start, stop - min(stop, ENTRIES)), stop)
        first, last = (start % ENTRIES) * _ENTRY, (stop % ENTRIES) * _ENTRY
        if start == stop or first < last:
            copied = bytes(self._entries[first:last]) if start < stop else b""
        else:
            copied = bytes(self._entries[first:]) + bytes(self._entries[:last])
        # What was overwritten meanwhile, or is being so now, is no entry.
        lost = max(0, self._marks[0] + MOST_ROWS - ENTRIES - start)
        return copied[lost * _ENTRY :], stop


class Recorder:
    """Writes what calls were answered; any thread may call."""

    def __init__(self, ring: Ring, wanted: Wanted, outcomes: OutcomeReader) -> None:
        self._ring, self.wanted, self._outcomes = ring, wanted, outcomes
        self._lock = threading.Lock()
        self._known: dict[str, bytes] = {}

    def see(self, calls: Sequence[Call], names: Sequence[str], answers: Sequence[Any]) -> None:
        """Remember a batch; ``answers`` are of all calls together, in their order.

        What fails here is logged: the client gets its answer all the same.
        """
        try:
            self._see(calls, names, answers)
        except Exception:
            log.exception("an answer could not be remembered")

    def _see(self, calls: Sequence[Call], names: Sequence[str], answers: Sequence[Any]) -> None:
        ids = [call.header(b"x-request-id") for call in calls]
        if not any(ids):
            return
        found = self._outcomes.read(names, answers, sum(call.rows for call in calls))
        if found is None:
            return
        start = 0
        with self._lock:
            self._ring.kind = CLASSES if found.is_class else NUMBERS
            for call, name in zip(calls, ids, strict=True):
                stop = start + call.rows
                if name is not None and call.rows <= MOST_ROWS:
                    self._write(name, found.texts[start:stop], found.is_class)
                start = stop

    def _write(self, name: bytes, texts: Sequence[str], is_class: bool) -> None:
        key = int.from_bytes(blake2b(name, digest_size=8).digest(), "little") & ~_PLACES
        values = (self._class(text) if is_class else _NUMBER(float(text)) for text in texts)
        self._ring.append(b"".join([_KEY(key | place) + value for place, value in enumerate(values)]))

    def _class(self, text: str) -> bytes:
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[text] = blake2b(text.encode(), digest_size=8).digest()
        return known


def taken(rings: Sequence[Ring]) -> tuple[bytes, Mapping[bytes, bytes]]:
    """What all processes remember, once, and the headers that say what it is.

    For an operator of before marks: whoever else asks so takes it away.
    """
    return b"".join(ring.take() for ring in rings), _kind(rings)


def told(rings: Sequence[Ring], server: str, since: str) -> tuple[bytes, Mapping[bytes, bytes]]:
    """What all processes remember since a mark of this ``server``, and the headers with the next mark.

    ``now`` is the mark of one who has asked for nothing yet; a mark of another server, which was here before
    this one, stands before all that is remembered.
    """
    of, _, places = since.partition(":")
    starts = [int(place) for place in places.split(",") if place.isascii() and place.isdigit()]
    if of != server or len(starts) != len(rings):
        starts = [0] * len(rings)
    found = [ring.since(start) for ring, start in zip(rings, starts, strict=True)]
    body = b"" if since == "now" else b"".join(entries for entries, _ in found)
    for ring in rings:
        # One who asks without a mark, an operator that is installed again, does not count these once more.
        ring.take()
    mark = f"{server}:{','.join(str(stop) for _, stop in found)}".encode()
    return body, {**_kind(rings), ANSWERS_MARK.encode(): mark}


def _kind(rings: Sequence[Ring]) -> Mapping[bytes, bytes]:
    kind = max((ring.kind for ring in rings), default=0)
    return {b"slipway-outcomes": {CLASSES: b"class", NUMBERS: b"number"}.get(kind, b"none")}
