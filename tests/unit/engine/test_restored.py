"""A ModelDeployment that is brought into another cluster with its status keeps what was decided."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.errors import ApiError
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, World

STEPS = [{"setWeight": 10}, {"pause": {"untilApproved": True}}]
ROLLOUT: dict[str, Any] = {"strategy": "Canary", "steps": STEPS}


def spec(number: int, rollout: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    return {"model": {"uri": f"mlflow://fraud/{number}"}, "rollout": rollout or ROLLOUT, **others}


async def rolled_out(first: dict[str, Any], *later: dict[str, Any]) -> World:
    """Specs, one after the other."""
    world = World()
    await world.operator.start()
    for each in (first, *later):
        world.create(each)
        await world.run(60)
    return world


async def rejected(first: dict[str, Any], second: dict[str, Any]) -> World:
    world = await rolled_out(first, second)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(40)
    assert world.status()["rejected"]
    return world


def bring(before: World, days: float = 0, status: Callable[[dict[str, Any]], None] | None = None) -> World:
    """As `kubectl create` and `kubectl replace --subresource=status` bring it, while no operator runs."""
    live = copy.deepcopy(before.kube.find(KIND, NAMESPACE, NAME))
    after = World()
    after.now = before.now + timedelta(days=days)
    # Uids are of a cluster, too.
    after.kube.update({"kind": "Namespace", "metadata": {"name": NAMESPACE, "namespace": ""}})
    after.create(live["spec"])
    if status is not None:
        status(live["status"])
    after.kube.edit((KIND, NAMESPACE, NAME), lambda one: one.update(status=live["status"]))
    return after


async def brought(before: World, days: float = 0, seconds: float = 60) -> World:
    after = bring(before, days)
    await after.operator.start()
    await after.run(seconds)
    return after


def records(world: World) -> list[dict[str, Any]]:
    """ControllerRevisions as a backup has them."""
    found = copy.deepcopy(world.kube.all(ObjectKind.CONTROLLER_REVISION))
    for record in found:
        for name in ("uid", "resourceVersion", "creationTimestamp", "generation"):
            record["metadata"].pop(name, None)
    return found


def orphans(world: World) -> list[dict[str, Any]]:
    found = records(world)
    for record in found:
        del record["metadata"]["ownerReferences"]
    return found


def unready(world: World, role: str = "stable") -> None:
    """Pods of the revision that has a role do not become ready."""

    def status(pod: Manifest) -> dict[str, Any] | None:
        revision = pod["metadata"]["labels"].get(naming.REVISION_LABEL)
        held = revision is not None and revision == world.status().get(role, {}).get("revision")
        return {"phase": "Pending"} if held else None

    world.pod_status = status


def answers_alone(world: World, revision: str) -> bool:
    """Whether the Service leads to pods, and all are of a revision."""
    selector = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)["spec"]["selector"]
    pods = [
        pod
        for pod in world.kube.all(ObjectKind.POD)
        if selector.items() <= pod["metadata"]["labels"].items()
        and pod["metadata"]["labels"].get(naming.REVISION_LABEL)
        and any(found["type"] == "Ready" for found in pod.get("status", {}).get("conditions", ()))
    ]
    return bool(pods) and {pod["metadata"]["labels"][naming.REVISION_LABEL] for pod in pods} == {revision}


async def test_what_was_rejected_stays_out_and_what_served_serves() -> None:
    world = await rejected(spec(1), spec(2))
    before = world.status()
    after = await brought(world)
    status = after.status()
    assert status["rejected"] == before["rejected"]
    assert status["stable"]["revision"] == before["stable"]["revision"]
    assert after.said()["Ready"] == "True Serving"
    assert "canary" not in status
    assert "rollout" not in status
    assert status["history"] == before["history"]


@pytest.mark.parametrize(
    ("rollout", "others"),
    [
        (ROLLOUT, {}),
        ({"strategy": "BlueGreen", "steps": [{"setMirror": {"percent": 100}}, STEPS[1]]}, {}),
        ({"strategy": "Shadow", "steps": [{"setMirror": {"percent": 100}}, STEPS[1]]}, {}),
        (ROLLOUT, {"traffic": {"provider": "ReplicaRatio"}}),
    ],
    ids=["canary", "blue-green", "shadow", "by replicas"],
)
async def test_a_rollout_that_waited_for_a_person_waits_again_however_long_the_stable_pods_take(
    rollout: dict[str, Any], others: dict[str, Any]
) -> None:
    # Longer than any deadline, and than a revision that has no pods is given otherwise.
    rollout = {**rollout, "progressDeadlineSeconds": 90}
    world = await rolled_out(spec(1, rollout, **others), spec(2, rollout, **others))
    before = world.status()
    assert before["rollout"]["phase"] == "Paused"
    after = bring(world, days=3)
    unready(after)
    await after.operator.start()
    await after.run(160)
    assert after.status()["stable"]["version"] == "1"
    assert after.said()["Ready"] == "False Restored"
    assert not answers_alone(after, before["canary"]["revision"])
    assert "rejected" not in after.status() or not after.status()["rejected"]
    after.pod_status = lambda _: None
    await after.run(60)
    status = after.status()
    assert status["stable"]["version"] == "1"
    assert (status["rollout"]["id"], status["rollout"]["phase"]) == (before["rollout"]["id"], "Paused")
    assert after.said()["Ready"] == "True Serving"
    assert "Suspended" in after.said()
    after.annotate("slipway.dev/promote", f"{status['rollout']['id']}/{status['rollout']['step']}")
    await after.run(60)
    assert after.status()["stable"]["version"] == "2"


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
async def test_what_the_spec_pauses_does_not_take_over_while_the_stable_pods_start(strategy: str) -> None:
    rollout = {"strategy": strategy, "paused": True}
    world = await rolled_out(spec(1, rollout), spec(2, rollout))
    assert world.status()["stable"]["version"] == "1"
    after = bring(world)
    unready(after)
    await after.operator.start()
    await after.run(300)
    assert after.status()["stable"]["version"] == "1"
    after.pod_status = lambda _: None
    await after.run(60)
    assert after.said()["Ready"] == "True Serving"
    assert after.status()["stable"]["version"] == "1"


@pytest.mark.parametrize("rollout", [ROLLOUT, {"strategy": "RollingUpdate", "paused": True}], ids=str)
async def test_nothing_takes_over_after_something_else_kept_the_stable_revision_from_answering(
    rollout: dict[str, Any],
) -> None:
    after = bring(await rolled_out(spec(1, rollout), spec(2, rollout)))
    unready(after)

    def refuse(request: Request) -> None:
        if request.is_write and (request.kind, request.name) == (ObjectKind.SERVICE, NAME):
            raise ApiError(403, "Forbidden", "admission webhook denied the request")

    after.kube.before = refuse
    await after.operator.start()
    await after.run(60)
    assert after.said()["RouteReady"].partition(" ")[2] not in ("Restored", "NoReadyEndpoints")
    after.kube.before = None
    await after.run(130)
    assert after.status()["stable"]["version"] == "1"
    assert after.said()["RouteReady"] == "False Restored"


async def test_once_the_stable_revision_has_served_here_an_outage_is_an_outage_again() -> None:
    after = await brought(await rolled_out(spec(1), spec(2)))
    assert after.said()["Ready"] == "True Serving"
    unready(after)
    for pod in after.kube.all(ObjectKind.POD):
        if pod["metadata"]["labels"].get(naming.REVISION_LABEL) == after.status()["stable"]["revision"]:
            after.kube.take((ObjectKind.POD.value, NAMESPACE, pod["metadata"]["name"]))
    await after.run(120)
    assert after.status()["stable"]["version"] == "2"


async def test_time_that_passed_without_a_cluster_is_no_step_and_no_deadline() -> None:
    steps = [{"setWeight": 10}, {"pause": {"seconds": 3600}}, {"setWeight": 50}, STEPS[1]]
    rollout = {"strategy": "Canary", "steps": steps}
    world = await rolled_out(spec(1, rollout), spec(2, rollout))
    after = await brought(world, days=3, seconds=120)
    assert after.status()["rollout"]["weight"] == 10
    assert after.status()["rollout"]["step"] == 1

    lacking = await rolled_out(spec(1))
    unready(lacking, "canary")
    lacking.create(spec(2))
    await lacking.run(60)
    assert lacking.status()["rollout"]["waitingSince"]
    after = await brought(lacking, days=3, seconds=120)
    assert after.status().get("rejected", []) == []
    assert after.status()["rollout"]["phase"] == "Paused"


async def test_the_first_version_starts_again() -> None:
    for seconds in (0, 60):
        world = World()
        await world.operator.start()
        world.create(spec(1))
        await world.run(seconds)
        after = await brought(world)
        assert after.said()["Ready"] == "True Serving"
        assert after.status()["stable"]["version"] == "1"


async def test_a_status_without_its_rollout_begins_one_and_lets_nothing_take_over() -> None:
    world = await rolled_out(spec(1), spec(2))
    after = bring(world, status=lambda status: status.pop("rollout"))
    unready(after)
    await after.operator.start()
    await after.run(200)
    assert after.status()["stable"]["version"] == "1"
    after.pod_status = lambda _: None
    await after.run(60)
    assert after.status()["stable"]["version"] == "1"
    assert after.status()["rollout"]["phase"] == "Paused"


async def test_controller_revisions_that_came_along_are_taken_as_they_are() -> None:
    world = await rejected(spec(1), spec(2, runtime={"env": [{"name": "A", "value": "b"}]}))
    stable = world.status()["stable"]["revision"]
    for found in (orphans(world), records(world)):
        after = bring(world)
        uid = after.kube.find(KIND, NAMESPACE, NAME)["metadata"]["uid"]
        for record in found:
            for owner in record["metadata"].get("ownerReferences", ()):
                owner["uid"] = uid
            after.kube.update(record)
        await after.operator.start()
        await after.run(60)
        assert after.said()["Ready"] == "True Serving"
        assert after.status()["stable"]["revision"] == stable
        # Nothing is written again and again.
        writes = after.writes()
        await after.run(60)
        assert after.writes() - writes < 5


async def forgotten(world: World) -> World:
    after = await brought(world, seconds=150)
    assert after.said()["Ready"] == "False StableRevisionForgotten"
    assert after.status()["stable"]["version"] == "1"
    assert "(version 1)" in after.message()
    assert "Stalled" in after.said()
    return after


CHANGED = {"runtime": {"env": [{"name": "A", "value": "b"}]}}


async def test_a_stable_revision_that_nothing_tells_of_is_waited_for_until_its_record_comes() -> None:
    world = await rejected(spec(1), spec(2, **CHANGED))
    after = await forgotten(world)
    assert "kubectl slipway retry fraud" in after.message()
    for record in orphans(world):
        after.kube.update(record)
    await after.run(60)
    assert after.said()["Ready"] == "True Serving"
    assert after.status()["stable"]["revision"] == world.status()["stable"]["revision"]


async def test_a_forgotten_stable_revision_serves_once_the_spec_is_what_it_was() -> None:
    after = await forgotten(await rolled_out(spec(1), spec(2, **CHANGED)))
    after.create(spec(1))
    await after.run(60)
    assert after.said()["Ready"] == "True Serving"
    assert after.status()["stable"]["version"] == "1"


async def test_what_waited_for_approval_takes_over_from_a_forgotten_one_when_a_person_says_so() -> None:
    after = await forgotten(await rolled_out(spec(1), spec(2, **CHANGED)))
    assert "kubectl slipway promote-full fraud" in after.message()
    assert "Suspended" in after.said()
    after.annotate("slipway.dev/promote-full", after.status()["rollout"]["id"])
    await after.run(60)
    assert after.said()["Ready"] == "True Serving"
    assert after.status()["stable"]["version"] == "2"


async def test_what_others_wrote_into_status_goes_when_it_is_over() -> None:
    """Whoever restores a status owns its fields: an apply takes none of them away."""
    after = await brought(await rolled_out(spec(1), spec(2)))
    assert "Suspended" in after.said()
    after.create(spec(1))
    await after.run(60)
    status = after.status()
    assert "canary" not in status
    assert "rollout" not in status
    assert "Suspended" not in after.said()
    assert after.said()["Ready"] == "True Serving"


async def test_two_models_that_were_restored_with_the_same_port_of_the_routers_get_one_each() -> None:
    """As where one is restored next to another that came first, or into a namespace of its own."""
    after = bring(await rolled_out(spec(1), spec(2)))
    taken = after.status()["routerPort"]
    after.create(spec(3), name="risk")
    brought_port = {"routerPort": taken}
    after.kube.edit((KIND, NAMESPACE, "risk"), lambda one: one.update(status=brought_port))
    await after.operator.start()
    await after.run(90)
    ports = {after.status(name)["routerPort"] for name in (NAME, "risk")}
    assert len(ports) == 2
    assert after.said()["Ready"] == after.said("risk")["Ready"] == "True Serving"
    await after.run(30)
    assert ports == {after.status(name)["routerPort"] for name in (NAME, "risk")}
