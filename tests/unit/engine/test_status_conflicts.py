"""A status that was made from the past: it is not written, and what it was made of is not lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from slipway.api.types import KIND
from slipway.engine.controller.apply import WEBHOOK_MANAGER, Writer
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import Request
from tests.unit.world import KEY, NAME, NAMESPACE, Operator, World

PLACE = (KIND, NAMESPACE, NAME)


async def served(version: int = 1) -> World:
    """This version serves behind its routers, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(version))
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def _annotate(world: World) -> None:
    def change(live: dict[str, object]) -> None:
        meta = live["metadata"]
        assert isinstance(meta, dict)
        meta.setdefault("annotations", {})["team"] = str(len(world.kube.requests))

    world.kube.edit(PLACE, change)


def _webhook(world: World) -> None:
    moment = datetime(2026, 11, 24, 12, len(world.kube.requests) % 60, tzinfo=UTC)
    status = {"refreshRequestedAt": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    world.kube._merge(PLACE, {"status": status}, WEBHOOK_MANAGER)


class Meddler:
    """Somebody changes the resource right before every first try to write its status."""

    def __init__(self, world: World, change: Callable[[World], None], told: bool) -> None:
        self._world, self._change, self._told = world, change, told
        self._refused = False
        self.tries = 0
        self.conflicts = 0

    def __call__(self, request: Request) -> None:
        if (request.verb, request.kind) != ("apply_status", KIND):
            return
        self.tries += 1
        self._refused = not self._refused
        if self._refused:
            self.conflicts += 1
            listeners = self._world.kube.listeners
            if not self._told:
                self._world.kube.listeners = []
            self._change(self._world)
            self._world.kube.listeners = listeners


@pytest.mark.parametrize("told", [True, False], ids=["watch tells", "watch lags"])
@pytest.mark.parametrize("change", [_annotate, _webhook])
async def test_a_rollout_whose_every_status_is_refused_once_loses_no_counts_and_ends_the_same(
    change: Callable[[World], None], told: bool
) -> None:
    counted = []
    for disturbed in (False, True):
        world = await served()
        world.routers.requests_per_second = 40
        writes = len(world.kube.requests)
        if disturbed:
            world.kube.before = meddler = Meddler(world, change, told)
        world.create(spec(2))
        await world.run(100)
        looks = world.status()["rollout"]["looks"]
        counted.append(sum(look["canaryRequests"] for look in looks))
        await world.run(2400)
        assert world.status()["stable"]["version"] == "2"
        assert "rollout" not in world.status()
        if not disturbed:
            undisturbed = sum(request.verb == "apply_status" for request in world.kube.requests[writes:])
        else:
            assert meddler.conflicts > 5
            # One more try for each, and one more for what the change itself brings about.
            assert meddler.tries <= 3 * undisturbed
    # 4 requests a second; each second try comes moments later, with all that the first was to tell.
    assert counted[1] == pytest.approx(counted[0], abs=4 * 15)
    assert counted[0] >= 4 * 89


async def test_a_leader_of_the_past_undoes_nothing_of_what_the_next_one_wrote() -> None:
    world = await served()
    old = world.operator
    # It stops and sees nothing any more, and another leads meanwhile.
    await world.restart()
    world.create(spec(2))
    await world.run(1300)
    after = world.status()
    assert after["stable"]["version"] == "2"
    before = len(world.kube.requests)
    await old.look(KEY)
    tried = [str(request) for request in world.kube.requests[before:] if request.verb == "apply_status"]
    assert len(tried) <= 1
    assert world.status() == after


async def _old_leader_in_mid_rollout() -> tuple[World, Operator]:
    world = await served()
    world.create(spec(2))
    await world.run(20)
    assert world.status()["rollout"]["weight"] == 10
    old = world.operator
    # It has read what its next look needs, and stops before it writes what that comes to.
    world.now += timedelta(seconds=15)
    world.routers.serve(15)
    assert await old.observe()
    await world.restart()
    await world.run(1300)
    assert world.status()["stable"]["version"] == "2"
    return world, old


async def test_a_leader_that_stopped_in_mid_rollout_does_not_run_it_backwards() -> None:
    world, old = await _old_leader_in_mid_rollout()
    after = world.status()
    await old.look(KEY)
    assert [error.code for error in old.errors] == [409]
    assert world.status() == after
    # It read again what it was wrong about, and finds nothing to say.
    known, there = old.store.resource(KEY), world.kube.find(*PLACE)
    assert known is not None
    assert known["status"] == there["status"]
    assert known["metadata"]["resourceVersion"] == there["metadata"]["resourceVersion"]
    await world.run(30)
    assert world.status()["stable"] == after["stable"]


async def test_a_resource_that_was_made_again_meanwhile_gets_no_status_of_the_one_before() -> None:
    world = World()
    await world.operator.start()
    world.create()
    await world.settle()
    first = world.operator.store.resource(KEY)
    assert first is not None
    world.operator.end()
    world.kube.drop(PLACE)
    world.create()
    await world.operator.look(KEY)
    assert world.kube.find(*PLACE)["status"] == {"observedGeneration": 0}
    writer = Writer(world.kube, world.operator.store, "operator-0")
    with pytest.raises(Exception, match="409"):
        await writer.write_status(first, {"replicas": 7})
    assert world.kube.find(*PLACE)["status"] == {"observedGeneration": 0}
    known = world.operator.store.resource(KEY)
    assert known is not None
    assert known["metadata"]["uid"] != first["metadata"]["uid"]
