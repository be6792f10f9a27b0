"""What is measured: two real model servers, and Envoys before them that run as a router's pod does."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import pin
from bench.server.cases import Case, Protocol, make_case
from bench.server.servers import SLIPWAY, Running
from slipway.core.traffic.envoy.routes import Arm, Route
from tests.unit.router.running import Router, running_router

#: The router and what it asks share one core, clients and everything else the other.
ROUTER_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers that are ready.

    Attributes:
        stable: on the router's core.
        canary: of the same model, on the core of the clients.
        cases: the request that is sent, by protocol.
        scratch: an empty directory.
        say: tells how far it is.
    """

    stable: Running
    canary: Running
    cases: dict[Protocol, Case]
    scratch: Path
    say: Callable[[str], None]

    def arms(self) -> tuple[Arm, Arm]:
        """Stable and canary."""
        return _arm("stable", self.stable), _arm("canary", self.canary)

    def port(self, protocol: Protocol) -> int:
        """Where the stable server answers without a router."""
        return self.stable.grpc_port if protocol is Protocol.GRPC else self.stable.port

    @asynccontextmanager
    async def router(
        self, routes: Sequence[Route], resolver: dict[str, Any] | None = None
    ) -> AsyncIterator[Router]:
        """An Envoy of its own with these routes, on its core; ``resolver`` instead of this machine's."""
        folder = self.scratch / f"router-{time.monotonic_ns()}"
        folder.mkdir()
        async with running_router(folder, routes, resolver=resolver) as router:
            pin(router.process.pid, ROUTER_CORE)
            yield router


@contextmanager
def stage(models: Path, scratch: Path, say: Callable[[str], None]) -> Iterator[Stage]:
    """Start both servers, and wait until each answers as onnxruntime does."""
    cases = {each: make_case(models, "gbt", each, 1) for each in (Protocol.JSON, Protocol.GRPC)}
    folders = [scratch / name for name in ("stable", "canary")]
    for folder in folders:
        folder.mkdir()
    with (
        Running(SLIPWAY, models, "gbt", folders[0], str(ROUTER_CORE)) as stable,
        Running(SLIPWAY, models, "gbt", folders[1], str(LOAD_CORE)) as canary,
    ):
        for server in (stable, canary):
            for case in cases.values():
                server.wait(case)
        yield Stage(stable, canary, cases, scratch, say)


def memory(pids: Iterable[int]) -> tuple[float, float]:
    """Megabytes resident in processes: all (RSS), and with shared pages by their share (PSS)."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    rss, pss = (
        sum(int(found[1]) for text in texts if (found := re.search(rf"^{what}:\s+(\d+) kB", text, re.M)))
        for what in ("Rss", "Pss")
    )
    return rss / 1024, pss / 1024


def cpu_seconds(pid: int) -> float:
    """Time that all threads of a process had on a core."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def _arm(revision: str, server: Running) -> Arm:
    return Arm(revision, "127.0.0.1", server.port, server.grpc_port)
