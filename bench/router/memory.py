"""What a router takes: with one model, and with a hundred, after requests to each."""

from __future__ import annotations

from dataclasses import dataclass

from bench.router.load import client
from bench.router.stage import Stage, memory
from slipway.core.traffic.envoy.routes import Route
from tests.ports import free_ports

#: To each model by each protocol, one after the other.
REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of one router process.

    Attributes:
        models: that it serves.
        canaries: whether each has a canary with a share and copies of all requests.
        rss: resident.
        pss: with pages that it shares by its share.
    """

    models: int
    canaries: bool
    rss: float
    pss: float


async def measure(stage: Stage) -> list[Memory]:
    """A router of its own for each row."""
    return [
        await _measure(stage, models, canaries) for models, canaries in ((1, True), (100, False), (100, True))
    ]


async def _measure(stage: Stage, models: int, canaries: bool) -> Memory:
    stage.say(f"memory with {models} {'with' if canaries else 'without'} a canary")
    stable, canary = stage.arms()
    routes = [
        Route(f"model-{port}", port, stable, canary, weight=10, mirror_percent=100)
        if canaries
        else Route(f"model-{port}", port, stable)
        for port in free_ports(models)
    ]
    async with stage.router(routes) as router:
        for route in routes:
            for case in stage.cases.values():
                async with client(case, route.listener) as ask:
                    for _ in range(REQUESTS):
                        failure = await ask()
                        assert failure is None, failure
        rss, pss = memory([router.process.pid])
    return Memory(models, canaries, rss, pss)
