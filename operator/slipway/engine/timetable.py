"""What is due when, without going through what is not."""

from __future__ import annotations

import heapq
from datetime import datetime
from typing import Generic, TypeVar

K = TypeVar("K")


class Timetable(Generic[K]):
    """Keys, each with the one time at which it is due."""

    def __init__(self) -> None:
        self._due: dict[K, datetime] = {}
        #: Those of each second since the epoch, and a heap of these seconds: a dropped key leaves nothing.
        self._of_second: dict[int, set[K]] = {}
        self._seconds: list[int] = []

    def set(self, key: K, due: datetime) -> None:
        """Have a key due at a time, with a time zone, and at no other."""
        if self._due.get(key) == due:
            return
        self.drop(key)
        self._due[key] = due
        second = int(due.timestamp())
        if second not in self._of_second:
            self._of_second[second] = set()
            heapq.heappush(self._seconds, second)
        self._of_second[second].add(key)

    def drop(self, key: K) -> None:
        """Have a key due no more."""
        due = self._due.pop(key, None)
        if due is not None:
            # The second stays until it is over, so that the heap has it once.
            self._of_second[int(due.timestamp())].discard(key)

    def take(self, now: datetime) -> list[K]:
        """The keys that are due, the first first; each is due once."""
        found: list[tuple[datetime, K]] = []
        while self._seconds and self._seconds[0] <= now.timestamp():
            due = [
                (self._due[key], key) for key in self._of_second[self._seconds[0]] if self._due[key] <= now
            ]
            for _, key in due:
                self.drop(key)
            found += due
            if self._of_second[self._seconds[0]]:
                # The rest of this second is still to come.
                break
            del self._of_second[heapq.heappop(self._seconds)]
        return [key for _, key in sorted(found, key=lambda one: one[0])]
