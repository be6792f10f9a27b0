"""Open loops: requests leave when they are due, and are timed from then on, whatever came of those before."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles

import grpc

from bench.server.cases import GRPC_PATH, INFER_PATH, Case, Protocol
from tests.unit.router.running import Connection, connect

#: Sends one request; what went wrong, or None.
Ask = Callable[[], Awaitable[str | None]]
#: A request without an answer by then has failed.
SECONDS = 10.0


@dataclass(slots=True)
class Account:
    """What clients saw: milliseconds of each request that was answered well, and why the others were not."""

    milliseconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return len(self.milliseconds) + len(self.failures)

    @property
    def p50(self) -> float:
        return self.percentile(50)

    @property
    def p99(self) -> float:
        return self.percentile(99)

    def percentile(self, share: int) -> float:
        """Milliseconds that so many in a hundred took at most."""
        return quantiles(self.milliseconds, n=100, method="inclusive")[share - 1]


def event_loop() -> asyncio.AbstractEventLoop:
    """One whose timers keep microseconds; those of epoll keep milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@asynccontextmanager
async def client(case: Case, port: int) -> AsyncIterator[Ask]:
    """Sends a case over kept connections; opens one more where all are busy."""
    if case.protocol is Protocol.GRPC:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield _caller(channel, case)
        return
    idle: list[Connection] = []
    everyone: list[Connection] = []
    try:
        yield _poster(case, port, idle, everyone)
    finally:
        for connection in everyone:
            connection.close()


async def send(ask: Ask, rate: float, seconds: float, into: Account | None = None) -> Account:
    """So many requests a second, evenly, for that long; returns when each has its answer."""
    account = Account() if into is None else into
    asked: list[asyncio.Task[None]] = []
    start = time.perf_counter() + 0.005

    async def one(due: float) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                failure = await ask()
        except (OSError, TimeoutError) as error:
            failure = repr(error)
        if failure is None:
            account.milliseconds.append(1000 * (time.perf_counter() - due))
        else:
            account.failures.append(failure)

    try:
        for number in range(round(rate * seconds)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(one(due)))
    finally:
        await asyncio.gather(*asked)
    return account


def _caller(channel: grpc.aio.Channel, case: Case) -> Ask:
    infer = channel.unary_unary(GRPC_PATH)

    async def ask() -> str | None:
        try:
            await infer(case.body, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return None

    return ask


def _poster(case: Case, port: int, idle: list[Connection], everyone: list[Connection]) -> Ask:
    headers = {"host": "bench", "content-length": str(len(case.body)), **case.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {INFER_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + case.body

    async def ask() -> str | None:
        while idle and idle[-1].closed:
            idle.pop()
        if idle:
            connection = idle.pop()
        else:
            connection = await connect(port)
            everyone.append(connection)
        status, _, body = await connection.ask(request)
        idle.append(connection)
        return None if status == 200 else f"{status}: {body[:200]!r}"

    return ask
