"""What people met who operate such systems: each case, and its variants, through the engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.cli.command import asked
from slipway.contract import Failed, Failure, ModelFault, TerminationMessage
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind, is_ready, revision_of_object, rfc3339
from slipway.core.resource import read
from slipway.engine.errors import ApiError
from slipway.engine.metrics.controller import ModelDeploymentCollector
from slipway.engine.ownership import is_orphan
from slipway.names import OperatorMetric
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import place_of, stamp
from tests.unit.gitops.seen import FLUX, by_expressions, kstatus
from tests.unit.test_argocd import health
from tests.unit.world import NAME, NAMESPACE, World, resolution

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
    return [pod for pod in world.kube.all(ObjectKind.POD) if revision_of_object(pod) == revision]


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
    return TerminationMessage(
        outcome=Failed(failure=Failure(reason=fault, message="as it says"))
    ).model_dump_json()


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


# Argo CD and kstatus: a rollout that waits for a person is suspended; one that no commit began fails nothing.


def seen_by_gitops(world: World) -> tuple[str, str]:
    """The state by kstatus, and the health by Argo CD; Flux sees the same with the example's expressions."""
    resource = world.kube.find(KIND, NAMESPACE, NAME)
    shown = health(resource)["status"]
    assert by_expressions(resource) == FLUX[shown]
    [state] = kstatus(resource)
    return state, shown


@PROVIDERS
async def test_gitops_a_rollout_that_waits_for_approval_is_suspended(traffic: dict[str, Any]) -> None:
    world = await paused(traffic)
    assert world.said()["Suspended"] == "True Suspended"
    assert world.said()["RolloutComplete"] == "False Suspended"
    assert "kubectl slipway promote" in world.message("Suspended")
    assert seen_by_gitops(world) == ("Current", "Suspended")
    rollout = world.status()["rollout"]
    world.annotate("slipway.dev/promote", f"{rollout['id']}/{rollout['step']}")
    await world.run(60)
    assert seen_by_gitops(world) == ("Current", "Healthy")
    assert world.said()["RolloutComplete"] == "True RolledOut"


async def test_gitops_a_rollout_that_goes_on_by_itself_is_in_progress() -> None:
    world = await serving(spec(1))
    world.create(spec(2, steps=[{"setWeight": 50}, {"pause": {"seconds": 100}}]))
    await world.run(60)
    assert world.status()["rollout"]["phase"] == "Paused"
    assert "Suspended" not in world.said()
    assert seen_by_gitops(world) == ("InProgress", "Progressing")


@pytest.mark.parametrize("rollout", [{"strategy": "Canary", "steps": PAUSE}, {"strategy": "BlueGreen"}, {}])
async def test_gitops_a_rollout_that_an_alias_began_leaves_the_resource_healthy(
    rollout: dict[str, Any],
) -> None:
    world = World()
    await world.operator.start()
    world.models["mlflow://fraud@champion"] = resolution(1)
    world.create({"model": {"uri": "mlflow://fraud@champion"}, "rollout": rollout})
    await world.run(60)
    assert seen_by_gitops(world) == ("Current", "Healthy")
    world.models["mlflow://fraud@champion"] = resolution(2)
    seen = set()
    for _ in range(30):
        await world.run(5)
        seen.add(seen_by_gitops(world))
    assert seen == {("Current", "Healthy")}
    if rollout:
        assert world.said()["RolloutComplete"] == "False FollowingName"
        assert "is to take over" in health(world.kube.find(KIND, NAMESPACE, NAME))["message"]


