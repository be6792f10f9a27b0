"""Whole rollouts by numbers of pods: one Service, and nothing between it and the pods."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.observed import ObjectKind, is_ready, revision_of_object
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, Killed, World

PAUSE = {"pause": {"untilApproved": True}}


def spec(version: int, *steps: dict[str, Any], least: int = 4) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": least, "maxReplicas": 10},
        "traffic": {"provider": "ReplicaRatio"},
        "rollout": {"strategy": "Canary", "steps": list(steps) or [{"setWeight": 20}, PAUSE]},
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves with four pods."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def behind(world: World) -> dict[str, int]:
    """Ready endpoints of the Service by version of the model."""
    versions = {world.status()["stable"]["revision"]: world.status()["stable"]["version"]}
    if canary := world.status().get("canary"):
        versions[canary["revision"]] = canary["version"]
    pods = {pod["metadata"]["name"]: revision_of_object(pod) for pod in world.kube.all(ObjectKind.POD)}
    (slice_,) = [
        found
        for found in world.kube.all(ObjectKind.ENDPOINT_SLICE)
        if found["metadata"]["labels"]["kubernetes.io/service-name"] == NAME
    ]
    counts: dict[str, int] = {}
    for endpoint in slice_["endpoints"]:
        if endpoint["conditions"]["ready"]:
            version = versions.get(pods[endpoint["targetRef"]["name"]] or "", "?")
            counts[version] = counts.get(version, 0) + 1
    return counts


def approve(world: World) -> None:
    rollout = world.status()["rollout"]
    world.annotate("slipway.dev/promote", f"{rollout['id']}/{rollout['step']}")


async def test_no_router_is_made(world: World) -> None:
    world.create(spec(2))
    await world.run(120)
    assert world.kube.all(ObjectKind.CONFIG_MAP) == []
    assert "routerPort" not in world.status()


async def test_a_weight_is_the_share_of_ready_pods_behind_the_service(world: World) -> None:
    world.create(spec(2))
    await world.run(120)
    assert behind(world) == {"1": 4, "2": 1}
    assert world.status()["canaryWeight"] == 20
    assert world.said()["TrafficSynced"] == "True ApproximateSplit"
    assert world.message("TrafficSynced").startswith("about 20% of new connections are for the canary")


async def test_status_says_the_share_that_pods_make_where_the_weight_is_finer(world: World) -> None:
    world.create(spec(2, {"setWeight": 5}, PAUSE))
    await world.run(120)
    assert behind(world) == {"1": 4, "2": 1}
    assert world.status()["canaryWeight"] == 20
    assert world.message("TrafficSynced").endswith("; 5% are asked for")


async def test_a_canary_gets_nothing_before_its_first_step_says_so(world: World) -> None:
    world.create(spec(2, PAUSE, {"setWeight": 20}, PAUSE))
    await world.run(120)
    assert behind(world) == {"1": 4}
    assert world.status()["canary"]["readyReplicas"] == 1
    assert world.status()["canaryWeight"] == 0


async def test_a_promotion_moves_all_at_once_to_as_many_pods_as_the_stable_revision_has(
    world: World,
) -> None:
    world.create(spec(2, {"setWeight": 20}, PAUSE, {"setWeight": 50}, PAUSE))
    await world.run(120)
    approve(world)
    await world.run(120)
    assert behind(world) == {"1": 4, "2": 4}
    seen: list[int] = []
    world.kube.listeners.append(lambda _, __: seen.append(sum(behind(world).values())))
    approve(world)
    await world.run(20)
    assert world.status()["stable"]["version"] == "2"
    assert min(seen) >= 4
    await world.run(120)
    assert behind(world) == {"2": 4}
    assert {revision_of_object(pod) for pod in world.kube.all(ObjectKind.POD)} == {
        world.status()["stable"]["revision"]
    }


async def test_an_abort_takes_the_canary_from_behind_the_service_before_its_pods_go(world: World) -> None:
    world.create(spec(2))
    await world.run(120)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(5)
    assert behind(world) == {"1": 4}
    assert world.status()["rejected"][0]["message"] == "aborted by a person"
    assert sum(is_ready(pod) for pod in world.kube.all(ObjectKind.POD)) == 5
    await world.run(120)
    assert sum(is_ready(pod) for pod in world.kube.all(ObjectKind.POD)) == 4


async def test_the_autoscaler_cannot_change_the_canarys_share(world: World) -> None:
    world.create(spec(2))
    await world.run(120)
    canary = world.status()["canary"]["revision"]
    found = world.kube.find(*world.child(ObjectKind.AUTOSCALER, canary))["spec"]
    assert (found["minReplicas"], found["maxReplicas"]) == (1, 1)


async def test_the_canary_follows_the_stable_revisions_pods_while_it_waits(world: World) -> None:
    world.create(spec(2, {"setWeight": 50}, PAUSE))
    await world.run(1200)
    world.create(spec(2, {"setWeight": 50}, PAUSE, least=6))
    await world.run(30)
    assert behind(world) == {"1": 6, "2": 6}
    assert world.status()["rollout"]["phase"] == "Paused"


async def test_a_third_revision_is_never_behind_the_service_of_two(world: World) -> None:
    world.create(spec(2, {"setWeight": 50}, PAUSE))
    await world.run(120)
    second = world.status()["canary"]["revision"]
    seen: set[frozenset[str]] = set()
    world.kube.listeners.append(lambda _, __: seen.add(frozenset(behind(world))))
    world.create(spec(3, {"setWeight": 20}, PAUSE))
    await world.run(300)
    assert behind(world) == {"1": 4, "3": 1}
    assert seen == {frozenset("1?"), frozenset("12"), frozenset("1"), frozenset("13")}
    assert second not in {revision_of_object(pod) for pod in world.kube.all(ObjectKind.POD)}


async def test_a_canary_waits_for_the_pods_of_the_revision_before_to_go(world: World) -> None:
    first = world.status()["stable"]["revision"]
    kept = {**spec(2, {"setWeight": 50}), "rollout": {**spec(2, {"setWeight": 50})["rollout"]}}
    kept["rollout"]["scaleDownDelaySeconds"] = 300
    world.create(kept)
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"
    world.create({**kept, "model": {"uri": "mlflow://fraud/3"}})
    await world.run(60)
    assert behind(world) == {"2": 4}
    assert world.status()["rollout"]["message"] == f"waits until the pods of revision {first} are gone"
    await world.run(300)
    assert world.status()["stable"]["version"] == "3"


@pytest.mark.parametrize("after", range(0, 12, 2))
async def test_a_canary_ends_the_same_though_the_operator_dies_in_it(world: World, after: int) -> None:
    left = [after]

    def kill(request: Request) -> None:
        if request.is_write:
            left[0] -= 1
        if left[0] < 0:
            world.kube.before = None
            raise Killed

    world.create(spec(2, {"setWeight": 50}, {"pause": {"seconds": 30}}))
    world.kube.before = kill
    try:
        await world.run(300)
    except Killed:
        await world.restart()
    await world.run(300)
    assert behind(world) == {"2": 4}
    assert world.said()["Ready"] == "True Serving"


async def test_a_lost_status_does_not_send_everything_to_the_canary(world: World) -> None:
    world.create(spec(2))
    await world.run(120)
    world.kube.edit(("ModelDeployment", NAMESPACE, NAME), lambda live: live.pop("status"))
    await world.run(60)
    assert world.status()["stable"]["version"] == "1"
    assert behind(world)["1"] == 4


async def test_a_promotion_after_a_long_pause_gets_its_time_for_more_pods(world: World) -> None:
    world.create(spec(2))
    await world.run(1200)
    slow = {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)}
    world.pod_status = lambda pod: None if pod["metadata"]["name"] in slow else {"phase": "Pending"}
    world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
    await world.run(60)
    assert world.status()["rollout"]["phase"] == "Promoting"
    world.pod_status = lambda _: None
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"
