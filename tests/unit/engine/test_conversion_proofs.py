"""What is known of a conversion stands in the status, and moves nothing."""

from __future__ import annotations

import json
from typing import Any

from slipway.contract import Proved
from slipway.core.observed import ObjectKind
from tests.unit.world import World, resolution

URI = "s3://models/fraud/"
SPEC: dict[str, Any] = {"model": {"uri": URI, "refreshSeconds": 60}, "scaling": {"minReplicas": 2}}
FOUND = resolution(1).model_copy(update={"uri": f"{URI}model.onnx", "profile": "none"})
PROOF = Proved(
    digest=f"sha256:{'9' * 64}",
    modelDigest=FOUND.digest,
    original="sklearn.pipeline.Pipeline",
    convertedAt="2026-11-30T08:00:00Z",
    tolerance="0.0001",
    rows=150,
    labelsDiffer=0,
    largestDifference="1.2e-07",
    edgeRows=812,
    accepted=("extremes",),
)


def finds(world: World, proof: Proved | None) -> None:
    world.models[URI] = FOUND.model_copy(update={"conversion": proof})


async def serving(proof: Proved | None) -> World:
    world = World()
    finds(world, proof)
    await world.operator.start()
    world.create(SPEC)
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def pods(world: World) -> set[str]:
    return {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD) if "resolve" not in str(pod)}


async def test_a_proof_stands_in_the_status_and_the_next_look_is_told_of_it() -> None:
    world = await serving(PROOF)
    said = world.status()["model"]["conversion"]
    assert said == json.loads(PROOF.model_dump_json(exclude_none=True))
    await world.restart()
    await world.run(120)
    assert world.status()["model"]["conversion"] == said
    assert world.tasks[-1]["known"]["conversion"]["rows"] == 150


async def test_a_proof_that_comes_changes_or_goes_is_no_reason_for_a_revision() -> None:
    world = await serving(None)
    assert "conversion" not in world.status()["model"]
    stable, running = world.status()["stable"], pods(world)
    for proof in (
        PROOF,
        PROOF.model_copy(update={"rows": 7}),
        Proved(problem="it is of another model"),
        None,
    ):
        finds(world, proof)
        await world.run(150)
        status = world.status()
        said = None if proof is None else json.loads(proof.model_dump_json(exclude_none=True))
        assert status["model"].get("conversion") == said
        assert status["stable"] == stable
        assert "rollout" not in status
    assert pods(world) == running
