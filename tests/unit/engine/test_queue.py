"""The work queue, on an event loop whose clock is turned by hand."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from slipway.engine.queue import WorkQueue


class _Clock(asyncio.SelectorEventLoop):
    """An event loop that never waits: when there is nothing to do it jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


@dataclass
class _Seen:
    depths: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    retries: int = 0

    def added(self, depth: int) -> None:
        self.depths.append(depth)

    def taken(self, waited: float, depth: int) -> None:
        self.waits.append(waited)
        self.depths.append(depth)

    def retried(self) -> None:
        self.retries += 1


Run = Callable[[Callable[[WorkQueue[str], _Seen], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run() -> Iterator[Run]:
    loop = _Clock()

    def run_(test: Callable[[WorkQueue[str], _Seen], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            seen = _Seen()
            await asyncio.wait_for(test(WorkQueue(seen), seen), 10_000)

        loop.run_until_complete(main())

    yield run_
    loop.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


def test_a_key_that_waits_is_one_entry(run: Run) -> None:
    async def test(queue: WorkQueue[str], seen: _Seen) -> None:
        for key in ("a", "a", "b", "a"):
            queue.add(key)
        assert seen.depths == [1, 2]
        assert [await queue.take(), await queue.take()] == ["a", "b"]
        assert await _nothing(queue)

    run(test)


def test_a_key_that_is_added_while_it_is_worked_on_comes_again_once(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add("a")
        assert await queue.take() == "a"
        queue.add("a")
        queue.add("a")
        assert await _nothing(queue), "one run a key at a time"
        queue.done("a")
        assert await queue.take() == "a"
        queue.done("a")
        assert await _nothing(queue)

    run(test)


def test_a_key_comes_after_its_delay_and_the_earliest_date_stands(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add_after("a", 20)
        queue.add_after("a", 5)
        queue.add_after("a", 50)
        assert await queue.take() == "a"
        assert _now() == 5
        queue.done("a")
        assert await _nothing(queue, 100), "the later dates are void"

    run(test)


def test_a_date_that_has_passed_means_now(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add_after("a", -3)
        assert await queue.take() == "a"
        assert _now() == 0

    run(test)


def test_the_wait_of_a_key_is_measured(run: Run) -> None:
    async def test(queue: WorkQueue[str], seen: _Seen) -> None:
        queue.add("a")
        await asyncio.sleep(7)
        await queue.take()
        assert seen.waits == [7]
        assert seen.depths == [1, 0]

    run(test)


def test_failures_in_a_row_wait_twice_as_long_each_time_up_to_a_bound(run: Run) -> None:
    async def test(queue: WorkQueue[str], seen: _Seen) -> None:
        waits = [await _wait_after_failure(queue) for _ in range(13)]
        for number, wait in enumerate(waits):
            nominal = min(300.0, 0.5 * 2.0**number)
            assert 0.8 * nominal <= wait <= 1.2 * nominal
        assert seen.retries == 13

    run(test)


def test_a_success_makes_the_next_failure_the_first_again(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(8):
            await _wait_after_failure(queue)
        queue.forget("a")
        assert await _wait_after_failure(queue) <= 0.6

    run(test)


def test_a_key_that_never_failed_can_be_forgotten(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.forget("a")
        assert await _nothing(queue)

    run(test)


def test_a_hundred_failures_in_a_row_do_not_overflow(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(2000):
            queue.retry("a")
        assert await queue.take() == "a"
        assert _now() <= 0.6, "the first date stands"

    run(test)


def test_keys_wait_apart_from_each_other(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(10):
            queue.retry("bad")
        queue.add("good")
        assert await queue.take() == "good"
        assert _now() == 0

    run(test)


def test_a_closed_queue_lets_every_worker_go_and_takes_nothing_in(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        workers = [asyncio.create_task(queue.take()) for _number in range(5)]
        await asyncio.sleep(0)
        queue.close()
        assert await asyncio.gather(*workers) == [None] * 5
        queue.add("a")
        queue.add_after("a", 1)
        assert await queue.take() is None

    run(test)


def test_what_waits_when_the_queue_is_closed_is_not_given_out(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add("now")
        queue.add_after("later", 5)
        queue.close()
        assert await queue.take() is None
        await asyncio.sleep(10)
        assert await queue.take() is None

    run(test)


def test_a_run_under_way_ends_in_peace_after_the_queue_is_closed(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add("a")
        await queue.take()
        queue.add("a")
        queue.close()
        queue.done("a")
        queue.retry("a")
        assert await queue.take() is None

    run(test)


async def _wait_after_failure(queue: WorkQueue[str]) -> float:
    begun = _now()
    queue.retry("a")
    assert await queue.take() == "a"
    queue.done("a")
    return _now() - begun


async def _nothing(queue: WorkQueue[str], seconds: float = 1.0) -> bool:
    """Whether nothing comes for so long."""
    try:
        await asyncio.wait_for(queue.take(), seconds)
    except TimeoutError:
        return True
    return False
