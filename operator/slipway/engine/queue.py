"""The work queue: one entry a key, one run a key at a time, later and later after failures."""

from __future__ import annotations

import asyncio
import random
from typing import Generic, Protocol, TypeVar

from slipway.engine.backoff import backoff

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

    def __init__(
        self,
        observer: QueueObserver,
        least_delay: float = 0.5,
        most_delay: float = 30.0,
        steady_delay: float = 600.0,
        news_delay: float = 5.0,
    ) -> None:
        """
        Args:
            observer: told what happens.
            least_delay: seconds until a key that failed once is worked on again.
            most_delay: likewise, however often it failed.
            steady_delay: likewise, where it fails for a reason that does not go away by itself.
            news_delay: a key that failed is worked on so soon at the latest where something happened to it.
        """
        self._observer = observer
        self._least_delay = least_delay
        self._most_delay = most_delay
        self._steady_delay = steady_delay
        self._news_delay = news_delay
        #: When a key that failed may be worked on again because of news of it.
        self._resting: dict[K, float] = {}
        self._news: dict[K, _Allowance] = {}
        self._most_news = 1000
        #: None wakes the workers once the queue is closed.
        self._waiting: asyncio.Queue[K | None] = asyncio.Queue()
        self._since: dict[K, float] = {}
        self._running: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._closed = False

    def add(self, key: K) -> None:
        """Have the key worked on as soon as a worker is free, because something happened to it.

        A key that failed rests for a moment first, and so does one to which something happens all the time:
        what is written for it, or fails of it, may be what happens.
        """
        self._add(key, 0.0)

    def _add(self, key: K, at_least: float) -> None:
        if self._closed:
            return
        if key in self._running:
            self._dirty.add(key)
            return
        if key in self._since:
            return
        now = asyncio.get_running_loop().time()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= now + GATHERING:
            # It sees this, too.
            return
        wait = max(self._resting.get(key, now) - now, self._allow(key, now), at_least)
        if wait > 0:
            self.add_after(key, wait)
        else:
            self._enqueue(key)

    def _allow(self, key: K, now: float) -> float:
        """Seconds until news of a key are due."""
        if len(self._news) > self._most_news:
            self._news = {one: found for one, found in self._news.items() if not found.is_full(now)}
            self._most_news = max(1000, 2 * len(self._news))
        return self._news.setdefault(key, _Allowance(now)).take(now)

    def _enqueue(self, key: K) -> None:
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

    def retry(self, key: K, steady: bool = False, at_least: float = 0.0) -> None:
        """Have a key that failed worked on again, later with each failure in a row.

        Args:
            key: that failed.
            steady: whether it failed for a reason that does not go away by itself.
            at_least: seconds for which the API server wants to be left alone.
        """
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        self._observer.retried()
        most = self._steady_delay if steady else self._most_delay
        delay = max(backoff(failures, self._least_delay, most), at_least * random.uniform(1.0, 1.2))
        news = max(min(delay, self._news_delay), at_least)
        self._resting[key] = asyncio.get_running_loop().time() + news
        self.add_after(key, delay)

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure is the first again."""
        self._failures.pop(key, None)
        self._resting.pop(key, None)

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
            # Most of it is what watches tell of the run's own writes, and the rest of that is on its way.
            self._add(key, GATHERING)

    def close(self) -> None:
        """Take nothing more in and give nothing more out; runs under way go on."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.put_nowait(None)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self._enqueue(key)


#: Seconds for which news that came while a key was worked on wait for more of the same.
GATHERING = 0.03
#: News of a key that come at once, and the seconds after which one more may.
BURST, REFILL = 50, 0.5


class _Allowance:
    """How much news of one key may still come at once."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._left = float(BURST)

    def is_full(self, now: float) -> bool:
        """Whether there is nothing to remember."""
        return self._left + (now - self._at) / REFILL >= BURST

    def take(self, now: float) -> float:
        """Take one; the seconds until it is there."""
        self._left = min(float(BURST), self._left + (now - self._at) / REFILL)
        self._at = now
        self._left = max(self._left - 1.0, -1.0)
        return max(0.0, -self._left * REFILL)
