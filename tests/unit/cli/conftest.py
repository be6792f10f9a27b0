"""A world in which version 1 serves and version 2 waits for approval at 20%, behind HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from tests.unit.cli.serving import Served, served
from tests.unit.world import World

SPEC: dict[str, Any] = {
    "scaling": {"minReplicas": 2},
    "rollout": {
        "strategy": "Canary",
        "steps": [
            {"setWeight": 20},
            {"pause": {"untilApproved": True}},
            {"setWeight": 50},
            {"pause": {"seconds": 600}},
        ],
    },
}

Run = Callable[..., int]


def version(number: int) -> dict[str, Any]:
    return {"model": {"uri": f"mlflow://fraud/{number}"}, **SPEC}


@pytest.fixture
async def world() -> World:
    """Version 1 serves, and 2 waits for approval at 20%."""
    world = World()
    await world.operator.start()
    world.create(version(1))
    await world.run(60)
    world.create(version(2))
    await world.run(60)
    assert world.status()["rollout"]["phase"] == "Paused"
    return world


@pytest.fixture
def cluster(world: World, tmp_path: Path) -> Iterator[Served]:
    with served(world, tmp_path) as found:
        yield found


@pytest.fixture
def run(cluster: Served) -> Run:
    """Runs a command on that cluster; gives its exit code."""
    return lambda *words: main([*words, "--kubeconfig", str(cluster.kubeconfig)])
