"""Who is looked at when: the silent wait for nobody but themselves."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from slipway.engine.metrics.observers import ObserverCollector
from slipway.engine.observers import pool as pools
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key
from tests.unit.virtual_time import run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = 5.0


class Watch:
    """A pool whose keys are looked at every ``interval`` seconds, each of which takes a moment.

    Attributes:
        silent: namespaces in which nobody answers before the timeout.
        looks: by key, when looks at it began, in seconds.
    """

    def __init__(self, interval: float = 10.0, spread: Callable[[], float] = lambda: 0.5) -> None:
        self.silent: set[str] = set()
        self.interval = interval
        self.known: dict[Key, datetime] = {}
        self.looks: dict[Key, list[float]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.pool = Pool(self._look, self.known.get, self.now, spread)

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def add(self, *keys: Key) -> None:
        for key in keys:
            self.known[key] = self.now()
            self.pool.refresh(key)

    def forget(self, key: Key) -> None:
        del self.known[key]
        self.pool.forget(key)

    async def _look(self, key: Key) -> bool:
        self.looks[key].append(asyncio.get_running_loop().time())
        self.running[key.namespace] += 1
        self.most[key.namespace] = max(self.most[key.namespace], self.running[key.namespace])
        try:
            await asyncio.sleep(TIMEOUT if key.namespace in self.silent else 0.001)
        finally:
            self.running[key.namespace] -= 1
        if key in self.known:
            self.known[key] = self.now() + timedelta(seconds=self.interval)
        return key.namespace not in self.silent

    def during(self, seconds: float, others: Callable[[], Awaitable[None]] | None = None) -> None:
        """Watch for so long, while others do something."""

        async def main() -> None:
            watching = asyncio.create_task(self.pool.watch())
            if others is not None:
                await others()
            await asyncio.sleep(max(0.0, seconds - asyncio.get_running_loop().time()))
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

        run(main())


def keys(namespace: str, count: int) -> list[Key]:
    return [Key(namespace, f"model-{number}") for number in range(count)]


def of(watch: Watch, namespace: str) -> list[float]:
    return [at for key, looks in watch.looks.items() if key.namespace == namespace for at in looks]


@pytest.mark.parametrize("others", [0, 30])
def test_black_holes_in_many_namespaces_delay_nobody_else(others: int) -> None:
    """With them or without them, a new key elsewhere is looked at within a blink, at any moment."""
    watch = Watch()
    watch.silent = {f"hole-{number}" for number in range(others)}
    begins: list[tuple[Key, float]] = []

    async def main() -> None:
        for namespace in watch.silent:
            watch.add(*keys(namespace, 10))
        loop = asyncio.get_running_loop()
        for number in range(200):
            await asyncio.sleep(0.37)
            key = Key("good", f"model-{number}")
            watch.add(key)
            begins.append((key, loop.time()))

    watch.during(100, main)
    assert max(watch.looks[key][0] - begun for key, begun in begins) <= 0.01


def test_a_namespace_never_has_more_than_its_share_of_places_and_less_while_it_fails() -> None:
    watch = Watch()
    watch.silent = {"hole"}

    async def main() -> None:
        watch.add(*keys("hole", 100), *keys("good", 100))
        await asyncio.sleep(30)
        watch.most.clear()

    watch.during(300, main)
    assert watch.most["hole"] <= pools.LEAST_OF_ONE + 1
    assert watch.most["good"] <= pools.MOST_OF_ONE
    assert len(of(watch, "good")) >= 100 * 29


def test_namespaces_take_turns_whoever_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST", 1)
    watch = Watch(interval=3600)

    async def main() -> None:
        watch.add(*keys("many", 50), *keys("few", 2))

    watch.during(1, main)
    order = sorted((at, key.namespace) for key, looks in watch.looks.items() for at in looks)
    assert [namespace for _, namespace in order][:4] == ["many", "few", "many", "few"]


def test_what_fails_is_looked_at_later_and_later_and_not_all_at_once() -> None:
    chances = iter(number / 7 % 1 for number in range(10_000))
    watch = Watch(interval=1.0, spread=lambda: next(chances))
    watch.silent = {f"hole-{number}" for number in range(4)}

    async def main() -> None:
        watch.add(*(Key(namespace, "model") for namespace in sorted(watch.silent)))

    watch.during(600, main)
    for namespace in watch.silent:
        gaps = [later - at - TIMEOUT for at, later in pairwise(of(watch, namespace))]
        assert gaps[0] == pytest.approx(1.0, rel=0.21)
        assert gaps[2] == pytest.approx(4.0, rel=0.21)
        assert all(23.9 <= gap <= 36.1 for gap in gaps[5:])
    lasts = [of(watch, namespace)[-1] for namespace in watch.silent]
    assert len({round(at, 1) for at in lasts}) == len(lasts)


def test_one_answer_ends_the_back_off() -> None:
    watch = Watch(interval=1.0)
    watch.silent = {"hole"}

    async def main() -> None:
        watch.add(Key("hole", "model"))
        await asyncio.sleep(100)
        watch.silent.clear()

    watch.during(200, main)
    gaps = [later - at for at, later in pairwise(of(watch, "hole"))]
    assert gaps[-5:] == pytest.approx([1.0] * 5, abs=0.01)


def test_what_is_forgotten_is_not_looked_at_and_leaves_nothing_behind() -> None:
    watch = Watch()
    watch.silent = {"hole"}

    async def main() -> None:
        everything = [*keys("hole", 20), *keys("good", 20)]
        watch.add(*everything)
        await asyncio.sleep(7)
        for key in everything:
            watch.forget(key)
        watch.looks.clear()

    watch.during(100, main)
    assert not watch.looks
    pool = watch.pool
    assert not pool._running
    assert not pool._failures
    assert not pool._known
    assert not pool._answers
    assert not pool._read
    assert not pool._timetable._due
    assert pool.first() is None
    assert all(not lane.waiting and not lane.running for lane in pool._lanes)


def test_one_that_comes_back_while_it_is_waited_for_is_looked_at_again() -> None:
    watch = Watch()
    watch.silent = {"hole"}
    key = Key("hole", "model")

    async def main() -> None:
        watch.add(key)
        await asyncio.sleep(1)
        watch.forget(key)
        watch.add(key)

    watch.during(3, main)
    assert watch.looks[key] == [0.0, pytest.approx(1.0, abs=0.01)]


def test_a_bug_in_one_look_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(interval=1.0)

    async def main() -> None:
        watch.add(*keys("good", 2))
        watch.pool._look = _wrong  # type: ignore[assignment]
        await asyncio.sleep(5)
        watch.pool._look = watch._look

    async def _wrong(_: Key) -> bool:
        raise ZeroDivisionError("a bug")

    watch.during(60, main)
    assert len(of(watch, "good")) > 50
    assert "a bug" in caplog.text


def test_a_key_that_is_refreshed_all_the_time_keeps_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST", 1)
    watch = Watch(interval=0.0)
    busy, other = Key("a", "busy"), Key("b", "other")

    async def main() -> None:
        watch.add(*keys("c", 5), other)
        for _ in range(1000):
            watch.add(busy)
            watch.pool.refresh(other)
            await asyncio.sleep(0.0005)

    watch.during(1, main)
    assert len(watch.looks[other]) > 50


def test_the_metrics_of_a_pool_say_how_well_it_keeps_up() -> None:
    async def told() -> dict[str, float]:
        watch = Watch()
        watch.silent.add("silent")
        registry = CollectorRegistry()
        registry.register(ObserverCollector({"pods": watch.pool}))
        watching = asyncio.create_task(watch.pool.watch())
        watch.add(Key("well", "a"), *(Key("silent", f"{number}") for number in range(4)))
        # The silent one after the other: one is under way.
        await asyncio.sleep(7)
        text = generate_latest(registry).decode()
        watching.cancel()
        lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    found = run(told())
    assert found.pop('slipway_operator_observer_wait_seconds_total{observer="pods"}') == pytest.approx(
        5, abs=0.1
    )
    assert found == {
        'slipway_operator_observer_waiting{observer="pods"}': 2,
        'slipway_operator_observer_failing{observer="pods"}': 1,
        'slipway_operator_observer_looks_total{observer="pods",result="read"}': 1,
        'slipway_operator_observer_looks_total{observer="pods",result="unread"}': 1,
    }