async def test_gitops_an_alias_that_moves_to_a_bad_version_leaves_it_healthy_and_a_commit_does_not() -> None:
    world = World()
    await world.operator.start()
    world.models["mlflow://fraud@champion"] = resolution(1)
    asked = {"model": {"uri": "mlflow://fraud@champion"}, "rollout": {"strategy": "Canary", "steps": PAUSE}}
    world.create(asked)
    await world.run(60)
    world.models["mlflow://fraud@champion"] = resolution(2)
    await world.run(120)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(120)
    assert world.said()["RevisionReady"] == "False Rejected"
    assert world.said()["RolloutComplete"] == "False Rejected"
    assert seen_by_gitops(world) == ("Current", "Healthy")
    world.create({**asked, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(60)
    assert seen_by_gitops(world) == ("Failed", "Degraded")


# 15: what a pipeline waits for.


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate", "Canary", "BlueGreen"])
async def test_15_rollout_complete_is_true_only_while_the_wanted_revision_is_stable(strategy: str) -> None:
    def asked(version: int) -> dict[str, Any]:
        return {**spec(version), "rollout": {"strategy": strategy}}

    world = await serving(asked(1))
    assert world.said()["RolloutComplete"] == "True RolledOut"

    def watch(_: str, live: Manifest) -> None:
        if live["kind"] != KIND:
            return
        for found in (live.get("status") or {}).get("conditions", ()):
            fits = found["observedGeneration"] == live["metadata"]["generation"]
            if found["type"] == "RolloutComplete" and found["status"] == "True" and fits:
                assert live["status"]["stable"]["version"] == live["spec"]["model"]["uri"][-1]

    world.kube.listeners.append(watch)
    world.create(asked(2))
    await world.run(1200)
    assert world.said()["RolloutComplete"] == "True RolledOut"
    assert world.status()["stable"]["version"] == "2"


async def test_15_a_version_that_is_not_there_is_not_complete_while_ready_stays() -> None:
    world = await serving(spec(1))
    world.create(spec(99))
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["RolloutComplete"] == "False ModelNotFound"
    assert world.told().count("Warning ModelNotFound") == 1


# Small ones.


async def test_small_traffic_is_not_said_to_be_out_of_step_where_nothing_rolls_out() -> None:
    world = World()
    await world.operator.start()
    said = set()

    def watch(_: str, live: Manifest) -> None:
        for found in (live.get("status") or {}).get("conditions", ()) if live["kind"] == KIND else ():
            if found["type"] == "TrafficSynced":
                said.add(f"{found['status']} {found['reason']}")

    world.kube.listeners.append(watch)
    world.create(spec(1))
    await world.run(60)
    assert said <= {"Unknown Starting", "True Routed"}
    assert "True Routed" in said


async def test_small_pods_that_are_ready_are_counted_beside_those_that_are_there() -> None:
    world = await serving({**spec(1), "scaling": {"minReplicas": 2}})
    (first, _) = pods(world, role(world, "stable"))
    name = first["metadata"]["name"]
    world.pod_status = lambda pod: (
        {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
        if pod["metadata"]["name"] == name
        else None
    )
    await world.run(10)
    assert (world.status()["replicas"], world.status()["readyReplicas"]) == (2, 1)


async def test_small_one_cause_is_told_by_one_event() -> None:
    world = World()
    await world.operator.start()
    world.create(spec(99))
    await world.run(300)
    assert world.told().count("Warning ModelNotFound") == 1


# 32 and 2: what admission says of routers and resolvers reaches people, with advice that helps.

RANGE = (
    'pods "slipway-router-x" is forbidden: maximum memory usage per Container is 300Mi, but limit is 512Mi'
)
QUOTA = "pods is forbidden: exceeded quota: small, requested: requests.memory=96Mi"


@pytest.mark.parametrize("dedicated", [False, True])
@pytest.mark.parametrize("words", [RANGE, QUOTA])
async def test_32_routers_that_admission_refuses_are_told_and_the_deadline_counts(
    words: str, dedicated: bool
) -> None:
    more = {"traffic": {"router": "Dedicated"}} if dedicated else {}
    world = World()
    world.pods_refused = words
    world.refuses = lambda deployment: deployment["metadata"]["name"].startswith("slipway-router")
    await world.operator.start()
    world.create({**spec(1), **more})
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["TrafficSynced"] == "False RouterUnavailable"
    assert words in world.message("TrafficSynced")
    assert "router.resources in the chart's values" in world.message("TrafficSynced")
    assert world.told().count("Warning RouterUnavailable") == 1
    world.create({**spec(2, steps=PAUSE, progressDeadlineSeconds=60), **more})
    await world.run(50)
    assert words in world.message("Reconciling")
    assert not world.status().get("rejected")
    await world.run(20)
    (rejection,) = world.status()["rejected"]
    assert rejection["message"].startswith("not ready within 60 s: ")
    assert words in rejection["message"]


async def test_32_a_router_deployment_that_cannot_be_written_is_told_too() -> None:
    world = World()
    await world.operator.start()

    def admission(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == ObjectKind.DEPLOYMENT and manifest["metadata"]["name"].startswith(
            "slipway-router"
        ):
            raise ApiError(403, "Forbidden", "exceeded quota: objects, requested: count/deployments.apps=1")
        return manifest

    world.kube.admission = admission
    world.create(spec(1))
    await world.run(60)
    assert world.said()["TrafficSynced"] == "False RouterUnavailable"
    assert "count/deployments.apps" in world.message("TrafficSynced")


async def test_32_routers_that_come_late_are_used() -> None:
    world = World()
    world.pods_refused = RANGE
    world.refuses = lambda deployment: deployment["metadata"]["name"].startswith("slipway-router")
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    world.pods_refused = None
    world.create(spec(2, steps=PAUSE))
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 50
    assert world.said()["TrafficSynced"] == "True Routed"


def amounts(container: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = container["resources"]
    return found


async def test_2_what_the_resource_limits_holds_for_every_container_of_its_pods() -> None:
    world = World()
    await world.operator.start()
    asked = {"runtime": {"resources": {"limits": {"cpu": 2}}}}
    resolvers: list[Manifest] = []
    world.kube.listeners.append(
        lambda _, live: resolvers.append(live) if "-resolve-" in live["metadata"]["name"] else None
    )
    world.create({**spec(1), **asked})
    await world.run(60)
    deployment = world.kube.find(*world.child(ObjectKind.DEPLOYMENT, role(world, "stable")))
    template = deployment["spec"]["template"]["spec"]
    for container in (
        *template["initContainers"],
        *template["containers"],
        *resolvers[0]["spec"]["containers"],
    ):
        assert amounts(container)["limits"]["cpu"] == "2"
        assert "memory" in amounts(container)["limits"]


async def test_2_a_resolver_that_a_quota_refuses_says_what_to_set() -> None:
    world = World()
    await world.operator.start()

    def admission(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == ObjectKind.POD and "-resolve-" in manifest["metadata"]["name"]:
            raise ApiError(403, "Forbidden", "failed quota: small: must specify limits.cpu for: resolve")
        return manifest

    world.kube.admission = admission
    world.create(spec(1))
    await world.settle(retries=1)
    assert world.said()["ModelResolved"] == "False QuotaExceeded"
    assert "spec.runtime.resources.limits, or downloads.resources" in world.message("ModelResolved")
    assert "raise the quota" not in world.message("ModelResolved")


# Small: a namespace's routers go with the last ModelDeployment, also where it is deleted in the foreground.


@pytest.mark.parametrize("traffic", [{}, {"traffic": {"router": "Dedicated"}}])
async def test_small_routers_are_not_made_again_after_a_deletion_in_the_foreground(
    traffic: dict[str, Any],
) -> None:
    world = await serving({**spec(1), **traffic})
    place = (KIND, NAMESPACE, NAME)
    world.kube.edit(
        place, lambda live: live["metadata"].update(deletionTimestamp=stamp(world.now)), "kubectl"
    )
    for kind in ObjectKind:
        for child in list(world.kube.all(kind)):
            world.kube.drop(place_of(child))
    begun = len(world.kube.requests)
    await world.run(10)
    assert not [request for request in world.kube.requests[begun:] if request.verb == "apply"]
    world.kube.drop(place)
    await world.run(10)
    assert not world.kube.all(ObjectKind.DEPLOYMENT)


# 19: 0 below the minimum is drift like any other.


@pytest.mark.parametrize("which", ["stable", "canary", "routers"])
async def test_19_a_child_that_was_scaled_to_0_gets_its_pods_back(which: str) -> None:
    world = await paused({})
    name = "slipway-router" if which == "routers" else f"{NAME}-{role(world, which)}"
    place = (ObjectKind.DEPLOYMENT.value, NAMESPACE, name)
    least = world.kube.find(ObjectKind.AUTOSCALER, NAMESPACE, name)["spec"]["minReplicas"]
    world.kube.edit(place, lambda live: live["spec"].update(replicas=0))
    await world.run(30)
    assert world.kube.find(*place)["spec"]["replicas"] == least
    assert world.said()["Ready"] == "True Serving"
    assert not world.status().get("rejected")
    assert world.status()["rollout"]["weight"] == 50


async def test_19_the_autoscaler_is_left_alone_above_0() -> None:
    world = await serving({**spec(1), "scaling": {"minReplicas": 2, "maxReplicas": 8}})
    place = world.child(ObjectKind.DEPLOYMENT, role(world, "stable"))
    world.kube.edit(place, lambda live: live["spec"].update(replicas=0), "downscaler")
    await world.run(30)
    world.kube.edit(place, lambda live: live["spec"].update(replicas=7), "hpa")
    await world.run(30)
    world.create({**spec(1), "scaling": {"minReplicas": 3, "maxReplicas": 8}})
    await world.run(30)
    assert world.kube.find(*place)["spec"]["replicas"] == 7
    begun = len(world.kube.requests)
    await world.run(120)
    assert not [request for request in world.kube.requests[begun:] if request.verb == "patch"]


# 21: what others put into a child is taken back, or told once.

FOREIGN: dict[str, Callable[[dict[str, Any]], None]] = {
    "a variable": lambda pod: (
        pod["containers"][0].setdefault("env", []).append({"name": "DEBUG", "value": "1"})
    ),
    "a sidecar": lambda pod: pod["containers"].append({"name": "debug", "image": "busybox"}),
    "an init container": lambda pod: pod.setdefault("initContainers", []).append({"name": "x", "image": "y"}),
    "a volume": lambda pod: pod["volumes"].append({"name": "cache", "emptyDir": {}}),
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("which", ["stable", "canary"])
async def test_21_what_a_person_puts_into_a_child_is_taken_back_and_told(which: str, what: str) -> None:
    world = await paused({})
    place = world.child(ObjectKind.DEPLOYMENT, role(world, which))
    before = world.kube.find(*place)["spec"]["template"]
    world.kube.edit(place, lambda live: FOREIGN[what](live["spec"]["template"]["spec"]))
    await world.run(30)
    assert world.kube.find(*place)["spec"]["template"] == before
    assert world.told().count("Warning ForeignChange") == 1


async def test_21_a_variable_of_a_router_is_taken_back_too() -> None:
    world = await serving(spec(1))
    place = (ObjectKind.DEPLOYMENT.value, NAMESPACE, "slipway-router")
    before = world.kube.find(*place)["spec"]["template"]["spec"]["containers"]
    world.kube.edit(place, lambda live: FOREIGN["a variable"](live["spec"]["template"]["spec"]))
    await world.run(30)
    now = world.kube.find(*place)["spec"]["template"]["spec"]["containers"]
    assert [{**one, "env": one.get("env") or []} for one in now] == [
        {**one, "env": one.get("env") or []} for one in before
    ]


async def test_21_what_a_webhook_puts_there_is_told_once_and_left() -> None:
    world = World()
    await world.operator.start()

    def admission(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == ObjectKind.DEPLOYMENT and manifest["metadata"]["name"].startswith(NAME):
            containers = manifest["spec"]["template"]["spec"]["containers"]
            if not any(found["name"] == "proxy" for found in containers):
                containers.append({"name": "proxy", "image": "mesh"})
        return manifest

    world.kube.admission = admission
    world.create(spec(1))
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert world.told().count("Warning ForeignChange") == 1
    begun = world.writes()
    await world.run(600)
    assert world.writes() == begun


async def test_21_a_controller_that_insists_is_told_and_not_fought() -> None:
    world = await serving({**spec(1), "rollout": {}})
    place = world.child(ObjectKind.DEPLOYMENT, role(world, "stable"))
    for turn in range(20):
        containers = world.kube.find(*place)["spec"]["template"]["spec"]["containers"]
        if len(containers) == 1:
            sidecar = {"name": f"agent-{turn}", "image": "agent"}

            def put(live: dict[str, Any], sidecar: dict[str, Any] = sidecar) -> None:
                live["spec"]["template"]["spec"]["containers"].append(sidecar)

            world.kube.edit(place, put, "agent-controller")
        await world.run(10)
    patches = [request for request in world.kube.requests if request.verb == "patch"]
    # The first one makes what the creation wrote count as applied.
    assert len(patches) == 1 + 3
    # The rest is a repetition of an Event that is there.
    assert 1 <= world.told().count("Warning ForeignChange") <= 4


# 11: what a deletion left behind is taken over as it is.


def orphan(world: World) -> None:
    """`kubectl delete --cascade=orphan`: the collector takes the references away, then the owner goes."""
    take_references(world)
    world.kube.drop((KIND, NAMESPACE, NAME))


def take_references(world: World) -> None:
    """What the collector does first: children have no owner any more, which is still there."""
    uid = world.kube.find(KIND, NAMESPACE, NAME)["metadata"]["uid"]
    for kind in ObjectKind:
        for child in list(world.kube.all(kind)):
            owners = child["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners):
                left = [owner for owner in owners if owner["uid"] != uid]
                world.kube.edit(
                    place_of(child), lambda live, left=left: live["metadata"].update(ownerReferences=left)
                )


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Canary", "BlueGreen"])
@pytest.mark.parametrize("version", [1, 2])
async def test_11_orphans_are_adopted_without_a_restart(strategy: str, version: int) -> None:
    def asked(version: int) -> dict[str, Any]:
        return {**spec(version), "rollout": {"strategy": strategy}}

    world = await serving(asked(1))
    before = {pod["metadata"]["uid"] for pod in pods(world, role(world, "stable"))}
    first = role(world, "stable")
    orphan(world)
    await world.run(30)
    assert {pod["metadata"]["uid"] for pod in pods(world, first)} == before
    world.create(asked(version))
    least = [9]

    def watch(_: str, live: Manifest) -> None:
        if live["kind"] == ObjectKind.ENDPOINT_SLICE and live["metadata"]["name"] == f"{NAME}-slice":
            least.append(sum(found["conditions"]["ready"] for found in live["endpoints"]))

    world.kube.listeners.append(watch)
    await world.run(25)
    assert {pod["metadata"]["uid"] for pod in pods(world, first)} == before
    assert world.said()["Ready"] == "True Serving"
    assert min(least) > 0
    owner = world.kube.find(KIND, NAMESPACE, NAME)["metadata"]["uid"]
    for kind in (
        ObjectKind.DEPLOYMENT,
        ObjectKind.SERVICE,
        ObjectKind.CONTROLLER_REVISION,
        ObjectKind.SERVICE_ACCOUNT,
    ):
        for child in world.kube.all(kind):
            assert [found["uid"] for found in child["metadata"]["ownerReferences"]] == [owner]
    await world.run(1200)
    assert world.status()["stable"]["version"] == str(version)


@pytest.mark.parametrize("late", [{KIND}, {KIND, *ObjectKind}], ids=["the deletion", "all of it"])
@pytest.mark.parametrize("provider", ["Router", "ReplicaRatio"])
async def test_11_what_is_orphaned_before_its_operator_knows_is_left_without_an_owner(
    late: set[str], provider: str
) -> None:
    world = await serving({**spec(1), "traffic": {"provider": provider}})
    before = {place for place in world.kube.places() if place[0] != KIND}
    held: list[tuple[str, Manifest]] = []
    see = world.operator._see

    def see_late(type_: str, manifest: Manifest) -> None:
        if manifest["kind"] in late:
            held.append((type_, manifest))
        else:
            see(type_, manifest)

    # So that there is something to write.
    world.create({**spec(1, minReplicas=3), "traffic": {"provider": provider}})
    world.kube.listeners.remove(see)
    world.kube.listeners.append(see_late)
    world.kube.edit(
        (KIND, NAMESPACE, NAME),
        lambda live: live["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"),
    )
    take_references(world)
    keys = set(world.operator.store.everything())
    for key in sorted(keys, key=str) * 2:
        await world.operator.look(key)
    for place in before:
        owners = world.kube.find(*place)["metadata"].get("ownerReferences") or []
        assert KIND not in [owner["kind"] for owner in owners], place
    world.kube.drop((KIND, NAMESPACE, NAME))
    world.kube.listeners[world.kube.listeners.index(see_late)] = see
    for type_, manifest in held:
        see(type_, manifest)
    await world.run(60)
    assert before <= set(world.kube.places())


@pytest.mark.parametrize("labels", [{}, naming.labels(NAME, "route")])
async def test_11_a_namesake_that_is_not_slipways_writing_is_left_alone(labels: dict[str, str]) -> None:
    world = World()
    await world.operator.start()
    meta = {"name": NAME, "namespace": NAMESPACE, "labels": dict(labels)}
    mine = {"selector": {"app": "mine"}}
    world.kube.update({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": mine})
    world.create(spec(1))
    await world.run(30)
    assert world.said()["Ready"] == "False NameTaken"
    assert world.kube.find("Service", NAMESPACE, NAME)["spec"]["selector"] == {"app": "mine"}


async def test_11_what_another_model_deployment_owns_is_not_adopted() -> None:
    world = await serving(spec(1))
    service = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)
    other = [
        {"apiVersion": "slipway.dev/v1alpha1", "kind": KIND, "name": "x", "uid": "uid-x", "controller": True}
    ]
    assert is_orphan({**service, "metadata": {**service["metadata"], "ownerReferences": []}})
    assert not is_orphan({**service, "metadata": {**service["metadata"], "ownerReferences": other}})
    assert not is_orphan(service)


# 14: a name that cannot be followed any more.


@pytest.mark.parametrize("credentials", [{}, {"credentials": {"secretRef": {"name": "store"}}}])
async def test_14_an_alias_that_is_gone_is_told_once_with_its_cause_and_since_when(
    credentials: dict[str, Any],
) -> None:
    world = World()
    await world.operator.start()
    uri = "mlflow://fraud@champion"
    world.models[uri] = resolution(1)
    world.create({"model": {"uri": uri, "refreshSeconds": 60, **credentials}})
    await world.run(60)
    del world.models[uri]
    await world.run(120)
    since = world.status()["refreshFailingSince"]
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["ModelResolved"] == "True RefreshFailed"
    assert "there is no mlflow://fraud@champion" in world.message("ModelResolved")
    assert since in world.message("ModelResolved")
    await world.restart()
    await world.run(600)
    assert world.told().count("Warning RefreshFailed") == 1
    assert world.status()["refreshFailingSince"] == since
    (series,) = [
        sample
        for family in ModelDeploymentCollector(world.operator.store).collect()
        for sample in family.samples
        if sample.name == OperatorMetric.REFRESH_FAILING_SINCE
    ]
    assert series.labels == {"namespace": NAMESPACE, "name": NAME}
    assert rfc3339(datetime.fromtimestamp(series.value, UTC)) == since
    world.models[uri] = resolution(1)
    await world.run(300)
    assert world.said()["ModelResolved"] == "True Resolved"
    assert "refreshFailingSince" not in world.status()


async def test_14_a_registry_that_does_not_answer_once_is_not_spoken_of() -> None:
    world = World()
    await world.operator.start()
    uri = "mlflow://fraud@champion"
    world.models[uri] = resolution(1)
    world.create({"model": {"uri": uri}})
    await world.run(60)
    world.models[uri] = Failure(reason=ModelFault.REGISTRY_UNREACHABLE, message="mlflow does not answer")
    await world.run(70)
    assert world.said()["ModelResolved"] == "True Resolved"
    await world.run(200)
    assert world.said()["ModelResolved"] == "True RefreshFailed"
    assert "mlflow does not answer" in world.message("ModelResolved")


# 9: an autoscaler of ours that does nothing.


def inactive(world: World, revision: str, reason: str) -> None:
    found = {
        "type": "ScalingActive",
        "status": "False",
        "reason": reason,
        "message": "pods by selector are controlled by two autoscalers",
        "lastTransitionTime": stamp(world.now),
    }
    world.kube.edit(
        world.child(ObjectKind.AUTOSCALER, revision),
        lambda live: live.update(status={"conditions": [found]}),
        "hpa",
    )


@pytest.mark.parametrize("which", ["stable", "canary"])
async def test_9_two_autoscalers_of_the_same_pods_are_told_at_once(which: str) -> None:
    world = await paused({})
    inactive(world, role(world, which), "AmbiguousSelector")
    await world.run(5)
    assert world.said()["ScalingActive"] == "False ScalingInactive"
    assert "AmbiguousSelector: pods by selector" in world.message("ScalingActive")
    assert world.said()["Ready"] == "True Serving"
    assert world.told().count("Warning ScalingInactive") == 1


async def test_9_an_autoscaler_without_figures_is_told_once_that_is_no_start_any_more() -> None:
    world = await serving(spec(1))
    inactive(world, role(world, "stable"), "FailedGetResourceMetric")
    await world.run(100)
    assert "ScalingActive" not in world.said()
    await world.run(100)
    assert world.said()["ScalingActive"] == "False ScalingInactive"
    world.kube.edit(
        world.child(ObjectKind.AUTOSCALER, role(world, "stable")), lambda live: live.update(status={})
    )
    await world.run(10)
    assert "ScalingActive" not in world.said()


# Small: the memory of a revision in use comes back, or it is said that it is gone.


async def test_small_a_deleted_controller_revision_comes_back_from_what_is_known() -> None:
    world = await paused({})
    for which in ("stable", "canary"):
        place = world.child(ObjectKind.CONTROLLER_REVISION, role(world, which))
        data = world.kube.find(*place)["data"]
        world.kube.drop(place)
        await world.run(10)
        assert world.kube.find(*place)["data"] == data


async def without_record(world: World) -> None:
    """Somebody deletes the stable revision's ControllerRevision while no operator runs."""
    world.operator.end()
    world.kube.drop(world.child(ObjectKind.CONTROLLER_REVISION, role(world, "stable")))
    world.operator = world._operator()
    await world.operator.start()
    await world.run(10)
    assert world.said()["Ready"] == "True Serving"


async def test_small_a_controller_revision_that_status_and_spec_still_tell_is_written_again() -> None:
    world = await paused({})
    await without_record(world)
    assert world.child(ObjectKind.CONTROLLER_REVISION, role(world, "stable"))
    assert "was deleted" not in world.message("Ready")


async def test_small_a_controller_revision_that_nobody_knows_any_more_is_said_to_be_gone() -> None:
    world = await serving(spec(1))
    other = {"runtime": {"resources": {"limits": {"memory": "2Gi"}}}}
    world.create({**spec(2, steps=PAUSE), **other})
    await world.run(90)
    await without_record(world)
    assert "its ControllerRevision was deleted" in world.message("Ready")


# Surge: a namespace that holds fewer than twice the pods.


@pytest.mark.parametrize("rollout", [{}, {"strategy": "Canary", "steps": [{"setWeight": 50}]}])
async def test_surge_a_revision_takes_over_with_the_pods_that_a_quota_leaves(rollout: dict[str, Any]) -> None:
    def asked(version: int) -> dict[str, Any]:
        return {**spec(version), "scaling": {"minReplicas": 4}, "rollout": {**rollout, "surgePercent": 50}}

    world = await serving(asked(1))
    first = role(world, "stable")
    world.pod_status = lambda pod: (
        {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        if revision_of_object(pod) not in (first, None)
        and sum(
            is_ready(one) for one in world.kube.all(ObjectKind.POD) if revision_of_object(one) is not None
        )
        >= 6
        and not is_ready(pod)
        else None
    )
    world.create(asked(2))
    await world.run(100)
    assert world.status()["stable"]["version"] == "2"
    assert world.status()["stable"]["readyReplicas"] == 4
    assert not world.status().get("rejected")


async def test_surge_without_it_a_revision_waits_for_as_many_pods_as_stable_has() -> None:
    world = await serving({**spec(1), "scaling": {"minReplicas": 4}, "rollout": {}})
    first = role(world, "stable")
    world.pod_status = lambda pod: (
        {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
        if revision_of_object(pod) not in (first, None) and pod["metadata"]["name"].endswith(("2", "3"))
        else None
    )
    world.create({**spec(2), "scaling": {"minReplicas": 4}, "rollout": {}})
    await world.run(100)
    assert world.status()["stable"]["version"] == "1"


async def test_7_promote_full_lets_in_what_a_gate_aborted_while_nobody_else_answers() -> None:
    world = await paused({}, analysis={"intervalSeconds": 5})
    unready(world, role(world, "stable"))
    await world.run(5)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(20)
    assert world.status()["rollout"]["phase"] == "Aborting"
    # As the message says: first the abort is taken back.
    world.annotate("slipway.dev/abort", None)
    await world.run(100)
    assert world.status()["stable"]["version"] == "1", "the abort stands until a person lets the canary in"
    annotations, _ = asked("promote-full", read(world.kube.find(KIND, NAMESPACE, NAME)))
    for annotation, value in annotations.items():
        world.annotate(annotation, value)
    await world.run(30)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["Ready"] == "True Serving"
