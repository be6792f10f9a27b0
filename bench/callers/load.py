"""Both callers as open loops: requests leave when they are due. Run by itself, it is the greedy one."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from bench.router.load import Account, Ask, client, event_loop, send
from bench.server.cases import Case, Protocol

_REFUSED, _BEGUN = "429", "begun"
#: Of the greedy caller.
_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Answers:
    """What the greedy caller got, a second; ``others`` are those of neither kind."""

    answered: float
    refused: float
    others: Sequence[str]


async def ask_by(case: Case, ports: Sequence[int], rate: float, seconds: float) -> Account:
    """So many requests a second, by all ports in turn."""
    async with _asker(case, ports) as ask:
        return await send(ask, rate, seconds)


class Greedy:
    """The greedy caller in a process of its own, which leaves the core to whoever else wants it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def begin(self, case: Case, ports: Sequence[int], rate: float, seconds: float) -> None:
        """Ask from now on; returns once it does."""
        plan = {
            "body": case.body.decode(),
            "headers": dict(case.headers),
            "ports": list(ports),
            "rate": rate,
            "seconds": seconds,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plan).encode() + b"\n")
        assert await self._line() == _BEGUN

    async def answers(self) -> Answers:
        """What it got, once it is through."""
        return Answers(**json.loads(await self._line()))

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def greedy(core: int) -> AsyncIterator[Greedy]:
    """Its process, which has begun."""
    command = ("taskset", "-c", str(core), sys.executable, "-m", "bench.callers.load")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield Greedy(process)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _asker(case: Case, ports: Sequence[int]) -> AsyncIterator[Ask]:
    async with AsyncExitStack() as stack:
        asks = [await stack.enter_async_context(client(case, port)) for port in ports]
        turns = itertools.cycle(asks)

        async def ask() -> str | None:
            return await next(turns)()

        # Connections are there before the first request is timed.
        for each in asks:
            await each()
        yield ask


async def _insist(case: Case, ports: Sequence[int], rate: float, seconds: float) -> Account:
    """As :func:`ask_by`, over so many connections and no more: whoever is not answered waits for it."""
    account = Account()
    async with _asker(case, ports) as ask:
        start = time.perf_counter()

        async def one(first: int) -> None:
            for number in range(first, round(rate * seconds), _CONNECTIONS):
                await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
                due = time.perf_counter()
                if due - start > seconds:
                    return
                failure = await ask()
                if failure is None:
                    account.milliseconds.append(1000 * (time.perf_counter() - due))
                else:
                    account.failures.append(failure)

        await asyncio.gather(*(one(first) for first in range(_CONNECTIONS)))
    return account


async def _main(plan: str) -> None:
    given = json.loads(plan)
    case = Case(Protocol.JSON, given["body"].encode(), given["headers"], np.array(()))
    seconds = given["seconds"]
    print(_BEGUN, flush=True)
    account = await _insist(case, given["ports"], given["rate"], seconds)
    refused = [each for each in account.failures if each.startswith(_REFUSED)]
    others = sorted({each for each in account.failures if not each.startswith(_REFUSED)})
    answers = {"answered": len(account.milliseconds) / seconds, "refused": len(refused) / seconds}
    print(json.dumps({**answers, "others": others[:5]}), flush=True)


if __name__ == "__main__":
    os.nice(19)
    for line in sys.stdin:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            runner.run(_main(line))
