"""When observers look, and at how much at once: what does not answer keeps nothing else waiting."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from slipway.engine.backoff import backoff
from slipway.engine.store import Key
from slipway.engine.timetable import Timetable

log = logging.getLogger(__name__)

#: Looks under way at once, and those of one namespace in which the last one could be done, or could not.
MOST, MOST_OF_ONE, LEAST_OF_ONE = 64, 4, 1
#: Places for what failed last, which has its own: however much fails, the rest has room.
MOST_FAILING = 8
#: Seconds until what failed is looked at again; twice as long each time, and about as long.
LEAST_REST, MOST_REST = 1.0, 30.0


class Pool:
    """Has each key of an observer looked at when it is due.

    Namespaces take turns. A key is looked at by one task at a time.
    """

    def __init__(
        self,
        look: Callable[[Key], Awaitable[bool]],
        due: Callable[[Key], datetime | None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
        latest: Callable[[Key], datetime | None] = lambda _: None,
    ) -> None:
        """
        Args:
            look: looks at a key; False where anything of it could not be read.
            due: when a key is to be looked at next; None while there is nothing to look for.
            clock: tells the time, with a time zone.
            spread: between 0 and 1, so that not all that failed is looked at again at once.
            latest: when a key is looked at again at the latest, however often it failed; None where never.
        """
        self._look = look
        self._due = due
        self._clock = clock
        self._spread = spread
        self._latest = latest
        self._timetable: Timetable[Key] = Timetable()
        self._usual, self._failing = _Lane(MOST, self._share), _Lane(MOST_FAILING, lambda _: LEAST_OF_ONE)
        self._lanes = (self._usual, self._failing)
        self._running: dict[Key, asyncio.Task[bool]] = {}
        #: By namespace: those that are looked at, and whether the last look could be done.
        self._known: dict[str, set[Key]] = {}
        self._answers: dict[str, bool] = {}
        #: Those that were read when they were looked at last.
        self._read: set[Key] = set()
        #: How often in a row, and until when it rests.
        self._failures: dict[Key, tuple[int, datetime]] = {}
        self._woken = asyncio.Event()
        #: Looks that could be done, those that could not, and seconds that due keys waited for a place.
        self.read, self.unread, self.waited = 0, 0, 0.0
        self._queued: dict[Key, datetime] = {}

    @property
    def waiting(self) -> int:
        """Keys that are due and wait for a place."""
        return len(self._queued)

    @property
    def failing(self) -> int:
        """Keys that could not be looked at when that was tried last."""
        return len(self._failures)

    def refresh(self, key: Key, at_once: bool = False) -> None:
        """Something about a key changed: it may be due at another time.

        Args:
            key: of an observer.
            at_once: whether it does not rest any longer, though it failed.
        """
        due, now = self._due(key), self._clock()
        if due is not None:
            self._known.setdefault(key.namespace, set()).add(key)
        times, until = self._failures.get(key, (0, now))
        if at_once and times:
            self._failures[key] = times, now
        elif due is not None:
            latest = self._latest(key)
            due = max(due, until if latest is None else min(until, latest))
        if due is None:
            self._drop(key)
        elif key in self._running or (due <= now and any(key in lane for lane in self._lanes)):
            # It has its place already, or its turn in the queue for one.
            pass
        else:
            self._drop(key)
            self._timetable.set(key, due)
        self._woken.set()

    def forget(self, key: Key) -> None:
        """There is nothing to look at any more."""
        self._drop(key)
        self._failures.pop(key, None)
        self._read.discard(key)
        known = self._known.get(key.namespace, set())
        known.discard(key)
        if not known:
            self._known.pop(key.namespace, None)
            self._answers.pop(key.namespace, None)
        if (task := self._running.get(key)) is not None:
            task.cancel()

    def _drop(self, key: Key) -> None:
        self._queued.pop(key, None)
        self._timetable.drop(key)
        for lane in self._lanes:
            lane.drop(key)

    def first(self) -> datetime | None:
        """When the first key is due; None where there is none."""
        return self._timetable.first()

    async def watch(self) -> None:
        """Look at what is due, for ever."""
        try:
            while True:
                self._woken.clear()
                self._start()
                due = self.first()
                left = None if due is None else max(0.0, (due - self._clock()).total_seconds())
                try:
                    async with asyncio.timeout(left):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._running.values():
                task.cancel()

    async def drain(self) -> bool:
        """Look at what is due now, until nothing is; whether there was anything."""
        looked = False
        while True:
            self._start()
            if not self._running:
                return looked
            looked = True
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)

    def _start(self) -> None:
        for key in self._timetable.take(self._clock()):
            self._queued[key] = self._clock()
            silent = key not in self._read and self._answers.get(key.namespace) is False
            (self._failing if silent or key in self._failures else self._usual).add(key)
        for lane in self._lanes:
            while (taken := lane.take()) is not None:
                self.waited += (self._clock() - self._queued.pop(taken)).total_seconds()
                task = asyncio.create_task(self._run(taken))
                self._running[taken] = task
                task.add_done_callback(partial(self._done, taken, lane))

    async def _run(self, key: Key) -> bool:
        try:
            return await self._look(key)
        except Exception:
            log.exception("not observed", extra={"key": str(key)})
            return False

    def _done(self, key: Key, lane: _Lane, task: asyncio.Task[bool]) -> None:
        """Also where it was cancelled before it began."""
        lane.done(key)
        del self._running[key]
        if not task.cancelled() and key in self._known.get(key.namespace, ()):
            self._note(key, task.result())
        self.refresh(key)

    def _share(self, namespace: str) -> int:
        return MOST_OF_ONE if self._answers.get(namespace) else LEAST_OF_ONE

    def _note(self, key: Key, is_read: bool) -> None:
        self._answers[key.namespace] = is_read
        self.read, self.unread = self.read + is_read, self.unread + (not is_read)
        if is_read:
            self._read.add(key)
            self._failures.pop(key, None)
        else:
            self._read.discard(key)
            self._failures[key] = self._rest(key)

    def _rest(self, key: Key) -> tuple[int, datetime]:
        times = self._failures.get(key, (0, None))[0] + 1
        rest = backoff(times, LEAST_REST, MOST_REST, self._spread())
        return times, self._clock() + timedelta(seconds=rest)


@dataclass
class _Lane:
    """Places for looks, and those that wait for one."""

    most: int
    most_of: Callable[[str], int]
    #: By namespace, the one whose turn is next first.
    waiting: dict[str, dict[Key, None]] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)

    def __contains__(self, key: Key) -> bool:
        return key in self.waiting.get(key.namespace, ())

    def add(self, key: Key) -> None:
        self.waiting.setdefault(key.namespace, {})[key] = None

    def drop(self, key: Key) -> None:
        keys = self.waiting.get(key.namespace, {})
        keys.pop(key, None)
        if not keys:
            self.waiting.pop(key.namespace, None)

    def take(self) -> Key | None:
        """The next that gets a place; None while there is none for those who wait."""
        if self.running.total() >= self.most:
            return None
        # Of those before it in turn each has its share already, so that they are few.
        namespace = next((one for one in self.waiting if self.running[one] < self.most_of(one)), None)
        if namespace is None:
            return None
        keys = self.waiting.pop(namespace)
        key = next(iter(keys))
        del keys[key]
        if keys:
            self.waiting[namespace] = keys
        self.running[namespace] += 1
        return key

    def done(self, key: Key) -> None:
        self.running[key.namespace] -= 1
        if not self.running[key.namespace]:
            del self.running[key.namespace]
