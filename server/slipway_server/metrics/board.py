"""Counters that several processes write and one reads: an array of doubles in shared memory.

Each process has a row of its own and is the only one to write it, so counting takes no lock, costs less than
a library's counter, and outlives a process that died.
"""

from __future__ import annotations

import mmap
import os
import secrets
from bisect import bisect_left

from slipway_server.errors import Reason
from slipway_server.feedback.seen import TABLE_BYTES, Seen
from slipway_server.metrics.ledger import PAGE_BYTES, Page
from slipway_server.monitoring.answers import RING_BYTES, Ring, Wanted
from slipway_server.runtime.blocklist import PART_BYTES, Blocklist

#: The status codes that are counted, each as a label of its own; any other counts as 500.
CODES = (200, 400, 404, 408, 411, 413, 415, 422, 429, 499, 500, 503)
#: Upper bounds of the latency histogram in seconds. Rollout analysis compares them across revisions: fixed.
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

IN_FLIGHT, ROWS, DURATION_SUM, LOAD_SECONDS, LOADED, PID, RUNS_DIED, DIED = range(8)
_FIRST_CODE = 8
CODE_SLOTS = {code: _FIRST_CODE + position for position, code in enumerate(CODES)}
REASON_SLOTS = {reason: _FIRST_CODE + len(CODES) + position for position, reason in enumerate(Reason)}
FIRST_BUCKET = _FIRST_CODE + len(CODES) + len(Reason)
WIDTH = FIRST_BUCKET + len(SECONDS) + 1


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


class Counters:
    """What one process counts about its requests; not for threads other than the event loop's."""

    __slots__ = ("_row",)

    def __init__(self, row: memoryview[float]) -> None:
        self._row = row
        row[PID] = os.getpid()

    @property
    def in_flight(self) -> int:
        return int(self._row[IN_FLIGHT])

    def began(self) -> None:
        """An inference request's head arrived."""
        self._row[IN_FLIGHT] += 1

    def answered(self, code: int, seconds: float) -> None:
        """An inference request, counted by :meth:`began`, was answered with ``code`` after ``seconds``."""
        row = self._row
        row[CODE_SLOTS.get(code, CODE_SLOTS[500])] += 1
        row[FIRST_BUCKET + bisect_left(SECONDS, seconds)] += 1
        row[DURATION_SUM] += seconds
        row[IN_FLIGHT] -= 1

    def refused(self, reason: Reason) -> None:
        self._row[REASON_SLOTS[reason]] += 1

    def add_rows(self, rows: int) -> None:
        self._row[ROWS] += rows

    def run_died(self) -> None:
        """A run of the model ended its process; from any thread, one at a time."""
        self._row[RUNS_DIED] += 1

    def loaded(self, seconds: float) -> None:
        """The model was verified, loaded and warmed up in so many seconds."""
        self._row[LOAD_SECONDS] = seconds
        self._row[LOADED] = 1
