"""What a router adds to a request: the same server asked directly and through it, in turn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from bench.router.load import client, send
from bench.router.stage import Stage, cpu_seconds
from bench.server.cases import Protocol
from slipway.core.traffic.envoy.routes import Route
from tests.ports import free_ports

RATE = 500
DIRECT = "direct"
#: Ways through the router: weight of the canary, and percent that is copied to it.
WAYS = {"weight 0": (0, 0), "weight 10": (10, 0), "mirror 100": (0, 100)}


@dataclass(slots=True)
class Latency:
    """By protocol and way, of each round: milliseconds of p50 and p99, and the router's CPU µs a request."""

    p50: dict[str, dict[str, list[float]]] = field(default_factory=lambda: _table())
    p99: dict[str, dict[str, list[float]]] = field(default_factory=lambda: _table())
    cpu: dict[str, dict[str, list[float]]] = field(default_factory=lambda: _table())
    failures: list[str] = field(default_factory=list)

    def added(self, quantile: str, protocol: str, way: str) -> float:
        """Median over rounds of what a way took more than the direct one did in the same round."""
        found: dict[str, list[float]] = getattr(self, quantile)[protocol]
        return median(one - other for one, other in zip(found[way], found[DIRECT], strict=True))


async def measure(stage: Stage, rounds: int, seconds: float) -> Latency:
    """All rounds; each takes every way in turn, for ``seconds``."""
    stable, canary = stage.arms()
    routes = {
        way: Route(way.replace(" ", "-"), port, stable, canary, weight, mirror)
        for port, (way, (weight, mirror)) in zip(free_ports(len(WAYS)), WAYS.items(), strict=True)
    }
    result = Latency()
    async with stage.router(list(routes.values())) as router:
        for turn in range(rounds):
            stage.say(f"latency, round {turn + 1} of {rounds}")
            for protocol, case in stage.cases.items():
                ports = {DIRECT: stage.port(protocol), **{way: one.listener for way, one in routes.items()}}
                for way, port in ports.items():
                    async with client(case, port) as ask:
                        await send(ask, RATE, 0.2)
                        before = cpu_seconds(router.process.pid)
                        account = await send(ask, RATE, seconds)
                        spent = cpu_seconds(router.process.pid) - before
                    result.failures += [f"{protocol}, {way}: {why}" for why in account.failures]
                    result.p50[protocol][way].append(account.p50)
                    result.p99[protocol][way].append(account.p99)
                    result.cpu[protocol][way].append(1e6 * spent / account.sent)
    return result


def protocols() -> tuple[Protocol, ...]:
    """In the order of the tables."""
    return (Protocol.JSON, Protocol.GRPC)


def _table() -> dict[str, dict[str, list[float]]]:
    return defaultdict(lambda: defaultdict(list))
