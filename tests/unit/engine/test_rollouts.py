"""Whole rollouts through the engine: a canary, its routers, traffic, and what people do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.core.rollout.machine import Command
from slipway.core.traffic.envoy.objects import is_router
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, Killed, World

STEPS = [{"setWeight": 10}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}]


def spec(version: int, **rollout: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {"strategy": "Canary", "steps": STEPS, **rollout},
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves behind its routers, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def selector(world: World) -> dict[str, str]:
    found: dict[str, str] = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)["spec"]["selector"]
    return found


async def test_the_service_leads_to_routers_once_each_of_them_has_the_route(world: World) -> None:
    assert selector(world) == {
        "app.kubernetes.io/managed-by": "slipway",
        "app.kubernetes.io/component": "router",
        "slipway.dev/modeldeployment": "",
    }
    assert world.said()["TrafficSynced"] == "True Routed"
    assert world.kube.find(ObjectKind.AUTOSCALER, NAMESPACE, naming.router())["spec"]["minReplicas"] == 2


async def test_a_good_version_takes_over_step_by_step(world: World) -> None:
    before = world.status()["stable"]["revision"]
    world.create(spec(2))
    await world.run(1200)
    status = world.status()
    assert status["stable"]["version"] == "2"
    assert "canary" not in status
    assert "rollout" not in status
    assert status["previous"] == [before]
    assert world.routers.weights == [0, 10, 50, 100, 0]
    # Nobody reaches the old one any more.
    assert {
        pod["metadata"]["labels"].get("slipway.dev/revision") for pod in world.kube.all(ObjectKind.POD)
    } == {
        None,
        status["stable"]["revision"],
    }


async def test_routers_that_do_not_know_a_ready_canary_yet_are_soon_asked_again(world: World) -> None:
    stable = world.status()["stable"]["revision"]
    world.routers.knows = lambda revision: revision == stable
    world.create(spec(2))
    await world.run(60)
    assert world.status()["rollout"]["message"] == "routers know 0 of 1 canary pods for 10%"
    world.routers.knows = lambda _: True
    await world.run(0.8)
    assert world.routers.weights == [0, 10]


async def test_a_bad_version_is_rolled_back_and_remembered(world: World) -> None:
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0005 if revision == stable else 0.05
    world.create(spec(2))
    await world.run(600)
    status = world.status()
    assert status["stable"]["version"] == "1"
    assert [found["digest"] for found in status["rejected"]] == [f"sha256:{2:064x}"]
    assert "canary 28 errors in 598, stable 2 in 5382: evidence" in status["rejected"][0]["message"]
    assert world.said()["RevisionReady"] == "False Rejected"
    assert world.said()["Ready"] == "True Serving"
    assert world.routers.weights == [0, 10, 0]
    assert "Warning Rejected" in world.told()


async def test_a_rejected_version_stays_out_however_often_it_is_applied_again(world: World) -> None:
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    world.create(spec(2))
    await world.run(300)
    rejected = world.status()["rejected"]
    assert len(rejected) == 1
    for turn in range(12):
        # As Argo CD does every ten seconds, with a restart and a touched spec in between.
        world.create(spec(2))
        if turn == 5:
            await world.restart()
        await world.run(10)
    world.models["mlflow://fraud/3"] = world.models["mlflow://fraud/2"]
    world.create(spec(3))
    await world.run(120)
    assert world.status()["rejected"] == rejected, "the same bytes under another version"
    assert world.routers.weights == [0, 10, 0]
    assert world.status()["stable"]["version"] == "1"


async def test_retry_lets_a_rejected_version_in_again(world: World) -> None:
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    world.create(spec(2))
    await world.run(300)
    world.routers.error_rate = lambda _: 0.0
    world.annotate(f"slipway.dev/{Command.RETRY}", world.status()["rejected"][0]["id"])
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert "rejected" not in world.status() or world.status()["rejected"] == []


async def test_a_person_aborts_pauses_resumes_and_promotes(world: World) -> None:
    world.create(spec(2, steps=[{"setWeight": 10}, {"pause": {"untilApproved": True}}, {"setWeight": 50}]))
    await world.run(60)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"], rollout["step"]) == ("Paused", 10, 1)
    world.annotate("slipway.dev/promote", f"{rollout['id']}/0")
    await world.run(60)
    assert world.status()["rollout"]["step"] == 1, "a command for an earlier step is a command no more"
    world.annotate("slipway.dev/pause", rollout["id"])
    world.annotate("slipway.dev/promote", f"{rollout['id']}/1")
    await world.run(60)
    assert world.status()["rollout"]["message"] == "paused; kubectl slipway resume goes on"
    world.annotate("slipway.dev/pause", None)
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"
    world.create(spec(3, steps=[{"setWeight": 10}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(10)
    assert world.status()["rejected"][0]["message"] == "aborted by a person"
    assert world.status()["stable"]["version"] == "2"


async def test_going_back_to_a_recent_version_skips_the_steps(world: World) -> None:
    world.create(spec(2))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    world.routers.weights.clear()
    world.routers.requests_per_second = 0
    world.create(spec(1))
    await world.run(120)
    assert world.status()["stable"]["version"] == "1"
    assert world.routers.weights == [100, 0]


async def test_a_third_version_replaces_a_canary_that_is_under_way(world: World) -> None:
    world.routers.requests_per_second = 0
    world.create(spec(2))
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 10
    world.create(spec(3))
    await world.run(60)
    assert world.status()["canary"]["version"] == "3"
    assert world.routers.weights == [0, 10, 0, 10]
    revisions = {
        pod["metadata"]["labels"].get("slipway.dev/revision") for pod in world.kube.all(ObjectKind.POD)
    }
    assert revisions == {None, *(world.status()[role]["revision"] for role in ("stable", "canary"))}


async def test_a_spec_that_changes_back_ends_the_rollout_and_keeps_pods_until_nobody_reaches_them(
    world: World,
) -> None:
    world.routers.requests_per_second = 0
    world.create(spec(2))
    await world.run(60)
    canary = world.status()["canary"]["revision"]
    (deaf, *_) = [pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)]
    world.routers.deaf = {deaf}
    world.create(spec(1))
    await world.run(60)
    assert "rollout" not in world.status()
    pods = [pod["metadata"]["labels"].get("slipway.dev/revision") for pod in world.kube.all(ObjectKind.POD)]
    assert canary in pods, "a router still sends it traffic"
    world.routers.deaf = set()
    world.kube.drop(("Pod", NAMESPACE, deaf))
    await world.run(60)
    pods = [pod["metadata"]["labels"].get("slipway.dev/revision") for pod in world.kube.all(ObjectKind.POD)]
    assert canary not in pods


async def test_no_step_is_done_before_every_router_does_it(world: World) -> None:
    (deaf, *_) = [pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)]
    world.routers.deaf = {deaf}
    world.create(spec(2))
    await world.run(300)
    rollout = world.status()["rollout"]
    assert rollout["step"] == 0
    assert world.said()["TrafficSynced"] == "False RollingOut"
    assert world.said()["Ready"] == "True Serving"


async def test_a_router_that_cannot_be_read_gives_no_evidence_and_moves_no_weight(world: World) -> None:
    world.create(spec(2))
    await world.run(20)
    (mute, *_) = [pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)]
    world.routers.mute = {mute}
    await world.run(600)
    assert world.status()["rollout"]["step"] <= 1
    assert world.status()["rollout"]["weight"] == 10
    world.routers.mute = set()
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"


async def test_a_split_that_is_not_the_weight_gives_no_verdict_and_is_said(world: World) -> None:
    """Neither for the canary, nor, here, against it: all it shows are errors."""
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    world.routers.share = 40
    world.create(spec(2))
    await world.run(200)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"], rollout["looks"]) == ("Progressing", 10, [])
    assert world.said()["TrafficSynced"] == "False SplitMismatch"
    message = world.message("TrafficSynced")
    assert "requests went to the canary, 40.0% where its weight is 10%" in message
    assert world.said()["Ready"] == "True Serving"
    assert "Warning SplitMismatch" in world.told()
    world.routers.share = None
    await world.run(200)
    assert world.status()["rejected"], "what came after is evidence"
    assert world.said()["TrafficSynced"] == "True Routed"


async def test_an_honest_split_is_evidence_with_session_affinity_and_without(world: World) -> None:
    """With it, weights are shares of users, of which some ask more than others."""
    world.routers.share = 40
    world.create({**spec(2), "traffic": {"sessionAffinity": {"header": "x-user-id"}}})
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"


async def test_leaving_the_canary_strategy_takes_the_routers_away_once_nobody_is_led_to_them(
    world: World,
) -> None:
    world.create({**spec(1), "rollout": {}})
    await world.run(5)
    assert "slipway.dev/revision" in selector(world)
    assert [pod for pod in world.kube.all(ObjectKind.POD) if is_router(pod)], "some clients know them yet"
    await world.run(60)
    assert not [pod for pod in world.kube.all(ObjectKind.POD) if is_router(pod)]
    assert not world.kube.all(ObjectKind.CONFIG_MAP)
    assert "routerPort" not in world.status()


async def test_a_deleted_model_leaves_its_neighbours_routers_alone(world: World) -> None:
    world.create(spec(2), name="other")
    await world.run(60)
    ports = {name: world.status(name)["routerPort"] for name in (NAME, "other")}
    assert len(set(ports.values())) == 2
    pods = {pod["metadata"]["uid"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)}
    world.kube.drop((KIND, NAMESPACE, "other"))
    await world.run(60)
    assert pods == {pod["metadata"]["uid"] for pod in world.kube.all(ObjectKind.POD) if is_router(pod)}
    assert world.status()["routerPort"] == ports[NAME]
    assert world.said()["TrafficSynced"] == "True Routed"


async def test_while_the_stable_revision_is_down_the_canary_keeps_what_it_has(world: World) -> None:
    world.create(spec(2, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    stable = world.status()["stable"]["revision"]

    def down(pod: Any) -> dict[str, Any] | None:
        if pod["metadata"]["labels"].get("slipway.dev/revision") != stable:
            return None
        return {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}

    world.pod_status = down
    await world.run(10)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(60)
    assert world.status()["rollout"]["message"].startswith(
        "holds, since the stable revision has no ready pod"
    )
    assert world.routers.weights == [0, 50]
    world.pod_status = lambda _: None
    await world.run(60)
    assert world.routers.weights == [0, 50, 0]
    assert world.status()["rejected"][0]["message"] == "aborted by a person"


async def test_a_shadow_gets_copies_and_no_traffic_until_a_person_promotes_it(world: World) -> None:
    world.create({**spec(2), "rollout": {"strategy": "Shadow"}})
    await world.run(900)
    rollout = world.status()["rollout"]
    assert (rollout["mirrorPercent"], rollout["weight"], rollout["phase"]) == (100, 0, "Paused")
    assert set(world.routers.weights) == {0}
    world.annotate("slipway.dev/promote", f"{rollout['id']}/{rollout['step']}")
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"


async def test_blue_green_moves_everything_at_once(world: World) -> None:
    world.create({**spec(2), "rollout": {"strategy": "BlueGreen"}})
    await world.run(900)
    assert world.status()["stable"]["version"] == "2"
    assert world.routers.weights == [0, 100, 0]


async def test_recreate_ends_the_old_revision_before_the_new_one_starts() -> None:
    world = World()
    await world.operator.start()
    world.create({**spec(1), "rollout": {"strategy": "Recreate"}})
    await world.run(60)
    old = world.status()["stable"]["revision"]
    together = []

    def watch(_: str, __: Any) -> None:
        serving = {
            pod["metadata"]["labels"].get("slipway.dev/revision") for pod in world.kube.all(ObjectKind.POD)
        }
        together.append(len(serving - {None}) > 1)

    world.kube.listeners.append(watch)
    world.create({**spec(2), "rollout": {"strategy": "Recreate"}})
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    assert world.status()["previous"] == [old]
    assert not any(together)


@pytest.mark.parametrize("good", [True, False])
async def test_killed_at_any_request_of_a_rollout_the_next_operator_comes_to_the_same_end(good: bool) -> None:
    undisturbed = await _rollout(good, killed_at=None)
    requests = undisturbed.requests
    assert len(requests) > 30
    for number in range(len(requests)):
        disturbed = await _rollout(good, killed_at=number)
        assert disturbed.end == undisturbed.end, requests[number]
        assert _is_ordered_part(disturbed.weights, undisturbed.weights), (requests[number], disturbed.weights)


@dataclass(frozen=True)
class Course:
    """How a rollout went: its end in status, the weights of routers, and the operator's requests."""

    end: dict[str, Any]
    weights: list[int]
    requests: list[str]


async def _rollout(good: bool, killed_at: int | None) -> Course:
    world = World()
    await world.operator.start()
    quick = {"steps": STEPS, "analysis": {"intervalSeconds": 5}}
    world.create(spec(1, **quick))
    world.routers.requests_per_second = 1000
    await world.run(40)
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if good or revision == stable else 0.05
    begun = len(world.kube.requests)

    def kill(_: Request) -> None:
        if killed_at is not None and len(world.kube.requests) - begun > killed_at:
            world.kube.before = lambda _: None
            raise Killed

    world.kube.before = kill
    world.create(spec(2, **quick))
    try:
        await world.run(90)
    except Killed:
        await world.restart()
        await world.run(90)
    status = world.status()
    end = {
        "stable": status["stable"]["version"],
        "previous": status.get("previous"),
        "rejected": [found["revision"] for found in status.get("rejected", ())],
        "rollout": status.get("rollout"),
        "conditions": world.said(),
    }
    return Course(end, world.routers.weights, [str(request) for request in world.kube.requests[begun:]])


def _is_ordered_part(seen: list[int], wanted: list[int]) -> bool:
    """Whether all weights that were seen were wanted, in the same order."""
    rest = iter(wanted)
    return all(any(weight == found for found in rest) for weight in seen)
