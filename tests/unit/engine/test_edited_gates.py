"""Gates and steps that are edited while a canary is half way, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slipway.api.types import KIND
from tests.unit.core.before import models as before
from tests.unit.world import NAME, NAMESPACE, World

CONTRACT = {"name": "contract", "type": "Violations", "dryRun": True}
ERRORS = {"name": "errors", "type": "ErrorRate"}
STEPS = [{"setWeight": 50}, {"pause": {"untilApproved": True}}]


def spec(version: int, *gates: dict[str, Any], steps: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    rollout = {"strategy": "Canary", "steps": steps or STEPS, "analysis": {"gates": list(gates)}}
    return {"model": {"uri": f"mlflow://fraud/{version}"}, "scaling": {"minReplicas": 2}, "rollout": rollout}


@pytest.fixture
async def world() -> World:
    """Version 2 is at 50% for five minutes: nothing fails, but it refuses what stable takes."""
    world = World()
    await world.operator.start()
    world.create(spec(1, CONTRACT, ERRORS))
    world.routers.requests_per_second = 200
    await world.run(60)
    stable = str(world.status()["stable"]["revision"])
    world.routers.violation_rate = lambda revision: 0.001 if revision == stable else 0.1
    world.create(spec(2, CONTRACT, ERRORS))
    await world.run(300)
    assert verdicts(world) == {"contract": "Fail", "errors": "Pass"}
    return world


def verdicts(world: World) -> dict[str, str]:
    return {gate["name"]: gate["verdict"] for gate in world.status()["rollout"]["gates"]}


def as_version_0_1(world: World) -> None:
    """A ``helm rollback``: it reads the status, and writes back what it knows of it."""

    def change(live: dict[str, Any]) -> None:
        read = before.RolloutStatus.model_validate(live["status"]["rollout"])
        live["status"]["rollout"] = read.model_dump(mode="json", exclude_none=True)

    world.kube.edit((KIND, NAMESPACE, NAME), change)


def nothing(world: World) -> None:
    assert world.status()["rollout"]["steps"], "what version 0.1 does not write"


@pytest.mark.parametrize("first", [nothing, as_version_0_1])
async def test_reordered_gates_are_judged_by_their_own_counts(
    world: World, first: Callable[[World], None]
) -> None:
    first(world)
    await world.restart()
    await world.run(5)
    counted = sum(look["canaryRequests"] for look in world.status()["rollout"]["looks"])
    world.create(spec(2, ERRORS, CONTRACT))
    await world.run(100)
    assert "rejected" not in world.status() or not world.status()["rejected"]
    assert verdicts(world) == {"errors": "Pass", "contract": "Fail"}
    (errors, _) = world.status()["rollout"]["gates"]
    assert errors["message"].startswith("canary 0 errors in ")
    assert int(errors["message"].split()[4].rstrip(",")) > counted, "nothing was forgotten"


@pytest.mark.parametrize("first", [nothing, as_version_0_1])
async def test_a_gate_that_asks_something_else_by_the_same_name_is_not_judged_by_the_old_counts(
    world: World, first: Callable[[World], None]
) -> None:
    first(world)
    await world.run(5)
    world.create(spec(2, {"name": "contract", "type": "ErrorRate"}, ERRORS))
    await world.run(100)
    assert not world.status().get("rejected")
    assert verdicts(world) == {"contract": "Pass", "errors": "Pass"}


async def test_an_analysis_put_in_before_the_pause_is_gone_through(world: World) -> None:
    strict = {**CONTRACT, "dryRun": False, "name": "strict"}
    world.create(spec(2, strict, ERRORS, steps=[STEPS[0], {"analysis": {}}, STEPS[1]]))
    await world.run(5)
    assert world.status()["rollout"]["step"] == 1
    await world.run(60)
    assert "gate strict" in world.status()["rejected"][0]["message"]
