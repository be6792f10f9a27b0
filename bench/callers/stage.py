"""What is measured: one real model server with limits, and two routers before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.callers.load import Greedy, greedy
from bench.machine import pin
from bench.router.stage import cpu_seconds
from bench.server.callers import limited
from bench.server.cases import Case, Protocol, make_case
from bench.server.servers import SLIPWAY, Running
from slipway.core.traffic.envoy.routes import Arm, Route
from tests.ports import free_port
from tests.unit.router.running import running_router

#: The server and the routers share one core, those who ask the other.
SERVED_CORE, LOAD_CORE = 0, 1
MODEL = "gbt"
MODEST, GREEDY = "modest", "greedy"
#: Of each caller: requests a second.
LIMIT = 100
DIRECT, APART, BOTH = "direct", "two routers, one each", "two routers, both"


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that is ready.

    Attributes:
        server: with limits for each caller.
        greedy: the process that asks too much.
        cases: the request of each caller, with its key.
        ways: by which ports the modest caller and the greedy one ask.
    """

    server: Running
    greedy: Greedy
    cases: dict[str, Case]
    ways: dict[str, tuple[Sequence[int], Sequence[int]]]


@asynccontextmanager
async def stage(models: Path, scratch: Path, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start all of it."""
    say("a server and two routers")
    guards = limited((MODEST, GREEDY), LIMIT, scratch)
    case = make_case(models, MODEL, Protocol.JSON, 1)
    with Running(SLIPWAY, models, MODEL, scratch, str(SERVED_CORE), guarded=guards[MODEST]) as server:
        server.wait(case)
        async with AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(_router(server, scratch)) for _ in range(2)]
            yield Stage(
                server,
                await stack.enter_async_context(greedy(LOAD_CORE)),
                {name: replace(case, headers={**case.headers, **guards[name].headers}) for name in guards},
                {
                    DIRECT: ((server.port,), (server.port,)),
                    APART: ((first,), (second,)),
                    BOTH: ((first, second), (first, second)),
                },
            )


def cpu_of(server: Running) -> float:
    """Seconds that all of its processes had on a core."""
    return sum(cpu_seconds(pid) for pid in server.pids())


@asynccontextmanager
async def _router(server: Running, scratch: Path) -> AsyncIterator[int]:
    """An Envoy of its own; the port by which it leads to the server."""
    port = free_port()
    folder = scratch / f"router-{port}"
    folder.mkdir()
    route = Route("model", port, Arm("stable", "127.0.0.1", server.port, server.grpc_port))
    async with running_router(folder, [route]) as router:
        pin(router.process.pid, SERVED_CORE)
        yield port
