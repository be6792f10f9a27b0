"""Who may sign is changed: what was signed by others serves on, says so, and is not started again."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.contract import Failure, ModelFault
from tests.unit.engine.test_breaches import acting
from tests.unit.engine.test_judging import SHIFTED, Traffic, serving
from tests.unit.world import World

PROVENANCE = {"builder": "https://ci.example.com", "source": "github.com/acme/fraud"}


def model(version: int, key: str = "keys.pem", **more: Any) -> dict[str, Any]:
    signature = {"publicKeys": {"configMapRef": {"name": "signers", "key": key}}}
    verify = {"signature": signature, **more}
    return {"model": {"uri": f"mlflow://fraud/{version}", "verify": verify}}


async def test_what_a_withdrawn_signer_signed_serves_on_and_is_not_started_again() -> None:
    world = World()
    await world.operator.start()
    world.create(model(1))
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    # The resolver no longer takes it.
    words = "none of the keys made it"
    world.models["mlflow://fraud/1"] = Failure(reason=ModelFault.SIGNATURE_INVALID, message=words)
    world.create(model(1, "keys-2.pem"))
    await world.run(60)
    assert world.said()["ModelResolved"] == "False SignatureInvalid"
    assert "Warning SignatureInvalid" in world.told()
    assert world.status()["stable"]["version"] == "1"
    assert world.status()["readyReplicas"] == 1
    world.create(model(2, "keys-2.pem"))
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    # Back to it by its name: the one that serves stays, and nothing of the other is there.
    world.create(model(1, "keys-2.pem"))
    await world.run(120)
    assert world.said()["ModelResolved"] == "False SignatureInvalid"
    assert world.status()["stable"]["version"] == "2"
    assert "canary" not in world.status()


@pytest.mark.parametrize(
    ("now", "version"),
    [
        ({}, "1"),
        ({"key": "keys-2.pem"}, "2"),
        ({"provenance": PROVENANCE}, "2"),
    ],
    ids=["the same", "another key", "provenance as well"],
)
async def test_a_breach_brings_back_nothing_that_was_verified_for_other_signers(
    now: dict[str, Any], version: str
) -> None:
    asked = acting("Rollback")
    world, traffic = await serving({**asked, **model(1)}), Traffic()
    await world.run(60)
    world.create({**asked, **model(2)})
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    # The version that serves passes, and no pod of it is replaced.
    world.create({**asked, **model(2, **now)})
    await world.run(60)
    await world.restart()
    await traffic.run(world, 300, SHIFTED)
    await world.run(120)
    assert world.said()["Drift"] == "True FeaturesDrifted" if version == "2" else True
    assert world.status()["stable"]["version"] == version
