"""Counters that several processes write and one reads: an array of doubles in shared memory.

Each process has a row of its own and is the only one to write it, so counting takes no lock, costs less than
a library's counter, and outlives a process that died.
"""

from __future__ import annotations

import mmap
import secrets

from slipway_server.feedback.seen import TABLE_BYTES, Seen
from slipway_server.metrics.counters import WIDTH
from slipway_server.metrics.ledger import PAGE_BYTES, Page
from slipway_server.monitoring.answers import RING_BYTES, Ring, Wanted
from slipway_server.runtime.blocklist import PART_BYTES, Blocklist


class Board:
    """The shared array, one row a process; rows are added up by whoever answers ``/metrics``.

    Beside the doubles each process has ``counts`` whole numbers, for what the profile wants counted,
    a page for series that are known only later, a ring of answers, and a part of the requests that ended a
    process. All share a table of the tokens that came back.
    """

    def __init__(self, rows: int, counts: int = 0) -> None:
        """A new array, which processes that are forked from this one share."""
        doubles, pages = rows * WIDTH * 8, rows * (WIDTH + counts) * 8
        rings = pages + rows * PAGE_BYTES + TABLE_BYTES
        crashes = rings + rows * RING_BYTES + 8
        guarded = crashes + rows * PART_BYTES
        self.rows = rows
        #: Tells this array from one of a server that was here before.
        self.name = secrets.token_hex(8)
        self._width = counts
        memory = memoryview(mmap.mmap(-1, guarded + 8))
        self._memory = memory[:doubles].cast("d")
        self._counts = memory[doubles:pages].cast("q")
        self._later = memory[pages:rings]
        self._rings = memory[rings:crashes]
        self._crashes = memory[crashes:guarded]
        self._guarded = memory[guarded:]

    def row(self, position: int) -> memoryview[float]:
        """One process's doubles, to be written by it alone."""
        return self._memory[position * WIDTH : (position + 1) * WIDTH]

    def counts(self, position: int) -> memoryview[int]:
        """One process's whole numbers, to be written by it alone."""
        return self._counts[position * self._width : (position + 1) * self._width]

    def count(self, slot: int) -> int:
        """One whole number, added up over all processes."""
        return sum(self._counts[slot :: self._width])

    def page(self, position: int) -> Page:
        """One process's series by name, to be written by it alone."""
        return Page(self._later[position * PAGE_BYTES : (position + 1) * PAGE_BYTES])

    @property
    def seen(self) -> Seen:
        """The tokens that came back, to whichever process."""
        return Seen(self._later[self.rows * PAGE_BYTES :])

    def ring(self, position: int) -> Ring:
        """One process's answers."""
        return Ring(self._rings[position * RING_BYTES : (position + 1) * RING_BYTES])

    @property
    def wanted(self) -> Wanted:
        """Whether answers are remembered, by whichever process."""
        return Wanted(self._rings[self.rows * RING_BYTES :])

    def blocklist(self, position: int) -> Blocklist:
        """The requests that ended a process, for one process to add to."""
        return Blocklist(self._crashes, position)

    @property
    def guarded(self) -> bool:
        """Whether the model is run in processes of its own, whatever its operators."""
        return bool(self._guarded[0])

    @guarded.setter
    def guarded(self, value: bool) -> None:
        self._guarded[0] = value

    def total(self, slot: int) -> float:
        """One slot, added up over all processes."""
        return sum(self._memory[slot::WIDTH])

    def all(self, slot: int) -> list[float]:
        """One slot of each process."""
        return list(self._memory[slot::WIDTH])
