"""The first look at a version that has just become stable: what it answered by then is in its windows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from slipway.api.types import KIND
from slipway.core.monitoring.series import series
from slipway.core.monitoring.verdict import MonitoredCondition
from slipway.core.observed import Manifest
from slipway.engine.observers.watched import Watched
from slipway.names import Metric
from tests.unit.engine.test_judging import PROFILE
from tests.unit.world import KEY, World

ROWS = series(Metric.ROWS, {})
EARLY = 500


def spec(version: int, **blocks: Any) -> dict[str, Any]:
    return {"model": {"uri": f"mlflow://fraud/{version}"}, "monitoring": {"drift": {}}, **blocks}


class Eager:
    """Clients whose first requests are answered before the operator has looked at a new version."""

    def __init__(self) -> None:
        self.world = World()
        self.world.pods.profile = PROFILE
        self.random = np.random.default_rng(7)
        self._seen: set[str] = set()
        self.world.kube.listeners.insert(0, self._see)

    def _see(self, _type: str, manifest: Manifest) -> None:
        stable = (manifest.get("status") or {}).get("stable") or {}
        version = stable.get("version")
        if manifest["kind"] == KIND and version and version not in self._seen:
            self._seen = {version}
            self.world.pods.rows(EARLY, self.random)

    async def deploy(self, version: int, **blocks: Any) -> Watched:
        """What is known after the first look at it."""
        self.world.create(spec(version, **blocks))
        for _ in range(60):
            await self.world.run(1)
            watched = self.world.operator.judge._watched.get(KEY)
            if watched is not None and watched.version == str(version) and watched.looked is not None:
                return watched
        raise AssertionError(f"no look at version {version}")


def counted(watched: Watched) -> float:
    assert watched.tally is not None
    return watched.tally.totals[ROWS]


@pytest.fixture
async def eager() -> Eager:
    found = Eager()
    await found.world.operator.start()
    return found


async def test_what_a_first_version_answered_before_the_first_look_is_counted(eager: Eager) -> None:
    watched = await eager.deploy(1)
    assert counted(watched) == EARLY
    window = watched.findings[MonitoredCondition.DRIFT].window
    assert window.since <= watched.began, "since its pods began"
    eager.world.pods.rows(100, eager.random)
    await eager.world.run(30)
    assert counted(watched) == EARLY + 100


async def test_so_is_what_its_successor_answered_and_nothing_of_the_version_before(eager: Eager) -> None:
    await eager.deploy(1)
    await eager.world.run(120)
    second = await eager.deploy(2)
    # The pods of the version before, which leave, answered half of them.
    assert 0 < counted(second) <= EARLY
    shown = [
        values.get(ROWS, 0.0)
        for name in eager.world.pods.names()
        for version, values in eager.world.pods._counted[eager.world.pods._uid(name)].items()
        if version == "2"
    ]
    assert counted(second) == sum(shown)


async def test_a_new_version_is_looked_at_at_once(eager: Eager) -> None:
    await eager.deploy(1)
    eager.world.operator.judge._spread = lambda: 1.0
    await eager.world.run(120)
    second = await eager.deploy(2)
    promoted = datetime.fromisoformat(eager.world.status()["promotedAt"])
    assert second.looked is not None
    assert second.looked - promoted <= timedelta(seconds=1)


async def test_pods_that_served_before_are_counted_from_the_first_look_on(eager: Eager) -> None:
    """A version that comes back while its pods are still there counted long ago."""
    await eager.deploy(1)
    await eager.world.run(120)
    await eager.deploy(2)
    back = await eager.deploy(1)
    assert back.version == "1"
    assert counted(back) == 0.0


async def test_an_operator_that_begins_counts_what_is_younger_than_a_window_and_no_more(eager: Eager) -> None:
    drift = {"drift": {"windowSeconds": 600}}
    await eager.deploy(1, monitoring=drift)
    await eager.world.run(60)
    await eager.world.restart()
    await eager.world.run(20)
    assert counted(eager.world.operator.judge._watched[KEY]) == EARLY
    await eager.world.run(900)
    await eager.world.restart()
    await eager.world.run(20)
    assert counted(eager.world.operator.judge._watched[KEY]) == 0.0
