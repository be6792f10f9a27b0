"""What is due when, without going through what is not."""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K")

#: Slices of a second.
_SLICES = 20


class Timetable(Generic[K]):
    """Keys, each with the one time at which it is due."""

    def __init__(self) -> None:
        self._due: dict[K, datetime] = {}
        #: Those of each slice of a second since the epoch, and a heap of these: a dropped key leaves nothing.
        self._of_slice: dict[int, set[K]] = {}
        self._slices: list[int] = []

    def set(self, key: K, due: datetime) -> None:
        """Have a key due at a time, with a time zone, and at no other."""
        if self._due.get(key) == due:
            return
        self.drop(key)
        self._due[key] = due
        slice_ = _slice(due)
        if slice_ not in self._of_slice:
            self._of_slice[slice_] = set()
            heapq.heappush(self._slices, slice_)
        self._of_slice[slice_].add(key)

    def drop(self, key: K) -> None:
        """Have a key due no more."""
        due = self._due.pop(key, None)
        if due is not None:
            # The slice stays until it is over, so that the heap has it once.
            self._of_slice[_slice(due)].discard(key)

    def first(self) -> datetime | None:
        """When the first key is due; None where there is none."""
        while self._slices and not self._of_slice[self._slices[0]]:
            del self._of_slice[heapq.heappop(self._slices)]
        if not self._slices:
            return None
        return min(self._due[key] for key in self._of_slice[self._slices[0]])

    def take(self, now: datetime) -> list[K]:
        """The keys that are due, the first first; each is due once."""
        found: list[tuple[datetime, K]] = []
        while (first := self.first()) is not None and first <= now:
            keys = [key for key in self._of_slice[self._slices[0]] if self._due[key] <= now]
            found += [(self._due[key], key) for key in keys]
            for key in keys:
                self.drop(key)
        return [key for _, key in sorted(found, key=lambda one: one[0])]


def _slice(due: datetime) -> int:
    return int(due.timestamp() * _SLICES)
