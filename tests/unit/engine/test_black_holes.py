"""Endpoints that do not answer, in many namespaces, and how long others' events take: in virtual time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from slipway.api.types import KIND
from slipway.core.endpoint import Endpoint
from slipway.core.observed import ObjectKind
from slipway.engine.controller.workers import work
from slipway.engine.metrics.controller import Metrics
from slipway.engine.observers.routers import RouterObserver
from slipway.engine.queue import WorkQueue
from slipway.engine.result import Result
from slipway.engine.store import Key
from tests.unit.virtual_time import run
from tests.unit.world import NAME, NAMESPACE, Operator, World

P = ParamSpec("P")
T = TypeVar("T")

PLACE = (KIND, NAMESPACE, NAME)
BEGIN = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
#: As readers have it.
TIMEOUT = 5.0
#: Fewer than there are black holes.
WORKERS = 2
GATES = [{"name": "errors", "type": "ErrorRate"}, {"name": "contract", "type": "Violations"}]


class Queued(set[Key]):
    """Hands keys to the operator's real queue."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics(CollectorRegistry())
        self.queue: WorkQueue[Key] = WorkQueue(self.metrics)

    def add(self, key: Key) -> None:
        self.queue.add(key)

    def update(self, *keys: Iterable[Key]) -> None:
        for key in (key for some in keys for key in some):
            self.queue.add(key)


class LiveOperator(Operator):
    """Workers, and observers that watch by themselves."""

    def queue(self) -> set[Key]:
        return Queued()


class LiveWorld(World):
    """A world whose time is the event loop's.

    Attributes:
        silent: whether an address, or a namespace, does not answer.
    """

    operator_type = LiveOperator

    def __init__(self, silent: Callable[[str, str], bool]) -> None:
        super().__init__()
        self.silent = silent
        self.timeout = TIMEOUT
        self.asked = 0
        #: When what was read of a namespace.
        self.reads: dict[tuple[str, str], list[float]] = defaultdict(list)
        #: How long the longest run of each key took.
        self.waits: dict[Key, float] = {}
        self.operator.end()
        self.routers.read = self._slow("router", self.routers.read)  # type: ignore[method-assign]
        self.routers.read_pod = self._slow("pod", self.routers.read_pod)  # type: ignore[method-assign]
        self.pods.read = self._slow("counters", self.pods.read)  # type: ignore[method-assign]
        self.operator = self._operator()

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    @now.setter
    def now(self, _: datetime) -> None:
        """It goes on by itself."""

    def _slow(
        self, what: str, read: Callable[Concatenate[Endpoint, P], Awaitable[T | None]]
    ) -> Callable[Concatenate[Endpoint, P], Awaitable[T | None]]:
        async def slow(target: Endpoint, *args: P.args, **kwargs: P.kwargs) -> T | None:
            self.reads[what, target.namespace].append(asyncio.get_running_loop().time())
            if self.silent(what, target.namespace):
                self.asked += 1
                await asyncio.sleep(self.timeout)
                return None
            return await read(target, *args, **kwargs)

        return slow

    async def controllers(self) -> None:
        """The cluster's other controllers, and traffic."""
        while True:
            self._act()
            self.routers.serve(0.5)
            await asyncio.sleep(0.5)

    def is_ready(self) -> bool:
        told = self.kube.find(*PLACE).get("status", {})
        return "conditions" in told and self.said().get("Ready") == "True Serving"

    def weight(self) -> int:
        return int(self.status().get("rollout", {}).get("weight", 0))

    def replicas(self) -> int:
        found = self.kube.all(ObjectKind.AUTOSCALER)
        return max(
            int(one["spec"]["minReplicas"]) for one in found if one["metadata"]["namespace"] == NAMESPACE
        )

    async def until(self, holds: Callable[[], bool], seconds: float = 120) -> float:
        """Wait for something; the seconds that it took."""
        begun = asyncio.get_running_loop().time()
        while not holds():
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() - begun < seconds, self.status().get("rollout")
        return asyncio.get_running_loop().time() - begun


def spec(version: int, **fields: Any) -> dict[str, Any]:
    rollout = {
        "strategy": "Canary",
        "steps": [{"setWeight": 50}, {"analysis": {}}],
        "analysis": {"gates": GATES, "intervalSeconds": 10},
    }
    return {"model": {"uri": f"mlflow://fraud/{version}"}, "rollout": rollout, **fields}


