"""What people met who operate such systems: each case, and its variants, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slipway.contract import Failed, Failure, ModelFault, Outcome
from slipway.core.observed import Kind, Manifest, revision_of_object
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import place_of
from tests.unit.world import World

PAUSE = [{"setWeight": 50}, {"pause": {"untilApproved": True}}]
RATIO = {"traffic": {"provider": "ReplicaRatio"}}
GATEWAY = {
    "traffic": {
        "provider": "GatewayAPI",
        "gatewayAPI": {"parentRefs": [{"name": "public"}], "hostnames": ["fraud.example.com"]},
    }
}
PROVIDERS = pytest.mark.parametrize(
    "traffic", [{}, RATIO, GATEWAY], ids=["Router", "ReplicaRatio", "GatewayAPI"]
)


async def serving(first: dict[str, Any]) -> World:
    """A world in which a first version serves."""
    world = World()
    await world.operator.start()
    world.create(first)
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


async def paused(traffic: dict[str, Any], **rollout: Any) -> World:
    """Version 2 has half of the traffic and waits for approval."""
    world = await serving({**spec(1), **traffic})
    world.create({**spec(2, steps=PAUSE, **rollout), **traffic})
    await world.run(90)
    found = world.status()["rollout"]
    assert (found["weight"], found["phase"]) == (50, "Paused")
    return world


def pods(world: World, revision: str) -> list[dict[str, Any]]:
    return [pod for pod in world.kube.all(Kind.POD) if revision_of_object(pod) == revision]


def role(world: World, name: str) -> str:
    return str(world.status()[name]["revision"])


def unready(world: World, revision: str, status: dict[str, Any] | None = None) -> None:
    """No pod of a revision becomes ready from now on, for a reason that is the cluster's."""
    pending = status or {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    world.pod_status = lambda pod: pending if revision_of_object(pod) == revision else None


def end(world: World, revision: str, status: dict[str, Any]) -> None:
    """The cluster ends every pod of a revision; its ReplicaSet makes others."""
    for pod in pods(world, revision):
        world.kube.edit(place_of(pod), lambda live: live.update(status=status), "kubelet")


def failed(reason: str, **fields: Any) -> dict[str, Any]:
    ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
    return {
        "phase": "Failed",
        "reason": reason,
        "message": "the node was low on resource",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "server", "image": "x", "restartCount": 0, "state": ended}],
        **fields,
    }


TAKEN: dict[str, Callable[[World, str], None]] = {
    "evicted": lambda world, revision: end(world, revision, failed("Evicted")),
    "past its deadline": lambda world, revision: end(world, revision, failed("DeadlineExceeded")),
    "preempted": lambda world, revision: end(
        world,
        revision,
        failed(
            "", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
        ),
    ),
    "node shut down": lambda world, revision: end(world, revision, failed("Terminated")),
    "ended well": lambda world, revision: end(world, revision, {"phase": "Succeeded"}),
    "deleted by hand": lambda world, revision: (
        [world.kube.drop(place_of(pod)) for pod in pods(world, revision)] and None
    ),
    "deleted, and leaving": lambda world, revision: (
        [world.kube.take(place_of(pod)) for pod in pods(world, revision)] and None
    ),
}


# 8: what the cluster does to a pod is no verdict on the model.


@PROVIDERS
@pytest.mark.parametrize("how", TAKEN)
async def test_8_a_canary_whose_pods_the_cluster_takes_goes_on_with_its_new_ones(
    how: str, traffic: dict[str, Any]
) -> None:
    world = await paused(traffic)
    # Long after the deadline of the step that it waits at.
    await world.run(900)
    TAKEN[how](world, role(world, "canary"))
    await world.run(60)
    status = world.status()
    assert not status.get("rejected")
    assert (status["rollout"]["weight"], status["rollout"]["phase"]) == (50, "Paused")
    assert "heldWeight" not in status["rollout"]


@PROVIDERS
async def test_8_while_the_canary_has_no_pod_its_share_is_the_stable_revisions(
    traffic: dict[str, Any],
) -> None:
    world = await paused(traffic)
    canary = role(world, "canary")
    unready(world, canary)
    end(world, canary, failed("Evicted"))
    await world.run(10)
    rollout = world.status()["rollout"]
    assert (rollout["weight"], rollout["heldWeight"]) == (0, 50)
    assert world.status()["canaryWeight"] == 0
    assert "lost its pods; the stable revision has its 50% until" in world.message("Reconciling")
    assert world.said()["Ready"] == "True Serving"
    await world.restart()
    world.pod_status = lambda _: None
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 50
    assert world.status()["canaryWeight"] == 50
    assert not world.status().get("rejected")


def words(fault: ModelFault) -> str:
    """What a container leaves behind."""
    return Outcome(outcome=Failed(failure=Failure(reason=fault, message="as it says"))).model_dump_json()


