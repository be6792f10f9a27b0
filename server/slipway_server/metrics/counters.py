"""What one process counts of its requests: an array of doubles, of which it is the only writer."""

from __future__ import annotations

import os
from bisect import bisect_left

from slipway_server.errors import Reason

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
