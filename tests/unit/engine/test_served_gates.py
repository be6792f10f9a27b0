"""Gates that ask the pods themselves, through the engine: violations of the contract, and other answers."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.observed import ObjectKind
from tests.unit.world import NAMESPACE, World

VIOLATIONS = {"name": "contract", "type": "Violations"}
SHIFT = {"name": "answers", "type": "PredictionShift", "dryRun": False}


def spec(version: int, *gates: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setWeight": 10}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}],
            "analysis": {"gates": list(gates)},
        },
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves behind its routers, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(1, VIOLATIONS))
    world.routers.requests_per_second = 200
    await world.run(60)
    return world


def stable(world: World) -> str:
    return str(world.status()["stable"]["revision"])


async def test_a_version_that_refuses_what_clients_send_is_rolled_back(world: World) -> None:
    before = stable(world)
    world.routers.violation_rate = lambda revision: 0.001 if revision == before else 0.1
    world.create(spec(2, VIOLATIONS))
    await world.run(600)
    assert stable(world) == before
    (rejected,) = world.status()["rejected"]
    assert rejected["message"] == (
        "gate contract: canary 58 requests against the input contract in 596, stable 4 in 5380: "
        "evidence 6e+41 ≥ 100 of more than 1.25 times stable's rate"
    )


async def test_a_version_that_keeps_the_contract_as_stable_does_takes_over(world: World) -> None:
    world.routers.violation_rate = lambda _: 0.03
    world.create(spec(2, VIOLATIONS, SHIFT))
    await world.run(2000)
    assert world.status()["stable"]["version"] == "2"
    assert world.routers.weights == [0, 10, 50, 100, 0]


async def test_a_version_that_answers_otherwise_is_rolled_back_where_the_gate_acts(world: World) -> None:
    before = stable(world)
    world.routers.answers = lambda revision: (
        {"0": 0.9, "1": 0.1} if revision == before else {"0": 0.4, "1": 0.6}
    )
    world.create(spec(2, SHIFT))
    await world.run(900)
    assert stable(world) == before
    assert "gate answers: PSI 1.3" in world.status()["rejected"][0]["message"]


async def test_another_answer_is_told_and_stops_nobody_unless_the_gate_is_made_to_act(world: World) -> None:
    before = stable(world)
    world.routers.answers = lambda revision: (
        {"0": 0.9, "1": 0.1} if revision == before else {"0": 0.4, "1": 0.6}
    )
    world.create(spec(2, {"name": "answers", "type": "PredictionShift"}, VIOLATIONS))
    said = []
    world.kube.listeners.append(
        lambda _, found: said.append((found.get("status") or {}).get("rollout", {}).get("gates"))
    )
    await world.run(2000)
    assert world.status()["stable"]["version"] == "2"
    assert any(gates and gates[0]["verdict"] == "Fail" for gates in said)


async def test_pods_that_cannot_be_read_give_no_verdict(world: World) -> None:
    before = stable(world)
    world.routers.violation_rate = lambda revision: 0.0 if revision == before else 0.5
    world.routers.silent = True
    world.create(spec(2, VIOLATIONS, SHIFT))
    await world.run(200)
    rollout = world.status()["rollout"]
    assert rollout["step"] == 1
    assert [gate["verdict"] for gate in rollout["gates"]] == ["Inconclusive"] * 2
    assert rollout["gates"][0]["message"] == "the pods' own counters could not be read yet"
    world.routers.silent = False
    await world.run(120)
    assert stable(world) == before
    assert world.status()["rejected"]


async def test_pods_that_come_and_go_and_a_restarted_operator_count_nothing_twice(world: World) -> None:
    world.routers.violation_rate = lambda _: 0.1
    paused = spec(2, {**VIOLATIONS, "dryRun": True})
    paused["rollout"]["steps"] = [{"setWeight": 50}, {"pause": {"untilApproved": True}}]
    world.create(paused)
    await world.run(100)
    (victim, *_) = [
        pod["metadata"]["name"]
        for pod in world.kube.all(ObjectKind.POD)
        if pod["metadata"]["labels"].get("slipway.dev/revision") == world.status()["canary"]["revision"]
    ]
    world.kube.drop(("Pod", NAMESPACE, victim))
    await world.run(100)
    await world.restart()
    await world.run(200)
    looks = world.status()["rollout"]["looks"]
    assert len(looks) >= 8
    for look in looks:
        # What a pod that is gone counted since the last look is lost; nothing ever counts double.
        assert look["canaryServed"] <= look["canaryRequests"] + 400
        assert look["canaryEvents"][0] == pytest.approx(look["canaryServed"] / 10, rel=0.02)
