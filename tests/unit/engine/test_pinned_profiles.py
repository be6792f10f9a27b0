"""The profile is part of what is pinned, and of what a rollout judges."""

from __future__ import annotations

from typing import Any

from slipway.api.types import KIND
from slipway.contract import MODEL_TASK_ENV, FetchTask
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.core.rollout.commands import annotation
from slipway.core.rollout.machine import Command
from tests.unit.world import NAME, NAMESPACE, World, resolution

URI = "s3://models/fraud/"
ONE, OTHER = (f"sha256:{number:064x}" for number in (7, 8))
SPEC: dict[str, Any] = {
    "model": {"uri": URI, "refreshSeconds": 60},
    "scaling": {"minReplicas": 2},
    "rollout": {"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {"untilApproved": True}}]},
}


def found(world: World, profile: str | None) -> None:
    """What the store has from now on: always the same model."""
    world.models[URI] = resolution(1).model_copy(
        update={"uri": "s3://models/fraud/model.onnx", "profile": profile}
    )


async def serving(profile: str | None) -> World:
    world = World()
    found(world, profile)
    await world.operator.start()
    world.create(SPEC)
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def pinned(world: World, revision: str) -> str | None:
    """The profile that a revision's pods must have."""
    live = world.kube.find(ObjectKind.DEPLOYMENT.value, NAMESPACE, naming.revision_object(NAME, revision))
    (fetch,) = live["spec"]["template"]["spec"]["initContainers"]
    (task,) = (each["value"] for each in fetch["env"] if each["name"] == MODEL_TASK_ENV)
    return FetchTask.model_validate_json(task).profile


async def test_another_profile_of_the_same_bytes_is_a_canary_that_can_be_rejected() -> None:
    world = await serving(ONE)
    stable = world.status()["stable"]
    assert (stable["profile"], world.status()["model"]["profile"]) == (ONE, ONE)
    assert pinned(world, stable["revision"]) == ONE
    found(world, OTHER)
    await world.run(120)
    status = world.status()
    rollout, canary = status["rollout"], status["canary"]
    assert (rollout["phase"], rollout["weight"]) == ("Paused", 50)
    assert (canary["digest"], canary["profile"]) == (stable["digest"], OTHER)
    assert pinned(world, canary["revision"]) == OTHER
    assert pinned(world, stable["revision"]) == ONE
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    assert [each["profile"] for each in world.status()["rejected"]] == [OTHER]
    await world.restart()
    await world.run(120)
    assert world.said()["RevisionReady"] == "False Rejected"
    assert world.status()["stable"] == stable
    # As it was, it serves as it did; and a third one is tried.
    found(world, ONE)
    await world.run(120)
    assert world.said()["RevisionReady"] == "True Available"
    found(world, "none")
    await world.run(120)
    assert world.status()["canary"]["profile"] == "none"
    assert world.status()["rollout"]["weight"] == 50


async def test_an_installation_of_today_learns_its_profile_without_a_rollout() -> None:
    world = await serving(None)
    stable = world.status()["stable"]
    assert "profile" not in stable
    pods = {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)}
    found(world, ONE)
    await world.run(200)
    status = world.status()
    assert "rollout" not in status
    assert "canary" not in status
    assert status["stable"] == {**stable, "profile": ONE}
    assert pods <= {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)}
    assert pinned(world, stable["revision"]) is None
    await world.restart()
    found(world, OTHER)
    await world.run(120)
    assert world.status()["canary"]["profile"] == OTHER
    assert world.status()["rollout"]["weight"] == 50
    # Half way it is taken back: the revision of before is the one with the first profile.
    found(world, ONE)
    await world.run(200)
    status = world.status()
    assert "rollout" not in status
    assert status["stable"] == {**stable, "profile": ONE}


async def test_a_rejection_of_today_holds_whatever_profile_is_found_later() -> None:
    world = await serving(None)
    stable = world.status()["stable"]["revision"]
    world.create({**SPEC, "runtime": {"threads": 2}})
    await world.run(60)
    rollout = world.status()["rollout"]
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    assert "profile" not in world.status()["rejected"][0]
    # So that its name does not tell.
    world.kube.take(
        (ObjectKind.CONTROLLER_REVISION.value, NAMESPACE, naming.revision_object(NAME, rollout["revision"]))
    )
    found(world, ONE)
    await world.restart()
    await world.run(200)
    status = world.status()
    assert status["model"]["profile"] == ONE
    assert status["stable"]["revision"] == stable
    assert "rollout" not in status
    assert world.said()["RevisionReady"] == "False Rejected"


async def test_a_status_that_lost_the_profile_starts_no_rollout() -> None:
    """An operator of before may have run in between, and knows of none."""
    world = await serving(ONE)
    stable = world.status()["stable"]

    def change(live: dict[str, Any]) -> None:
        del live["status"]["model"]["profile"]
        del live["status"]["stable"]["profile"]

    world.kube.edit((KIND, NAMESPACE, NAME), change)
    await world.restart()
    await world.run(20)
    assert world.status()["stable"] == stable
    assert pinned(world, stable["revision"]) == ONE
    await world.run(200)
    assert "rollout" not in world.status()
    assert world.status()["stable"] == stable
