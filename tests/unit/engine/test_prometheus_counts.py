"""Rollouts whose errors and slow requests are read from a Prometheus, through the engine."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.allowed import Allowed
from slipway.core.observed import ObjectKind
from slipway.core.traffic.envoy.objects import is_router
from tests.unit.world import World

ADDRESS = "http://prometheus.monitoring:9090"


def spec(version: int, **prometheus: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setWeight": 10}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}],
            "analysis": {"prometheus": {"address": ADDRESS, **prometheus}},
        },
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves behind its routers, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.routers.requests_per_second = 200
    await world.run(60)
    return world


def stable(world: World) -> str:
    return str(world.status()["stable"]["revision"])


async def test_a_good_version_takes_over_and_a_bad_one_is_rolled_back(world: World) -> None:
    world.create(spec(2))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert {address for address, _ in world.prometheus.asked} == {ADDRESS}
    before = stable(world)
    world.routers.error_rate = lambda revision: 0.0005 if revision == before else 0.05
    world.create(spec(3))
    await world.run(600)
    assert stable(world) == before
    assert "gate error-rate: canary " in world.status()["rejected"][0]["message"]


async def test_no_counts_of_another_split_are_taken_for_this_one(world: World) -> None:
    looks: list[Any] = []
    world.kube.listeners.append(
        lambda _, found: looks.extend((found.get("status") or {}).get("rollout", {}).get("looks", ()))
    )
    world.create(spec(2))
    await world.run(600)
    assert world.routers.weights == [0, 10, 50, 100, 0]
    assert len(looks) > 2
    for look in looks:
        share = look["canaryRequests"] / (look["canaryRequests"] + look["stableRequests"])
        assert share == pytest.approx(0.1, abs=0.002) or share == pytest.approx(0.5, abs=0.002)


async def test_a_prometheus_that_does_not_answer_holds_the_weights_and_pauses(world: World) -> None:
    world.create(spec(2))
    await world.run(10)
    assert world.status()["rollout"]["weight"] == 10
    world.prometheus.down = f"{ADDRESS} does not answer: TimeoutError"
    await world.run(95)
    assert world.status()["rollout"]["evidenceErrors"] == 3
    assert world.status()["rollout"]["phase"] == "Progressing"
    await world.restart()
    await world.run(300)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"], rollout["step"]) == ("Paused", 10, 1)
    assert rollout["message"] == (
        f"holds, since there is no evidence to be had: {ADDRESS} does not answer: TimeoutError"
    )
    assert world.said()["Ready"] == "True Serving"
    world.prometheus.down = ""
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"


async def test_a_router_that_is_not_scraped_is_an_error_that_says_so(world: World) -> None:
    (name, *_) = [pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)]
    world.prometheus.blind = {name}
    world.create(spec(2, consecutiveErrorLimit=1))
    await world.run(300)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"]) == ("Paused", 10)
    assert f"there are no samples of router pod {name} within 180 s" in rollout["message"]


async def test_a_person_may_abort_while_there_is_no_evidence(world: World) -> None:
    world.prometheus.down = "it is down"
    world.create(spec(2, consecutiveErrorLimit=1))
    await world.run(120)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(60)
    assert world.status()["rejected"][0]["message"] == "aborted by a person"


async def test_a_prometheus_that_is_not_allowed_is_not_asked_and_says_what_to_do(world: World) -> None:
    world.allowed = Allowed()
    await world.restart()
    await world.run(60)
    world.prometheus.asked.clear()
    found = world.said()
    assert found["Stalled"] == "True PrometheusNotAllowed"
    assert found["Ready"] == "True Serving", "the model has no part in it"
    world.create(spec(2))
    await world.run(600)
    assert world.prometheus.asked == []
    assert world.status()["rollout"]["phase"] == "Paused"
    assert "rollouts.prometheus.addresses" in world.status()["rollout"]["message"]
    assert world.status()["stable"]["version"] == "1"
