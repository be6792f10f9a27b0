"""A server of one's own is rolled out, judged by what routers count, and found bad as any other."""

from __future__ import annotations

from typing import Any

from slipway.core.observed import ObjectKind
from tests.unit.world import World

RUNTIME: dict[str, Any] = {
    "server": "External",
    "image": "registry.example.com/team/server:1",
    "ports": {"http": 8000},
    "readiness": {"path": "/healthz"},
    "protocol": "HTTP",
}
ANALYSIS = {
    "intervalSeconds": 10,
    "gates": [{"name": "errors", "type": "ErrorRate", "objective": "1%"}],
}


def spec(version: int, runtime: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "runtime": RUNTIME if runtime is None else runtime,
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setWeight": 50}, {"analysis": {}}],
            "analysis": ANALYSIS,
        },
    }


async def serving(found: dict[str, Any]) -> World:
    world = World()
    await world.operator.start()
    world.create(found)
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


async def test_it_serves_and_what_is_not_watched_is_said() -> None:
    world = await serving(spec(1))
    assert world.status()["stable"]["server"] == {"httpPort": 8000, "readyPath": "/healthz"}
    assert world.said()["Watched"] == "False ExternalServer"
    assert "routers count requests, errors and latency" in world.message("Watched")
    # Nobody reads counters that it does not have, however long it serves.
    await world.run(1200)
    assert "monitoring" not in world.status()
    assert not {"Drift", "DataQuality", "Performance", "Fairness"} & set(world.said())
    (deployment,) = (
        found for found in world.kube.all(ObjectKind.DEPLOYMENT) if "router" not in found["metadata"]["name"]
    )
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["image"] == RUNTIME["image"]


async def test_a_good_one_takes_over_from_slipways_own_server_and_back() -> None:
    world = await serving(spec(1, {}))
    assert "server" not in world.status()["stable"]
    assert "Watched" not in world.said()
    world.create(spec(1))
    await world.run(1500)
    status = world.status()
    assert "rollout" not in status
    assert status["stable"]["server"]["httpPort"] == 8000
    assert not status.get("rejected")
    world.create(spec(1, {}))
    await world.run(1500)
    assert "server" not in world.status()["stable"]
    assert "Watched" not in world.said()


async def test_a_bad_one_is_rejected_by_what_routers_count_and_the_old_one_serves_on() -> None:
    world = await serving(spec(1))
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    world.create(spec(1, {**RUNTIME, "image": "registry.example.com/team/server:2"}))
    await world.run(600)
    status = world.status()
    assert status["stable"]["revision"] == stable
    assert len(status["rejected"]) == 1
    assert world.said()["RevisionReady"] == "False Rejected"
    # Another image is another revision, and is tried: it is a good one.
    world.routers.error_rate = lambda _: 0.0
    world.create(spec(1, {**RUNTIME, "image": "registry.example.com/team/server:3"}))
    await world.run(60)
    assert world.status()["stable"]["revision"] != stable
    assert world.said()["RevisionReady"] == "True Available"
