"""How long a router takes to do what was written, and what others notice of models that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.router.load import Account, send
from bench.router.stage import Stage
from slipway.core.traffic.envoy.routes import Route
from slipway.infra.routers import read_router
from tests.ports import free_ports
from tests.unit.router.naming import naming
from tests.unit.router.running import Connection, Pods, Router, bring, connect, request, until

SHIFTS = 30
COMING_AND_GOING = 20
NEIGHBOURS = 10
NEIGHBOURS_RATE = 200
ARRIVALS = 8


@dataclass(slots=True)
class Changes:
    """Milliseconds from the swap of the files, as the kubelet does it, by how many models the router has.

    Attributes:
        done: until a client's request goes the new way.
        read_back: until the operator's own read-back says so.
        neighbours: what the clients of other models saw while models came and went.
        arrivals: until a canary's first pod answers a client, from when DNS names it as ready.
    """

    done: dict[int, list[float]] = field(default_factory=dict)
    read_back: dict[int, list[float]] = field(default_factory=dict)
    neighbours: Account = field(default_factory=Account)
    arrivals: list[float] = field(default_factory=list)


async def measure(stage: Stage) -> Changes:
    """With one model, with a hundred, and with models that come and go."""
    result = Changes()
    stable, canary = await Pods("stable").start(), await Pods("canary").start()
    for models in (1, 100):
        stage.say(f"changes with {models} models")
        ports = free_ports(models)
        routes = [Route(f"model-{port}", port, stable.arm, canary.arm) for port in ports]
        async with stage.router(routes) as router:
            result.done[models], result.read_back[models] = await _shift(router, routes)
    stage.say("models come and go")
    routes = [Route(f"model-{port}", port, stable.arm) for port in free_ports(NEIGHBOURS + COMING_AND_GOING)]
    async with stage.router(routes[:NEIGHBOURS]) as router:
        result.neighbours = await _come_and_go(router, routes[:NEIGHBOURS], routes[NEIGHBOURS:])
    stage.say("canaries get ready")
    result.arrivals = await _arrive(stage, stable, canary)
    return result


async def _arrive(stage: Stage, stable: Pods, canary: Pods) -> list[float]:
    async with naming() as names:
        names.addresses["stable"] = ["127.0.0.1"]
        arms = [replace(pods.arm, host=pods.arm.revision) for pods in (stable, canary)]
        route = Route("model", free_ports(1)[0], arms[0], arms[1], weight=50)
        arrivals = []
        async with stage.router([route], names.resolver()) as router:
            connection = await connect(route.listener)
            for turn in range(ARRIVALS):
                await asyncio.sleep(turn / ARRIVALS)
                names.addresses["canary"] = ["127.0.0.1"]
                began = time.perf_counter()
                arrivals.append(1000 * (await _done(connection, route) - began))
                del names.addresses["canary"]
                await until(router, lambda state: state.arms["model", "canary"].pods == 0)
            connection.close()
        return arrivals


async def _shift(router: Router, routes: Sequence[Route]) -> tuple[list[float], list[float]]:
    """All traffic of the first route to its canary, and back."""
    connection = await connect(routes[0].listener)
    done, read_back = [], []
    for turn in range(SHIFTS):
        wanted = replace(routes[0], weight=100 if turn % 2 == 0 else 0)
        router.write([wanted, *routes[1:]])
        done.append(1000 * (await _done(connection, wanted) - router.swapped))
        read_back.append(1000 * (await _read_back(router, wanted) - router.swapped))
    connection.close()
    return done, read_back


async def _done(connection: Connection, wanted: Route) -> float:
    """When the first request goes the wanted way; asks without a pause."""
    goal = "canary" if wanted.weight else "stable"
    while (await connection.ask(request()))[1] != goal:
        pass
    return time.perf_counter()


async def _read_back(router: Router, wanted: Route) -> float:
    while not (await read_router(router.address)).does(wanted):
        pass
    return time.perf_counter()


async def _come_and_go(router: Router, there: Sequence[Route], coming: Sequence[Route]) -> Account:
    """Beside clients of those that stay, add each of ``coming`` by the safe way, and take each away again."""
    account = Account()
    connections = [await connect(route.listener) for route in there]
    idle = list(connections)

    async def ask() -> str | None:
        connection = idle.pop(0) if idle else await connect(there[0].listener)
        status, _, body = await connection.ask(request())
        idle.append(connection)
        return None if status == 200 else f"{status}: {body[:200]!r}"

    sending = asyncio.create_task(send(ask, NEIGHBOURS_RATE, 3600, account))
    for number, route in enumerate(coming):
        await bring(router, route, [*there, *coming[:number]])
    for number, route in enumerate(coming):
        router.write([*there, *coming[number + 1 :]])
        await until(router, lambda state, gone=route: gone.name not in state.listeners)  # type: ignore[misc]
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    for connection in (*connections, *idle):
        connection.close()
    return account
