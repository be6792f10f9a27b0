"""A change of the installation alone: no canary, nobody is asked, and nothing rejected comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slipway.api.types import KIND
from slipway.core import names
from slipway.core.commands import annotation
from slipway.core.observed import Kind
from slipway.core.rollout import Command
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World

NEW = replace(SETTINGS, server_image="slipway.dev/server:0.2.0")


def canary(version: int, *steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "rollout": {
            "strategy": "Canary",
            "steps": list(steps) or [{"setWeight": 50}, {"pause": {"untilApproved": True}}],
        },
    }


async def serving(spec: dict[str, Any]) -> World:
    world = World()
    await world.operator.start()
    world.create(spec)
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


async def upgrade(world: World, settings: Any = NEW, seconds: float = 60) -> None:
    world.settings = settings
    await world.restart()
    await world.run(seconds)


def revisions(world: World) -> set[str]:
    """Revisions that have a Deployment."""
    return {
        found["metadata"]["labels"][names.REVISION_LABEL]
        for found in world.kube.all(Kind.DEPLOYMENT)
        if names.REVISION_LABEL in found["metadata"]["labels"]
    }


def images(world: World, name: str = NAME) -> set[str]:
    """Images of the model servers that run."""
    return {
        container["image"]
        for pod in world.kube.all(Kind.POD)
        if pod["metadata"]["labels"].get(names.MODEL_LABEL) == name
        for container in pod["spec"]["containers"]
        if container["name"] == names.SERVER_CONTAINER
    }


def forget_identity(world: World, **fields: Any) -> None:
    """Status as an operator of before wrote it."""

    def change(live: dict[str, Any]) -> None:
        for rejection in live["status"]["rejected"]:
            del rejection["identity"]
            rejection.update(fields)

    world.kube.edit((KIND, NAMESPACE, NAME), change)


async def test_what_was_rejected_stays_out_when_the_chart_is_upgraded() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"]) == ("Paused", 50)
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    status = world.status()
    assert [found["revision"] for found in status["rejected"]] == [rollout["revision"]]
    for settings in (NEW, replace(NEW, mlflow_tracking_uri="http://elsewhere:5000")):
        await upgrade(world, settings)
        now = world.status()
        assert "rollout" not in now
        assert "canary" not in now
        assert now["stable"]["revision"] == status["stable"]["revision"]
        assert now["rejected"] == status["rejected"]
        assert world.said()["RevisionReady"] == "False Rejected"
        assert world.said()["Ready"] == "True Serving"
    world.annotate(annotation(Command.RETRY), rollout["id"])
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 50


async def test_a_rejection_of_an_earlier_operator_outlives_the_upgrade_and_its_record() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    world.annotate(annotation(Command.ABORT), rollout["id"])
    await world.run(120)
    forget_identity(world, content="0123456789")
    world.kube.take((Kind.CONTROLLER_REVISION.value, NAMESPACE, f"{NAME}-{rollout['revision']}"))
    # So that its name does not tell either.
    world.create({**canary(2), "runtime": {"threads": 2}})
    await upgrade(world)
    assert "rollout" not in world.status()
    message = world.message("RevisionReady")
    assert "what ran them is not known any more" in message
    assert "kubectl slipway retry" in message


async def test_a_healthy_canary_model_makes_no_canary_and_asks_nobody() -> None:
    world = await serving(canary(1))
    before = world.status()
    world.routers.requests_per_second = 0
    await upgrade(world, seconds=120)
    status = world.status()
    assert "rollout" not in status
    assert "canary" not in status
    assert status["stable"] == before["stable"]
    assert revisions(world) == {before["stable"]["revision"]}
    assert images(world) == {NEW.server_image}
    assert world.said()["Ready"] == "True Serving"
