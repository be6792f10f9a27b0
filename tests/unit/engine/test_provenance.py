"""Status says of each revision at work where its model was built, as long as that was verified."""

from __future__ import annotations

from typing import Any

from tests.unit.world import World, resolution

WANTED = {"builder": "https://ci.example.com/release", "source": "github.com/acme/fraud"}
SIGNED = {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}


def spec(version: int, verify: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}", "verify": verify},
        "rollout": {"strategy": "Canary", "steps": [{"setWeight": 20}, {"pause": {}}]},
    }


def built(version: int) -> dict[str, str]:
    return {**WANTED, "commit": resolution(version).digest[-40:]}


async def test_stable_and_canary_each_keep_where_they_were_built() -> None:
    world = World()
    await world.operator.start()
    asked = {"signature": SIGNED, "provenance": WANTED}
    world.create(spec(1, {"signature": SIGNED}))
    await world.run(60)
    assert "provenance" not in world.status()["stable"]
    # The same bytes, once they are verified: no other revision, and no other pods.
    before, tasks = world.status()["stable"]["revision"], len(world.tasks)
    world.create(spec(1, asked))
    await world.run(60)
    assert len(world.tasks) > tasks
    assert world.status()["stable"]["revision"] == before
    assert world.status()["stable"]["provenance"] == world.status()["model"]["provenance"] == built(1)
    world.create(spec(2, asked))
    await world.run(60)
    await world.restart()
    await world.run(60)
    status = world.status()
    assert (status["rollout"]["weight"], status["model"]["provenance"]) == (20, built(2))
    assert (status["stable"]["provenance"], status["canary"]["provenance"]) == (built(1), built(2))