CAUSES: dict[str, dict[str, Any]] = {
    "no room": {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        ],
    },
    "image pull": {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "server", "image": "x", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        ],
    },
    "node lost": {
        "phase": "Running",
        "conditions": [
            {"type": "ContainersReady", "status": "True"},
            {"type": "Ready", "status": "False"},
        ],
        "containerStatuses": [
            {
                "name": "server",
                "image": "x",
                "ready": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-24T11:00:00Z"}},
            }
        ],
    },
    "node restarted": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "server",
                "image": "x",
                "restartCount": 1,
                "state": {"waiting": {"reason": "PodInitializing"}},
                "lastState": {"terminated": {"exitCode": 255, "reason": "Unknown"}},
            }
        ],
    },
    "one exit": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "server",
                "image": "x",
                "restartCount": 1,
                "state": {"waiting": {"reason": "PodInitializing"}},
                "lastState": {"terminated": {"exitCode": 143, "reason": "Error"}},
            }
        ],
    },
    "sidecar": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {
                "name": "proxy",
                "image": "x",
                "restartCount": 7,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }
        ],
    },
    "registry down": {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "initContainerStatuses": [
            {
                "name": "fetch",
                "image": "x",
                "restartCount": 5,
                "state": {
                    "terminated": {
                        "exitCode": 1,
                        "message": words(ModelFault.REGISTRY_UNREACHABLE),
                    }
                },
            }
        ],
    },
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_8_a_replacement_that_the_cluster_keeps_waiting_is_judged_by_its_deadline_alone(
    cause: str,
) -> None:
    world = await paused({}, progressDeadlineSeconds=120)
    canary = role(world, "canary")
    unready(world, canary, CAUSES[cause])
    for pod in pods(world, canary):
        world.kube.drop(place_of(pod))
    await world.run(100)
    assert not world.status().get("rejected")
    assert world.status()["rollout"]["weight"] == 0
    await world.run(25)
    (rejection,) = world.status()["rejected"]
    assert rejection["message"].startswith("not ready within 120 s: ")


CRASHES = {
    "crash loop": {
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 139, "reason": "Error"}},
    },
    "out of memory": {
        "restartCount": 1,
        "resources": {"limits": {"memory": "1Gi"}},
        "state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    },
    "its own words": {
        "restartCount": 1,
        "state": {
            "terminated": {
                "exitCode": 1,
                "message": words(ModelFault.MODEL_LOAD_FAILED),
            }
        },
    },
    "probe": {
        "restartCount": 0,
        "ready": False,
        "state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}},
    },
}


@pytest.mark.parametrize("crash", CRASHES)
async def test_8_what_the_model_itself_does_under_traffic_is_a_verdict(crash: str) -> None:
    world = await paused({})
    canary = role(world, "canary")
    turned = {"type": "Ready", "status": "False", "lastTransitionTime": world.now.isoformat()}
    status = {"name": "server", "image": "x", **CRASHES[crash]}
    unready(world, canary, {"phase": "Running", "conditions": [turned], "containerStatuses": [status]})
    await world.run(45)
    assert len(world.status()["rejected"]) == 1
    assert "not ready within" not in world.status()["rejected"][0]["message"]


# 3: at its deadline, with its cause.


@PROVIDERS
async def test_3_a_canary_without_room_ends_at_its_deadline_with_its_cause(traffic: dict[str, Any]) -> None:
    world = await serving({**spec(1), **traffic})
    world.pods_refused = "pods is forbidden: exceeded quota: small, requested: requests.cpu=100m"
    begun = world.now
    world.create({**spec(2, steps=PAUSE, progressDeadlineSeconds=30), **traffic})
    await world.run(29)
    assert not world.status().get("rejected")
    assert "exceeded quota: small" in world.message("RevisionReady")
    await world.run(4)
    (rejection,) = world.status()["rejected"]
    assert "not ready within 30 s: QuotaExceeded: " in rejection["message"]
    assert "exceeded quota: small" in rejection["message"]
    assert (world.now - begun).total_seconds() <= 34
    assert "kubectl slipway retry fraud" in world.message("RevisionReady")


# 7: a rollout never stands between users and the only revision that can answer.


@PROVIDERS
async def test_7_what_served_not_long_ago_takes_over_from_a_dead_revision_as_soon_as_it_is_ready(
    traffic: dict[str, Any],
) -> None:
    world = await serving({**spec(1, steps=PAUSE), **traffic})
    world.create({**spec(2, steps=[{"setWeight": 50}]), **traffic})
    await world.run(200)
    assert world.status()["stable"]["version"] == "2"
    second = role(world, "stable")
    unready(world, second)
    await world.run(30)
    assert world.said()["Ready"].startswith("False ")
    world.create({**spec(1, steps=PAUSE, paused=True), **traffic})
    await world.run(30)
    assert world.status()["stable"]["version"] == "1"
    assert world.said()["Ready"] == "True Serving"
    assert any(
        "took over from" in event["note"] and "no ready pod" in event["note"] for event in world.kube.events
    )


HELD: dict[str, Callable[[World, dict[str, Any]], None]] = {
    "waits for approval": lambda *_: None,
    "spec.rollout.paused": lambda world, traffic: world.create(
        {**spec(2, steps=PAUSE, paused=True), **traffic}
    ),
    "paused by a person": lambda world, _: world.annotate(
        "slipway.dev/pause", world.status()["rollout"]["id"]
    ),
}


