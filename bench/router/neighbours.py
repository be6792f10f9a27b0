"""What a quiet model's client sees while a noisy one's take the router's core."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

from bench.router.load import Account, client, send
from bench.router.stage import LOAD_CORE, Stage, cpu_seconds
from bench.server.cases import INFER_PATH, Protocol
from slipway.core.traffic.envoy.routes import Route
from tests.ports import free_ports

QUIET_RATE = 50
NOISY_CLIENTS = 64
#: Share of its core that the noisy model's requests are to take of the router.
BUSY = 0.9


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What the quiet client saw.

    Attributes:
        noise: what the other client did meanwhile.
        rate: of the noisy model's requests, a second.
        busy: share of its core that the router took.
        account: of the quiet client.
    """

    noise: str
    rate: float
    busy: float
    account: Account


async def measure(stage: Stage, seconds: float) -> list[Neighbour]:
    """Without noise, with as much as takes most of the router's core, and with all that clients can send."""
    stage.say("noisy neighbour")
    stable, canary = stage.arms()
    quiet_port, noisy_port = free_ports(2)
    # Each has a model server of its own, since the router is what they share.
    routes = [Route("quiet", quiet_port, stable), Route("noisy", noisy_port, canary)]
    async with stage.router(routes) as router:
        pid = router.process.pid

        async def beside(noise: str, rate: float | None) -> Neighbour:
            noisy = await _noise(stage, noisy_port, rate, seconds + 1) if rate != 0 else None
            await asyncio.sleep(0.5)
            before, began = cpu_seconds(pid), time.perf_counter()
            async with client(stage.cases[Protocol.JSON], quiet_port) as ask:
                account = await send(ask, QUIET_RATE, seconds)
            busy = (cpu_seconds(pid) - before) / (time.perf_counter() - began)
            return Neighbour(noise, await _rate(noisy) if noisy else 0.0, busy, account)

        alone = await beside("none", 0)
        flooded = await beside("all that clients can send", None)
        most = BUSY * flooded.rate / max(flooded.busy, 0.01)
        return [alone, await beside("a steady rate", min(most, BUSY * flooded.rate)), flooded]


async def _noise(stage: Stage, port: int, rate: float | None, seconds: float) -> asyncio.subprocess.Process:
    body = stage.scratch / "noise"
    case = stage.cases[Protocol.JSON]
    body.write_bytes(case.body)
    limit = [] if rate is None else [f"--rps={max(1, round(rate / NOISY_CLIENTS))}"]
    return await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(LOAD_CORE), "h2load", "--h1", "-t1", f"-c{NOISY_CLIENTS}", "-m1", *limit),
        *(f"-D{round(seconds)}", "-d", str(body), "-H", "content-type: application/json"),
        f"http://127.0.0.1:{port}{INFER_PATH}",
        stdout=asyncio.subprocess.PIPE,
    )


async def _rate(noisy: asyncio.subprocess.Process) -> float:
    """Requests a second, once it is over."""
    said = (await noisy.communicate())[0].decode()
    found = re.search(r"finished in \S+, ([\d.]+) req/s", said)
    assert found is not None, said
    return float(found[1])
