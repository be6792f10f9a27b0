"""What rollouts under way write into etcd: a thousand of them share 1 MB a second."""

from __future__ import annotations

import json
from typing import Any

from slipway.api.rollout_status import MAX_HISTORY
from slipway.api.types import KIND
from slipway.core.observed import Manifest
from tests.unit.engine.test_rollouts import spec
from tests.unit.world import NAME, NAMESPACE, World

SECONDS, INTERVAL = 1200, 30
GATES = [
    {"name": "errors", "type": "ErrorRate"},
    {"name": "violations", "type": "Violations"},
    {"name": "answers", "type": "PredictionShift"},
]
#: Bytes a second of one in a thousand.
SHARE = 1_000_000 / 1000
#: What a real API server adds to an object: field managers and the like.
AROUND = 6_000


def _with_a_full_history(live: dict[str, Any]) -> None:
    """As much as a model has that was rolled out often."""
    last = live["status"]["history"][-1]
    found = {
        **last,
        "by": "alice@example.com",
        "message": "gates: errors Pass, violations Pass, answers Pass",
    }
    live["status"] = {**live["status"], "history": [found] * MAX_HISTORY}


async def test_a_rollout_that_is_evaluated_every_half_minute_writes_once_for_each_look_and_little() -> None:
    world = World()
    written: list[int] = []
    apply_status = world.kube.apply_status

    async def weigh(manifest: Manifest, manager: str) -> Manifest:
        found = await apply_status(manifest, manager)
        written.append(len(json.dumps(world.kube.find(KIND, NAMESPACE, NAME))) + AROUND)
        return found

    await world.operator.start()
    world.create(spec(1))
    await world.run(40)
    # Too few requests for a verdict, so that it goes on.
    world.routers.requests_per_second = 1
    analysis: dict[str, Any] = {"intervalSeconds": INTERVAL, "gates": GATES}
    world.create(spec(2, analysis=analysis))
    await world.run(120)
    world.kube.edit((KIND, NAMESPACE, NAME), _with_a_full_history, "slipway.dev/status")
    await world.restart()
    world.kube.apply_status = weigh  # type: ignore[method-assign]
    await world.run(SECONDS)
    assert "rollout" in world.status(), (world.said(), world.message("Ready"), written[-3:])
    assert world.status()["rollout"]["phase"] == "Progressing"
    assert SECONDS / INTERVAL / 2 < len(written) <= SECONDS / INTERVAL + 1
    assert len(world.status()["history"]) == MAX_HISTORY
    assert sum(written) / SECONDS < SHARE
    # It grows with the looks that are remembered, and these are no more by now.
    assert written[-1] / INTERVAL < SHARE