@PROVIDERS
@pytest.mark.parametrize("held", HELD)
async def test_7_a_canary_takes_over_a_while_after_stable_lost_its_last_pod_however_it_was_held(
    held: str, traffic: dict[str, Any]
) -> None:
    world = await paused(traffic)
    HELD[held](world, traffic)
    await world.run(10)
    unready(world, role(world, "stable"))
    await world.run(30)
    assert world.status()["stable"]["version"] == "1"
    assert "kubectl slipway promote-full" in world.message("Ready")
    assert any("promote-full" in event["note"] for event in world.kube.events)
    await world.restart()
    await world.run(50)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["Ready"] == "True Serving"


async def test_7_stable_that_comes_back_in_time_keeps_its_place() -> None:
    world = await paused({})
    unready(world, role(world, "stable"))
    await world.run(40)
    world.pod_status = lambda _: None
    await world.run(120)
    assert world.status()["stable"]["version"] == "1"
    assert world.status()["rollout"]["phase"] == "Paused"
    assert "stableLostAt" not in world.status()["rollout"]


@pytest.mark.parametrize("strategy", ["BlueGreen", "Shadow"])
async def test_7_a_revision_that_gets_copies_takes_over_too(strategy: str) -> None:
    world = await serving(spec(1))
    world.create({**spec(2), "rollout": {"strategy": strategy}})
    await world.run(20)
    unready(world, role(world, "stable"))
    await world.run(90)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["Ready"] == "True Serving"


async def test_7_a_person_who_aborts_is_obeyed_and_told_the_way_out() -> None:
    world = await paused({})
    unready(world, role(world, "stable"))
    await world.run(5)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(300)
    assert world.status()["stable"]["version"] == "1"
    assert world.said()["Ready"].startswith("False ")
    assert "slipway.dev/abort-" in world.message("Ready")


async def test_7_a_canary_that_a_gate_found_bad_is_let_in_by_a_person_alone() -> None:
    world = await serving(spec(1))
    stable = role(world, "stable")
    world.create(spec(2))
    await world.run(20)
    unready(world, stable)
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    # The routers counted both before stable went.
    await world.run(40)
    if world.status().get("rollout", {}).get("phase") == "Aborting":
        await world.run(200)
        assert world.status()["stable"]["version"] == "1"
        assert "promote-full" in world.message("Ready")
        world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
        await world.run(30)
    assert world.status()["stable"]["version"] == "2"


async def test_7_a_rejected_revision_stays_out_and_the_way_out_is_said() -> None:
    world = await paused({})
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(90)
    assert world.status()["rejected"]
    unready(world, role(world, "stable"))
    await world.run(200)
    assert world.status()["stable"]["version"] == "1"
    assert "kubectl slipway retry fraud" in world.message("Ready")
    assert any("slipway retry" in event["note"] for event in world.kube.events)


async def test_7_a_rolling_update_does_not_wait_for_every_pod_while_nobody_answers() -> None:
    world = await serving({**spec(1), "scaling": {"minReplicas": 3}, "rollout": {}})
    old = role(world, "stable")

    def status(pod: Manifest) -> dict[str, Any] | None:
        waits = revision_of_object(pod) == old or not pod["metadata"]["name"].endswith("-0")
        return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]} if waits else None

    world.pod_status = status
    world.create({**spec(2), "scaling": {"minReplicas": 3}, "rollout": {}})
    await world.run(30)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["RouteReady"] == "True Routed"


# 29: spec.rollout.paused holds, whatever the strategy.


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate", "Canary", "BlueGreen", "Shadow"])
async def test_29_a_paused_rollout_is_held_whatever_the_strategy(strategy: str) -> None:
    def asked(version: int, is_paused: bool) -> dict[str, Any]:
        steps = {"steps": [{"setWeight": 50}]} if strategy == "Canary" else {}
        return {**spec(version), "rollout": {"strategy": strategy, "paused": is_paused, **steps}}

    world = await serving(asked(1, True))
    world.create(asked(2, True))
    await world.run(300)
    assert world.status()["stable"]["version"] == "1"
    assert world.said()["Suspended"] == "True Suspended"
    assert "spec.rollout.paused is true" in world.message("Suspended")
    assert "Reconciling" not in world.said()
    assert world.said()["Ready"] == "True Serving"
    world.create(asked(2, False))
    if strategy == "Shadow":
        await world.run(900)
        rollout = world.status()["rollout"]
        world.annotate("slipway.dev/promote", f"{rollout['id']}/{rollout['step']}")
    await world.run(1000)
    assert world.status()["stable"]["version"] == "2"
    assert "Suspended" not in world.said()


async def test_29_a_paused_rolling_update_ends_where_nobody_answers_any_more() -> None:
    world = await serving({**spec(1), "rollout": {"paused": True}})
    world.create({**spec(2), "rollout": {"paused": True}})
    await world.run(30)
    unready(world, role(world, "stable"))
    await world.run(40)
    assert world.status()["stable"]["version"] == "1"
    assert "spec.rollout.paused" in world.message("Ready")
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"