def hole(number: int) -> str:
    return f"hole-{number}"


def is_hole(what: str, namespace: str) -> bool:
    """In every other namespace routers are silent, in the rest the models' pods are."""
    if not namespace.startswith("hole-"):
        return False
    return (what == "router") is (int(namespace.removeprefix("hole-")) % 2 == 0)


async def events(holes: int) -> tuple[dict[str, float], LiveWorld]:
    """How long what happens to one ModelDeployment takes, next to so many namespaces of black holes."""
    world = LiveWorld(is_hole)
    world.routers.requests_per_second = 100
    queued = world.operator.dirty
    assert isinstance(queued, Queued)
    await world.operator.start()
    tasks = [asyncio.create_task(world.controllers()), asyncio.create_task(world.operator.observers.watch())]

    async def reconcile(key: Key) -> Result:
        begun = asyncio.get_running_loop().time()
        try:
            return await world.operator.reconciler.reconcile(key)
        finally:
            took = asyncio.get_running_loop().time() - begun
            world.waits[key] = max(took, world.waits.get(key, 0.0))

    tasks += [asyncio.create_task(work(queued.queue, reconcile, queued.metrics)) for _ in range(WORKERS)]
    own = {"traffic": {"router": "Dedicated"}}
    try:
        for number in range(holes):
            world.create(spec(1, **own), hole(number), hole(number))
        await asyncio.sleep(8)
        for number in range(holes):
            world.create(spec(2, **own), hole(number), hole(number))
        await asyncio.sleep(4)
        found = {}
        world.create(spec(1))
        found["first model ready"] = await world.until(world.is_ready)
        world.create(spec(2))
        found["half of the traffic"] = await world.until(lambda: world.weight() == 50)
        found["takes over"] = await world.until(lambda: world.status()["stable"]["version"] == "2")
        world.create(spec(2, scaling={"minReplicas": 3}))
        found["scaled"] = await world.until(lambda: world.replicas() == 3)
        return found, world
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queued.queue.close()


def test_black_holes_in_more_namespaces_than_there_are_workers_leave_others_events_as_they_are() -> None:
    calm, quiet = run(events(0))
    rough, world = run(events(6))
    assert quiet.asked == 0
    assert world.asked > 30, "they are asked all the time"
    assert len(world.waits) > 12
    assert set(world.waits.values()) == {0.0}, (
        "the API server answers at once here, and nobody else is waited for"
    )
    for what, seconds in calm.items():
        assert rough[what] == pytest.approx(seconds, abs=0.5), what


async def judged() -> list[float]:
    """When the counts of a monitored model were read, next to models whose pods never answer."""
    world = LiveWorld(lambda what, namespace: what == "counters" and namespace.startswith("hole-"))
    world.timeout = 10_000.0
    queued = world.operator.dirty
    assert isinstance(queued, Queued)
    await world.operator.start()
    tasks = [asyncio.create_task(world.controllers()), asyncio.create_task(world.operator.observers.watch())]
    tasks.append(asyncio.create_task(work(queued.queue, world.operator.reconciler.reconcile, queued.metrics)))
    world.pods.profile = {"age": {"0": 0.5, "1": 0.5}}
    try:
        for number in range(6):
            world.create({"model": {"uri": "mlflow://fraud/1"}}, NAME, hole(number))
        world.create({"model": {"uri": "mlflow://fraud/1"}, "monitoring": {"drift": {}}})
        await world.until(world.is_ready)
        await asyncio.sleep(100)
        assert world.asked
        return world.reads["counters", NAMESPACE]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queued.queue.close()


def test_pods_that_never_answer_keep_no_other_model_from_being_judged() -> None:
    read = run(judged())
    assert len(read) >= 100 / 20
    assert max(later - earlier for earlier, later in pairwise(read)) <= 20


async def test_a_reader_that_reconcile_calls_fails_the_test_that_sees_it() -> None:
    world = World()
    world.operator.reconciling = True
    for observer in (world.operator.observers.routers, world.operator.aliases):
        read = observer._read if isinstance(observer, RouterObserver) else observer._ask
        assert read is not None
        with pytest.raises(AssertionError, match="reconcile waits for"):
            await read(None)  # type: ignore[arg-type]
