"""A cluster without room for a pod: named at once, and a person is called only where it stays so."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli.waiting import Outcome, progress
from slipway.core.observed import rfc3339
from tests.unit.test_argocd import health
from tests.unit.world import KIND, NAME, NAMESPACE, World

QUOTA = 'pods "x" is forbidden: exceeded quota: compute, limited: limits.memory=1Gi'
DEMAND = 'pods "x" is forbidden: failed quota: compute: must specify limits.memory for: server'


def no_room(world: World) -> dict[str, Any]:
    """What the scheduler says of a pod that it has just looked at."""
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    said = {
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
        "lastTransitionTime": rfc3339(world.now),
    }
    return {"phase": "Pending", "conditions": [{**scheduled, **said}]}


def outcome(world: World) -> Outcome:
    """What `kubectl slipway status --wait` and the notebook's `wait` make of it."""
    return progress(world.kube.find(KIND, NAMESPACE, NAME)).outcome


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=["no node", "no node for the resolver", "quota"])
def crowded(request: pytest.FixtureRequest, world: World) -> tuple[World, str]:
    """A world without room, and the reason that is said of it."""
    if request.param == "quota":
        world.pods_refused = QUOTA
        return world, "QuotaExceeded"
    waiting = no_room(world)
    if request.param == "no node for the resolver":
        world.resolver_waits = waiting
    else:
        world.pod_status = lambda _: waiting
    return world, "Unschedulable"


async def test_room_that_comes_within_minutes_fails_nobody(crowded: tuple[World, str]) -> None:
    world, reason = crowded
    world.create()
    for _ in range(4):
        await world.run(60)
        assert world.said()["Ready"] == f"False {reason}"
        assert world.said()["Reconciling"] == f"True {reason}"
        assert "Stalled" not in world.said()
        assert outcome(world) is Outcome.OPEN
        assert health(world.kube.find(KIND, NAMESPACE, NAME))["status"] == "Progressing"
    world.pods_refused, world.resolver_waits, world.pod_status = None, None, lambda _: None
    await world.run(60)
    assert outcome(world) is Outcome.DONE
    assert world.said()["Ready"] == "True Serving"


async def test_room_that_does_not_come_within_five_minutes_calls_for_a_person(
    crowded: tuple[World, str],
) -> None:
    world, reason = crowded
    world.create()
    await world.run(310)
    assert world.said()["Stalled"] == f"True {reason}"
    assert "Reconciling" not in world.said()
    assert outcome(world) is Outcome.FAILED


async def test_a_pod_that_got_its_node_is_not_said_to_have_none(world: World) -> None:
    waiting = no_room(world)
    world.pod_status = lambda _: waiting
    world.create()
    await world.run(400)
    starting = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
    world.pod_status = lambda _: starting
    await world.run(5)
    assert world.said()["RevisionReady"] == "Unknown Starting"
    assert outcome(world) is Outcome.OPEN


async def test_what_a_quota_demands_of_every_pod_calls_for_a_person_at_once(world: World) -> None:
    world.pods_refused = DEMAND
    world.create()
    await world.run(20)
    assert world.said()["Stalled"] == "True QuotaExceeded"
    assert outcome(world) is Outcome.FAILED
