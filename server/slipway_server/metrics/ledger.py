"""Counters whose names are known only once a model is: series with labels, in memory that processes share.

Each process has a page of its own: lines of names, and one double for each. It alone writes there, so
counting takes no lock; whoever answers ``/metrics`` adds up what has the same name. A page outlives its
process, and the one that replaces it goes on counting in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

#: Series of one process. More are refused, so that nothing that comes in can fill the memory.
SERIES = 8192
_NAME_BYTES = 2 * 1024 * 1024
_VALUES = 8
_NAMES = _VALUES + SERIES * 8
#: Bytes of one process's page; what is not used takes no memory.
PAGE_BYTES = _NAMES + _NAME_BYTES


class Page:
    """One process's series, to be written by it alone."""

    def __init__(self, memory: memoryview) -> None:
        """``memory`` has :data:`PAGE_BYTES` bytes, all zero where no process was before."""
        self._used = memory[:_VALUES].cast("Q")
        self._names = memory[_NAMES:]
        #: One for each series, by its slot.
        self.values: memoryview[float] = memory[_VALUES:_NAMES].cast("d")
        self._slots = {name: slot for slot, name in enumerate(self.names())}

    def names(self) -> list[bytes]:
        """The series so far, in the order of their slots; see :func:`read_name`."""
        return bytes(self._names[: self._used[0]]).splitlines()

    def slot(self, metric: str, labels: Mapping[str, str]) -> int | None:
        """Where a series is counted, which begins at 0; ``None`` where there is no room for another one."""
        name = orjson.dumps([metric, labels])
        slot = self._slots.get(name)
        if slot is not None:
            return slot
        start, slot = self._used[0], len(self._slots)
        stop = start + len(name) + 1
        if slot >= SERIES or stop > _NAME_BYTES:
            return None
        self._names[start:stop] = name + b"\n"
        # Last, so that nobody reads half a name.
        self._used[0] = stop
        self._slots[name] = slot
        return slot

    def add(self, metric: str, labels: Mapping[str, str], amount: float = 1.0) -> bool:
        """Count; ``False`` where there is no room for the series."""
        slot = self.slot(metric, labels)
        if slot is None:
            return False
        self.values[slot] += amount
        return True


def bound_name(bound: float) -> str:
    """The label ``le`` of a bucket."""
    return "+Inf" if math.isinf(bound) else str(float(bound))


def read_name(name: bytes) -> tuple[str, dict[str, str]]:
    """A line of :meth:`Page.names` as metric and labels."""
    metric, labels = orjson.loads(name)
    return metric, labels


def totals(pages: list[Page]) -> dict[bytes, float]:
    """All series by name, added up over the processes."""
    found: dict[bytes, float] = {}
    for page in pages:
        for slot, name in enumerate(page.names()):
            found[name] = found.get(name, 0.0) + page.values[slot]
    return found
