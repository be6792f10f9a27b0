"""The work queue: one entry a key, one run a key at a time, later and later after failures."""

from __future__ import annotations

import asyncio
import random
from typing import Generic, Protocol, TypeVar

K = TypeVar("K")


class QueueObserver(Protocol):
    """Told what happens to the queue, for metrics."""

    def added(self, depth: int) -> None:
        """A key was added, and the queue is now this deep."""

    def taken(self, waited: float, depth: int) -> None:
        """A key was taken after this many seconds."""

    def retried(self) -> None:
        """A key was put back after a failure."""


class WorkQueue(Generic[K]):
    """Keys waiting for a worker.

    A key that is added while it waits is one entry; added while it is worked on, it comes again afterwards.
    """

    def __init__(self, observer: QueueObserver, least_delay: float = 0.5, most_delay: float = 30.0) -> None:
        """``least_delay`` and ``most_delay`` bound the back-off, in seconds."""
        self._observer = observer
        self._least_delay = least_delay
        self._most_delay = most_delay
        #: None wakes the workers once the queue is closed.
        self._waiting: asyncio.Queue[K | None] = asyncio.Queue()
        self._since: dict[K, float] = {}
        self._running: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._closed = False

    def add(self, key: K) -> None:
        """Have the key worked on as soon as a worker is free."""
        if self._closed:
            return
        if key in self._running:
            self._dirty.add(key)
        elif key not in self._since:
            self._since[key] = asyncio.get_running_loop().time()
            self._waiting.put_nowait(key)
            self._observer.added(len(self._since))

    def add_after(self, key: K, seconds: float) -> None:
        """Have the key worked on in so many seconds at the latest; an earlier date already set stands."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, 0.0)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._due, key)

    def retry(self, key: K) -> None:
        """Have a key that failed worked on again, later with each failure in a row."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._observer.retried()
        delay = min(self._most_delay, self._least_delay * 2.0 ** min(failures, 30))
        self.add_after(key, delay * random.uniform(0.8, 1.2))

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure is the first again."""
        self._failures.pop(key, None)

    async def take(self) -> K | None:
        """The next key, once there is one; None when the queue is closed."""
        key = await self._waiting.get()
        if self._closed or key is None:
            self._waiting.put_nowait(None)
            return None
        waited = asyncio.get_running_loop().time() - self._since.pop(key)
        self._running.add(key)
        self._observer.taken(waited, len(self._since))
        return key

    def done(self, key: K) -> None:
        """The key's run is over; what was added meanwhile gets its turn."""
        self._running.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)

    def close(self) -> None:
        """Take nothing more in and give nothing more out; runs under way go on."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.put_nowait(None)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)
