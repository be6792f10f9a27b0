"""Routers are read as often as somebody waits for them, and only what they do otherwise is news."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from slipway.core.endpoint import Endpoint
from slipway.core.pod_counters import life_of
from slipway.core.traffic.envoy.config import version
from slipway.core.traffic.envoy.objects import CONTAINER
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState, RouterState, RouteState
from slipway.core.traffic.envoy.routes import Arm, Route, defined
from slipway.core.traffic.polling import RouterInterest
from slipway.engine.controller.router_group import Group
from slipway.engine.observers.routers import ARM_SECONDS, SHARE_OF_ALL, RouterObserver, RouterReading
from slipway.engine.store import Key

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
GROUP, MODEL = Key("payments", "", routers=True), Key("payments", "fraud")


def pod(name: str, container: str = "1") -> dict[str, Any]:
    statuses = [{"name": CONTAINER, "restartCount": 0, "containerID": container}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "payments", "uid": name, "labels": {}},
        "status": {
            "podIP": name,
            "containerStatuses": statuses,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def does(weight: int, requests: int = 0, healthy: int = 1) -> RouterState:
    route = RouteState("a", "b", weight, 0, closed=False, version=str(weight))
    arm = ArmState(1, healthy, ArmCounters(requests))
    return RouterState({"fraud": route}, {("fraud", "b"): arm}, frozenset(), frozenset({"fraud"}))


class Cluster:
    """Stands for the store: router pods by name."""

    def __init__(self, *names: str) -> None:
        self.pods = {name: pod(name) for name in names}

    def children(self, _: Key) -> list[dict[str, Any]]:
        return list(self.pods.values())

    def lives(self) -> frozenset[str]:
        return frozenset(life_of(found, CONTAINER) for found in self.pods.values())


class Bench:
    """Attributes:
    states: what each router says; one that is missing does not answer.
    reads: seconds at which each was read.
    known: what the reader was told to be known, likewise.
    changed: keys that were to be worked on.
    """

    def __init__(self) -> None:
        self.now = BEGIN
        self.cluster = Cluster("one", "two")
        self.states = {"one": does(0), "two": does(0)}
        self.reads: list[tuple[float, str]] = []
        self.known: list[RouterState | None] = []
        self.changed: list[Key] = []
        self.observer = RouterObserver(
            self.cluster,  # type: ignore[arg-type]
            self._read,
            self.changed.append,
            lambda: self.now,
            lambda: 0.5,
        )

    async def _read(self, target: Endpoint, known: RouterState | None) -> RouterState | None:
        self.known.append(known)
        self.reads.append(((self.now - BEGIN).total_seconds(), target.host))
        return self.states.get(target.host)

    async def until(self, second: float) -> list[Key]:
        """Look at all that is due until then; what changed meanwhile."""
        self.changed.clear()
        until = BEGIN + timedelta(seconds=second)
        pool = self.observer.pool
        await pool.drain()
        while (due := pool.first()) is not None and due <= until:
            self.now = max(self.now, due)
            await pool.drain()
        self.now = until
        return list(self.changed)

    def subscribe(self, seconds: float, after: datetime | None = None) -> None:
        self.observer.subscribe(GROUP, RouterInterest(seconds, self.cluster.lives(), after))

    def read_at(self, name: str = "one") -> list[float]:
        return [at for at, found in self.reads if found == name]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.subscribe(30.0)
    yield bench
    bench.observer.forget(GROUP)
    assert not bench.observer._groups
    assert bench.observer.pool.first() is None


async def test_they_are_read_as_often_as_is_asked_and_what_they_count_is_no_news(bench: Bench) -> None:
    assert await bench.until(1) == [GROUP]
    for second in range(30, 120, 30):
        bench.states = {"one": does(0, second), "two": does(0, second)}
        assert await bench.until(second + 1) == []
    assert bench.read_at() == [0.0, 30.0, 60.0, 90.0]
    bench.subscribe(2.0)
    await bench.until(96)
    assert bench.read_at()[4:] == [92.0, 94.0, 96.0]


async def test_at_rest_it_is_enough_that_they_do_what_they_did(bench: Bench) -> None:
    await bench.until(1)
    assert bench.known == [None, None]
    first = bench.observer.reading(GROUP)
    assert first is not None
    await bench.until(31)
    assert bench.known[2:] == [does(0), does(0)]
    second = bench.observer.reading(GROUP)
    assert second is not None
    assert (second.at, second.counted_at) == (first.at + timedelta(seconds=30), first.at)
    await bench.until(301)
    assert bench.known[-2:] == [None, None], "every five minutes they are read whole"


async def test_who_counts_waits_or_follows_has_them_read_whole(bench: Bench) -> None:
    await bench.until(1)
    bench.observer.subscribe_look(GROUP, MODEL, BEGIN + timedelta(seconds=10))
    await bench.until(11)
    bench.observer.subscribe_look(GROUP, MODEL, None)
    bench.subscribe(30.0, after=BEGIN + timedelta(seconds=20))
    await bench.until(50)
    bench.subscribe(2.0)
    await bench.until(60)
    assert set(bench.known) == {None}
    reading = bench.observer.reading(GROUP)
    assert reading is not None
    assert reading.at == reading.counted_at


@pytest.mark.parametrize("other", [does(10), does(0, healthy=0), None])
async def test_what_one_of_them_does_otherwise_is_news(bench: Bench, other: RouterState | None) -> None:
    await bench.until(1)
    before = bench.observer.reading(GROUP)
    if other is None:
        del bench.states["two"]
    else:
        bench.states["two"] = other
    assert await bench.until(31) == [GROUP]
    after = bench.observer.reading(GROUP)
    assert before is not None
    assert after is not None
    assert before.number != after.number


async def test_a_new_router_or_one_that_restarted_is_read_at_once_even_while_another_is_silent(
    bench: Bench,
) -> None:
    del bench.states["two"]
    await bench.until(20)
    bench.cluster.pods["one"] = pod("one", container="2")
    bench.subscribe(30.0)
    assert await bench.until(20) == [GROUP]
    assert bench.read_at()[-1] == 20.0


async def test_a_router_that_goes_while_it_is_of_interest_is_not_looked_for_all_the_time(
    bench: Bench,
) -> None:
    await bench.until(1)
    bench.cluster.pods["three"] = pod("three")
    bench.subscribe(30.0)
    del bench.cluster.pods["three"]
    await bench.until(50)
    assert bench.read_at() == [0.0, 1.0, 31.0]


async def test_a_reading_after_they_were_told_something_is_news_whatever_it_shows(bench: Bench) -> None:
    await bench.until(10)
    bench.subscribe(0.05, after=bench.now)
    assert await bench.until(10.06) == [GROUP]
    assert await bench.until(10.5) == []


async def test_a_look_is_read_for_when_it_is_due_and_its_model_is_told(bench: Bench) -> None:
    await bench.until(1)
    bench.observer.subscribe_look(GROUP, MODEL, BEGIN + timedelta(seconds=12.5))
    assert await bench.until(12) == []
    assert await bench.until(20) == [MODEL]
    assert bench.read_at() == [0.0, 12.5]
    bench.observer.subscribe_look(GROUP, MODEL, None)
    await bench.until(50)
    assert bench.read_at() == [0.0, 12.5, 42.5]


def many(models: int) -> RouterState:
    """A router that splits traffic of so many models."""
    arms = {(f"m{number}", arm): ArmState() for number in range(models) for arm in ("a", "b")}
    return replace(does(10), arms=arms)


async def test_many_looks_are_read_for_together_where_a_reading_takes_long(bench: Bench) -> None:
    """A hundred rollouts of a namespace whose looks are due one after the other within thirty seconds."""
    bench.states = {"one": many(100), "two": many(100)}
    bench.subscribe(2.0)
    await bench.until(1)
    models = [Key("payments", f"m{number}") for number in range(100)]
    for number, model in enumerate(models):
        bench.observer.subscribe_look(GROUP, model, BEGIN + timedelta(seconds=10 + number * 0.3))
    bench.reads.clear()
    assert sorted(set(await bench.until(45))) == sorted(models)
    apart = [later - at for at, later in pairwise(bench.read_at())]
    assert bench.observer.pace(400) == pytest.approx(1.2)
    assert min(apart) == pytest.approx(1.2)
    assert max(apart) <= 2.0


async def test_the_more_groups_have_rollouts_the_less_often_each_is_read_and_those_at_rest_do_not_count(
    bench: Bench,
) -> None:
    bench.subscribe(2.0)
    others = [Key(f"n{number}", "", routers=True) for number in range(100)]
    for other in others:
        bench.observer.subscribe(other, RouterInterest(30.0, frozenset()))
    assert bench.observer.pace(400) == pytest.approx(1.2)
    for other in others:
        bench.observer.subscribe(other, RouterInterest(2.0, frozenset()))
    assert bench.observer.pace(400) == pytest.approx(400 * ARM_SECONDS * 101 / SHARE_OF_ALL)
    # All together take their share of the operator's time and no more.
    assert 101 * 400 * ARM_SECONDS / bench.observer.pace(400) == pytest.approx(SHARE_OF_ALL)
    for other in others:
        bench.observer.forget(other)
    assert bench.observer.pace(400) == pytest.approx(1.2)


async def test_routers_of_few_models_are_read_as_fast_as_they_follow(bench: Bench) -> None:
    bench.subscribe(0.05)
    await bench.until(1)
    assert len(bench.read_at()) == 21


async def test_a_silent_router_is_read_less_and_less_often(bench: Bench) -> None:
    bench.subscribe(2.0)
    del bench.states["two"]
    await bench.until(200)
    gaps = [later - at for at, later in zip(bench.read_at(), bench.read_at()[1:], strict=False)]
    assert gaps == [2.0, 2.0, 4.0, 8.0, 16.0, *[30.0] * 5]


async def test_once_a_silent_router_is_gone_the_others_are_read_at_once(bench: Bench) -> None:
    bench.subscribe(2.0)
    del bench.states["two"]
    await bench.until(100)
    del bench.cluster.pods["two"]
    bench.subscribe(2.0)
    await bench.until(105)
    assert bench.read_at()[-3:] == [100.0, 102.0, 104.0]


ROUTE = Route("fraud", 10000, Arm("a", "a", 80, 81), Arm("b", "b", 80, 81), weight=10)


def group(*told: tuple[Route, float]) -> Group:
    """Routers that were told something, at so many seconds."""
    here, found = Group(), Cluster("one")
    for route, second in told:
        here.tell([route], BEGIN + timedelta(seconds=second))
    assert here.take(found.children(GROUP), reading(found, told[0][0], 5.0))
    return here


def reading(found: Cluster, route: Route, second: float) -> RouterReading:
    state = RouterState(
        {"fraud": RouteState("a", "b", route.weight, 0, closed=False, version=version(route))},
        {},
        frozenset(defined(route)),
        frozenset({"fraud"}),
    )
    at = BEGIN + timedelta(seconds=second)
    return RouterReading(at, at, 1, dict.fromkeys(found.lives(), state))


def test_what_was_read_before_routers_were_told_is_no_proof_that_they_do_it() -> None:
    """Told 10 %, then none, then 10 % again: what was read at first may be over by now."""
    none = replace(ROUTE, weight=0)
    fresh = group((ROUTE, 1.0))
    assert fresh.follows(ROUTE)
    assert fresh.traffic("fraud").complete
    stale = group((ROUTE, 1.0), (none, 6.0), (ROUTE, 7.0))
    assert not stale.follows(ROUTE)
    assert not stale.traffic("fraud").complete
    assert stale.wanted_after == BEGIN + timedelta(seconds=7)
    assert stale.take(Cluster("one").children(GROUP), reading(Cluster("one"), ROUTE, 7.1))
    assert stale.follows(ROUTE)
    assert stale.wanted_after is None


def test_routers_that_nobody_has_tried_to_read_are_waited_for() -> None:
    here, found = Group(), Cluster("one", "two")
    assert not here.take(found.children(GROUP), None)
    assert not here.take(found.children(GROUP), reading(Cluster("one"), ROUTE, 1.0))
    assert not here.seen
    assert here.take(found.children(GROUP), reading(found, ROUTE, 1.0))
    assert here.seen


def test_counts_are_of_what_routers_were_known_to_do_when_they_were_read() -> None:
    here, found = group((ROUTE, 1.0)), Cluster("one")
    (life,) = found.lives()
    newer = replace(reading(found, ROUTE, 9.0), states={life: does(10, requests=7)})
    other = replace(newer, number=2, states={life: does(50, requests=9)})
    seen = here.living(newer, BEGIN)[life]
    assert seen is not None
    assert seen.arms["fraud", "b"].counters.requests == 7
    older = here.living(other, BEGIN)[life]
    assert older is not None
    assert ("fraud", "b") not in older.arms
    assert here.living(other, BEGIN + timedelta(seconds=6)) == {life: None}
    assert here.living(newer, BEGIN + timedelta(seconds=10)) == {life: None}
