"""Answers of both revisions to the very same requests, through the engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.world import World

GATE = {"name": "alike", "type": "ShadowAgreement"}


def spec(version: int, *gates: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setMirror": {"percent": 100}}, {"analysis": {}}, {"setMirror": {"percent": 0}}],
            "analysis": {"gates": list(gates)},
        },
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves behind its routers, at 50 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(1, GATE))
    world.routers.requests_per_second = 50
    await world.run(60)
    return world


async def test_a_version_that_answers_alike_takes_over_and_its_pods_are_asked_no_more(world: World) -> None:
    world.routers.unlike_rate = 0.01
    world.create(spec(2, GATE))
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    assert world.routers.weights == [0, 100, 0]


async def test_a_version_that_answers_otherwise_is_rejected(world: World) -> None:
    world.routers.unlike_rate = 0.1
    world.create(spec(2, GATE))
    await world.run(300)
    assert world.status()["stable"]["version"] == "1"
    message = world.status()["rejected"][0]["message"]
    assert message.startswith("gate alike: ")
    assert "requests were answered otherwise by the canary: evidence " in message
    assert message.endswith("≥ 100 of agreement below 98%")


async def test_each_gate_has_a_limit_of_its_own_and_a_restart_counts_nothing_twice(world: World) -> None:
    world.routers.unlike_rate = 0.1
    strict = {**GATE, "name": "strict", "minAgreement": "98%", "dryRun": True}
    lax = {**GATE, "name": "lax", "minAgreement": "80%"}
    held = spec(2, strict, lax)
    held["rollout"]["steps"].insert(2, {"pause": {"untilApproved": True}})
    world.create(held)
    await world.run(100)
    await world.restart()
    await world.run(100)
    rollout = world.status()["rollout"]
    assert [gate["verdict"] for gate in rollout["gates"]] == ["Fail", "Pass"]
    for look in rollout["looks"]:
        assert look.get("pairs", 0) <= look["canaryRequests"] + 100
    assert sum(look.get("pairs", 0) for look in rollout["looks"]) > 5000


async def test_pods_that_do_not_say_what_they_answered_give_no_verdict(world: World) -> None:
    world.routers.silent = True
    world.create(spec(2, GATE))
    await world.run(200)
    rollout = world.status()["rollout"]
    assert (rollout["step"], rollout["mirrorPercent"]) == (1, 100)
    assert rollout["gates"][0]["verdict"] == "Inconclusive"
    assert rollout["gates"][0]["message"].startswith("0 of 0 requests")
