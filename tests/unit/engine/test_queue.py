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
            nominal = min(30.0, 0.5 * 2.0**number)
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


def test_a_steady_fault_is_tried_less_and_less_until_every_ten_minutes(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        waits = [await _wait_after_failure(queue, steady=True) for _ in range(16)]
        for number, wait in enumerate(waits):
            nominal = min(600.0, 0.5 * 2.0**number)
            assert 0.8 * nominal <= wait <= 1.2 * nominal
        assert len({round(wait, 3) for wait in waits[-5:]}) > 1, "not all at the same moment"

    run(test)


def test_a_key_whose_failure_is_what_happens_to_it_does_not_spin(run: Run) -> None:
    """Each run writes something, meets a refusal, and is told of what it wrote."""

    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        runs = 0
        queue.add("a")
        while _now() < 3600:
            assert await queue.take() == "a"
            runs += 1
            queue.add("a")
            queue.retry("a", steady=True)
            queue.done("a")
            queue.add("a")
        assert runs <= 3600 / 5 * 1.3

    run(test)


def test_what_a_person_changes_of_a_key_that_fails_is_noticed_within_seconds(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(14):
            await _wait_after_failure(queue, steady=True)
        queue.retry("a", steady=True)
        begun = _now()
        await asyncio.sleep(1)
        queue.add("a")
        assert await queue.take() == "a"
        assert _now() - begun <= 5

    run(test)


def test_a_key_that_succeeds_and_is_told_of_it_does_not_spin_either(run: Run) -> None:
    """Two controllers that undo each other's work tell each other of it for ever."""

    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        runs = 0
        queue.add("a")
        while _now() < 600:
            assert await queue.take() == "a"
            runs += 1
            queue.forget("a")
            queue.done("a")
            await asyncio.sleep(0.01)
            queue.add("a")
        assert runs <= 50 + 600 * 2 + 1

    run(test)


def test_what_happens_to_a_key_in_a_run_is_worked_on_together_with_what_follows_at_once(run: Run) -> None:
    """A watch tells of each of the run's own writes, one after the other."""

    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.add("a")
        assert await queue.take() == "a"
        queue.add("a")
        queue.done("a")
        for _number in range(8):
            await asyncio.sleep(0.003)
            queue.add("a")
        runs = 0
        while _now() < 1.0:
            taking = asyncio.create_task(queue.take())
            await asyncio.wait((taking,), timeout=0.1)
            if not taking.done():
                taking.cancel()
                break
            runs += 1
            queue.done("a")
        assert runs == 1
        assert _now() < 0.2, "nobody waits for long"

    run(test)


def test_a_burst_of_news_of_a_key_waits_for_nothing(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(40):
            queue.add("a")
            assert await queue.take() == "a"
            queue.done("a")
        assert _now() == 0

    run(test)


def test_dates_that_a_key_sets_itself_are_not_counted_as_news(run: Run) -> None:
    """Routers are looked at twenty times a second while they follow."""

    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for _number in range(1000):
            queue.add_after("a", 0.05)
            assert await queue.take() == "a"
            queue.done("a")
        assert _now() == pytest.approx(50)

    run(test)


def test_keys_of_which_nothing_is_heard_any_more_are_not_remembered(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        for number in range(20_000):
            queue.add(f"m{number}")
            key = await queue.take()
            assert key is not None
            queue.done(key)
            await asyncio.sleep(0.1)
        assert len(queue._news) <= 1100

    run(test)


def test_the_wish_of_the_api_server_to_be_left_alone_is_followed(run: Run) -> None:
    async def test(queue: WorkQueue[str], _: _Seen) -> None:
        queue.retry("a", at_least=40.0)
        queue.add("a")
        assert await queue.take() == "a"
        assert 40 <= _now() <= 48

    run(test)


async def _wait_after_failure(queue: WorkQueue[str], steady: bool = False) -> float:
    begun = _now()
    queue.retry("a", steady=steady)
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
