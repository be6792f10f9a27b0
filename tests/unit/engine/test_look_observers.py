"""Pods and Prometheus are read when a rollout's look needs it, and reconcile comes when there is news."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from slipway.core.rollout.interest import Interest
from slipway.engine.observers.looks import Found, LookObserver, NothingToReadError, UnreadError
from slipway.engine.store import Key

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEY = Key("payments", "fraud")
#: The look that is due half a minute after the beginning.
FIRST = Interest(("b", "a"), ("b.1", 10), "look 0", BEGIN + timedelta(seconds=30), 30.0)
NEXT = replace(FIRST, look="look 1", due=FIRST.due + timedelta(seconds=30))
OTHER = replace(FIRST, split=("b.1", 50))


class Bench:
    """An observer that counts how often it read; time goes on when the test says so.

    Attributes:
        answer: what reading comes to; an error is raised, and a number is how often it has begun.
        reads: seconds at which it read.
        changed: keys that were to be worked on.
    """

    def __init__(self) -> None:
        self.now = BEGIN
        self.answer: UnreadError | None = None
        self.again = 0.0
        self.reads: list[float] = []
        self.changed: list[Key] = []
        self.holding: asyncio.Event | None = None
        self.observer = LookObserver(self._read, self.changed.append, lambda: self.now, lambda: 0.5)

    async def _read(self, _: Key, __: Interest, memory: int | None, since: datetime) -> Found[int, int]:
        self.reads.append((self.now - BEGIN).total_seconds())
        if self.holding is not None:
            await self.holding.wait()
        if self.answer is not None:
            raise self.answer
        assert since <= self.now
        if self.again:
            return Found(memory, again=self.again)
        return Found((memory or 0) + 1, memory)

    async def until(self, second: float) -> None:
        """Look at all that is due until then."""
        until = BEGIN + timedelta(seconds=second)
        pool = self.observer.pool
        await pool.drain()
        while (due := pool.first()) is not None and due <= until:
            self.now = max(self.now, due)
            await pool.drain()
        self.now = until

    def ready(self, interest: Interest) -> bool:
        found = self.observer.reading(KEY)
        return found is not None and found.answers(interest)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.observer.subscribe(KEY, FIRST)
    yield bench
    bench.observer.forget(KEY)
    observer = bench.observer
    assert not observer._subjects
    assert not observer._readings
    assert not observer.pool._failures
    assert observer.pool.first() is None


async def test_a_split_is_read_at_once_and_again_when_its_look_is_due(bench: Bench) -> None:
    await bench.until(29)
    assert bench.reads == [0.0]
    assert bench.changed == [], "where counting begins is no news"
    assert not bench.ready(FIRST)
    await bench.until(300)
    assert bench.reads == [0.0, 30.0]
    assert bench.changed == [KEY]
    assert bench.ready(FIRST)
    assert not bench.ready(NEXT)


async def test_the_next_look_goes_on_from_there(bench: Bench) -> None:
    await bench.until(31)
    bench.observer.subscribe(KEY, NEXT)
    await bench.until(300)
    assert bench.reads == [0.0, 30.0, 60.0]
    found = bench.observer.reading(KEY)
    assert found is not None
    assert found.value == 2
    assert bench.ready(NEXT)


async def test_the_same_interest_again_changes_nothing(bench: Bench) -> None:
    for second in range(20):
        bench.observer.subscribe(KEY, replace(FIRST))
        await bench.until(second)
    assert bench.reads == [0.0]


async def test_another_split_begins_again_at_once(bench: Bench) -> None:
    await bench.until(10)
    bench.observer.subscribe(KEY, OTHER)
    await bench.until(300)
    assert bench.reads == [0.0, 10.0, 30.0]
    found = bench.observer.reading(KEY)
    assert found is not None
    assert found.value == 1
    assert not bench.ready(FIRST)


async def test_what_begins_after_the_look_was_due_is_read_again_an_interval_later(bench: Bench) -> None:
    bench.now += timedelta(seconds=100)
    await bench.until(300)
    assert bench.reads == [100.0, 130.0]
    assert bench.changed == [KEY, KEY], "that it only begins now, and then what was counted"


async def test_silence_is_told_once_and_tried_again_later_and_later(bench: Bench) -> None:
    bench.answer = UnreadError("silent")
    await bench.until(120)
    # When the look is due there is one more try, whatever failed before.
    assert bench.reads == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0, 60.0, 90.0, 120.0]
    assert bench.changed == [KEY]
    assert bench.ready(FIRST), "the look does not wait for it"
    bench.answer = None
    await bench.until(400)
    assert bench.changed == [KEY, KEY, KEY], "that it begins, and what was counted"
    assert bench.reads[9:] == [150.0, 180.0]


async def test_pods_that_are_not_there_yet_are_no_reason_to_back_off(bench: Bench) -> None:
    bench.answer = NothingToReadError("no ready pod")
    await bench.until(5.5)
    bench.answer = None
    bench.observer.subscribe(KEY, OTHER)
    await bench.until(10)
    assert bench.reads == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5]


async def test_what_has_too_little_yet_is_read_again_and_does_not_back_off(bench: Bench) -> None:
    bench.again = 2.0
    await bench.until(7)
    bench.again = 0.0
    await bench.until(40)
    assert bench.reads == [0.0, 2.0, 4.0, 6.0, 8.0, 30.0]


async def test_a_reading_that_ends_after_its_look_is_over_is_of_no_other(bench: Bench) -> None:
    await bench.until(29)
    bench.holding = asyncio.Event()
    bench.now = FIRST.due
    reading = asyncio.create_task(bench.observer.pool.drain())
    await asyncio.sleep(0)
    bench.observer.subscribe(KEY, NEXT)
    bench.holding.set()
    await reading
    assert bench.changed == []
    assert not bench.ready(NEXT)
    bench.holding = None
    await bench.until(300)
    assert bench.reads == [0.0, 30.0, 60.0]
    assert bench.changed == [KEY]


async def test_one_that_is_deleted_while_it_is_read_leaves_nothing(bench: Bench) -> None:
    bench.holding = asyncio.Event()
    reading = asyncio.create_task(bench.observer.pool.drain())
    await asyncio.sleep(0)
    bench.observer.forget(KEY)
    bench.holding.set()
    await reading
    assert bench.observer.reading(KEY) is None
    assert bench.changed == []


async def test_without_an_interest_nothing_is_read_any_more(bench: Bench) -> None:
    await bench.until(10)
    bench.observer.subscribe(KEY, None)
    await bench.until(300)
    assert bench.reads == [0.0]
    assert bench.observer.reading(KEY) is None
