"""``status.history``: who and what decided, of rollouts of every kind, bounded and never twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.api.rollout_status import MAX_HISTORY
from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import KIND
from tests.unit.core.before import models as before
from tests.unit.engine.test_breaches import replaced
from tests.unit.engine.test_judging import SHIFTED
from tests.unit.world import NAME, NAMESPACE, World, resolution

STEPS = [{"setWeight": 10}, {"pause": {"untilApproved": True}}, {"setWeight": 50}, {"pause": {"seconds": 60}}]


def spec(number: int, **rollout: Any) -> dict[str, Any]:
    found = {"strategy": "Canary", "steps": STEPS, **rollout}
    return {"model": {"uri": f"mlflow://fraud/{number}"}, "rollout": found}


@pytest.fixture
async def world() -> World:
    """Version 1 serves."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    return world


def told(world: World) -> list[tuple[str, str, str]]:
    """What was decided, of which version, and by whom."""
    return [
        (found["decision"], found.get("version", ""), found.get("by", "somebody" if found["person"] else ""))
        for found in world.status()["history"]
    ]


async def test_the_whole_way_of_a_version_is_there_with_who_let_it_go_on(world: World) -> None:
    world.annotate("slipway.dev/proposed-by", "bob")
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]
    world.annotate("slipway.dev/promote", f"{rollout}/1")
    world.annotate("slipway.dev/promote-by", f"{rollout}/1/alice")
    await world.run(220)
    assert told(world) == [
        ("Promoted", "1", ""),
        ("Began", "2", "bob"),
        ("Approved", "2", "alice"),
        ("Promoted", "2", ""),
    ]
    began, approved = world.status()["history"][1:3]
    assert began["message"] == "the spec asks for version 2"
    assert approved["rollout"] == rollout
    assert approved["message"] == "step 1"


async def test_a_name_that_moved_began_it_and_no_person(world: World) -> None:
    world.models["mlflow://fraud@champion"] = resolution(1)
    follows = {**spec(1), "model": {"uri": "mlflow://fraud@champion", "refreshSeconds": 60}}
    world.create(follows)
    await world.run(120)
    world.annotate("slipway.dev/proposed-by", "bob")
    world.models["mlflow://fraud@champion"] = resolution(2)
    await world.run(200)
    last = world.status()["history"][-1]
    assert (last["decision"], last["version"], last.get("by")) == ("Began", "2", None)
    assert last["message"] == "mlflow://fraud@champion is version 2 now"


async def test_a_change_of_mind_ends_a_rollout_as_superseded(world: World) -> None:
    world.create(spec(2))
    await world.run(60)
    world.create(spec(3))
    await world.run(60)
    assert told(world)[1:] == [("Began", "2", ""), ("Superseded", "2", ""), ("Began", "3", "")]
    world.create(spec(1))
    await world.run(60)
    assert told(world)[-1] == ("Superseded", "3", "")


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
async def test_what_takes_over_without_a_rollout_is_told_too(world: World, strategy: str) -> None:
    world.create({**spec(2), "rollout": {"strategy": strategy}})
    await world.run(200)
    assert told(world) == [("Promoted", "1", ""), ("Promoted", "2", "")]


async def test_an_abort_a_retry_and_the_gates_each_say_whose_it_was(world: World) -> None:
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]
    world.annotate("slipway.dev/abort", f"{rollout}/bob")
    await world.run(30)
    world.annotate("slipway.dev/retry-by", f"{rollout}/alice")
    world.annotate("slipway.dev/retry", rollout)
    await world.run(60)
    assert told(world)[1:] == [
        ("Began", "2", ""),
        ("Rejected", "2", "bob"),
        ("Retried", "2", "alice"),
        ("Began", "2", ""),
    ]


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Canary"])
async def test_a_breach_that_rolls_back_is_told_with_its_cause(strategy: str) -> None:
    world, traffic, _ = await replaced(strategy)
    known = len(world.status()["history"])
    await traffic.run(world, 600, SHIFTED)
    history = world.status()["history"][known:]
    rejected, *began, back = history
    assert (rejected["decision"], rejected["version"], rejected["person"]) == ("Rejected", "2", False)
    assert rejected["message"].startswith("rolled back: Drift is True")
    assert (back["decision"], back["version"]) == ("RolledBack", "1")
    assert [found["message"] for found in began] == (
        ["the revision that served was found bad"] if strategy == "Canary" else []
    )


async def test_it_is_bounded_and_what_an_attacker_writes_is_cut(world: World) -> None:
    world.create(spec(2))
    await world.run(60)
    for _ in range(MAX_HISTORY + 5):
        rollout = world.status()["rollout"]["id"]
        world.annotate("slipway.dev/pause", f"{rollout}/{'x' * 5000}")
        await world.run(10)
        world.annotate("slipway.dev/pause", None)
        await world.run(10)
    history = world.status()["history"]
    assert len(history) == MAX_HISTORY
    assert {found["decision"] for found in history} == {"Held", "Resumed"}
    assert len(json.dumps(history)) < 16_000


async def test_nothing_is_told_twice_by_restarts_or_when_nothing_happens(world: World) -> None:
    world.create(spec(2))
    await world.run(60)
    before_ = world.status()["history"]
    await world.restart()
    await world.run(60)
    world.annotate("example.com/other", "1")
    await world.run(60)
    assert world.status()["history"] == before_


async def test_a_status_of_before_is_carried_over_and_an_operator_of_before_reads_the_new_one(
    world: World,
) -> None:
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]

    def forget(live: dict[str, Any]) -> None:
        live["status"] = {name: value for name, value in live["status"].items() if name != "history"}

    world.kube.edit((KIND, NAMESPACE, NAME), forget, "slipway.dev/status")
    await world.restart()
    world.annotate("slipway.dev/promote", f"{rollout}/1/alice")
    await world.run(30)
    assert told(world) == [("Approved", "2", "alice")]
    assert world.status()["rollout"]["id"] == rollout
    before.RolloutStatus.model_validate(world.status()["rollout"])
    assert "history" not in ModelDeploymentStatus().model_dump(mode="json", exclude_none=True)
