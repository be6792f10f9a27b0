"""Whatever a stranger answers, the operator's memory and time stay within bounds."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from slipway.core.endpoint import Endpoint
from slipway.engine.observers import watched
from slipway.engine.observers.prometheus import PrometheusError
from slipway.infra import bounded, routers
from slipway.infra.bounded import Budget, ReadError, read_bounded, reading_session
from slipway.infra.pods import PodError, answer_taker, by_version, pod_reader, read_pod
from slipway.infra.prometheus import prometheus_reader
from slipway.infra.routers import RouterError, read_router, router_reader

MIB = 1024 * 1024
#: By which one answer may let the operator's memory grow, whatever it is.
MOST_GROWTH = 32 * MIB

Writes = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def saying(write: Writes) -> AsyncIterator[Endpoint]:
    """A server that answers every request in its own way."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await write(writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "0.0.0.0", 0)
    try:
        yield Endpoint("payments", "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def text(body: bytes, head: bytes = b"", status: int = 200) -> Writes:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (status, head, len(body)))
        for start in range(0, len(body), MIB):
            writer.write(body[start : start + MIB])
            await writer.drain()

    return write


def endless(piece: bytes, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Writes:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return write


def dripping(piece: bytes, seconds: float) -> Writes:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return write


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_GROWTH
    finally:
        tracemalloc.stop()


SAMPLE = b'slipway_feature_values_total{feature="f%d",bin="b",model_version="1"} 3\n'
HOSTILE = {
    "8 MiB of series": text(b"".join(SAMPLE % number for number in range(120_000))),
    "as many series as fit": text(b"".join(SAMPLE % number for number in range(40_000))),
    "one line": text(b"slipway_x" + b"a" * (2 * MIB)),
    "a label without a value": text(b"slipway_feature_values_total{" + b"a" * (2 * MIB) + b"} 1\n"),
    "labels without values": text((b"slipway_feature_values_total{" + b"a" * 4000 + b"} 1\n") * 500),
    "brackets": text(b"{" + b"[],[]," * (5 * MIB)),
    "brackets that fit": text(b'{"configs":[' + b"[]," * 400_000 + b"[]]}"),
    "nested": text(b'{"stats":' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
    "numbers": text(b'{"stats":[' + b"1234," * 300_000 + b"1]}"),
    "stats": endless(b'{"stats":[' + b'{"name":"a","value":1},' * 3000),
    "bomb": text(gzip.compress(b"[" * (20 * MIB)), b"Content-Encoding: gzip\r\n"),
    "bomb without leave": text(gzip.compress(b"[" * (20 * MIB))),
    "zeros": endless(bytes(65536)),
    "headers": endless(b"x-header: " + b"y" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
    "a header": endless(b"y" * 1000, b"HTTP/1.1 200 OK\r\nx: "),
    "a status": endless(b"y" * 1000, b"HTTP/1.1 200 "),
    "promises": endless(b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", b""),
    "chunks": endless(
        b"10000\r\n" + b"z" * 65536 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "tiny chunks": endless(b"1\r\nz\r\n" * 1000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "chunk extensions": endless(b"y" * 1000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"),
    "trailers": endless(
        b"x: " + b"y" * 100 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    ),
    "nothing": dripping(b"", 1.0),
    "a drip": dripping(b"z", 0.01),
    "another tongue": text(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_whatever_a_stranger_says_costs_little_memory_and_a_bounded_time(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bounded, routers):
        monkeypatch.setattr(module, "TIMEOUT", 1.0)
    budgets = [Budget() for _ in range(4)]
    async with (
        saying(HOSTILE[what]) as target,
        pod_reader(watched.WANTED, budgets[0]) as read,
        answer_taker(budgets[1]) as take,
        router_reader(budgets[2]) as route,
        prometheus_reader(budgets[3]) as ask,
    ):
        longest, watching = 0.0, True

        async def watch() -> None:
            nonlocal longest
            while watching:
                # Time of this thread: a busy machine does not count.
                began = time.thread_time()
                await asyncio.sleep(0.01)
                longest = max(longest, time.thread_time() - began)

        watcher = asyncio.create_task(watch())
        began = time.monotonic()
        with little_memory():
            assert not await read(target)
            assert await route(target, None) is None
            await take(target, 60, 1000)
            with pytest.raises(PrometheusError) as failed:
                await ask("payments", f"http://{target}", "up")
        assert time.monotonic() - began < 20
        watching = False
        await watcher
        # Traced memory is slow; untraced it is a fifth of this.
        assert longest < 3.0
        assert len(str(failed.value)) < 200
        assert not any(budget._bytes_of for budget in budgets)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    asked = False

    async def note(writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = True
        await text(b"{}")(writer)

    async with saying(note) as elsewhere:
        head = f"Location: http://{elsewhere}/\r\n".encode()
        async with saying(text(b"", head, status)) as target, reading_session() as session:
            with pytest.raises(PodError, match=f"status {status}"):
                await read_pod(str(target), watched.WANTED, session)
            with pytest.raises(RouterError, match=f"status {status}"):
                await read_router(str(target))
            async with prometheus_reader(Budget()) as ask:
                with pytest.raises(PrometheusError, match=f"status {status}"):
                    await ask("payments", f"http://{target}", "up")
    assert not asked


async def test_no_cookie_is_kept() -> None:
    async def bake(writer: asyncio.StreamWriter) -> None:
        await text(b"", b"Set-Cookie: a=b\r\n")(writer)

    async with saying(bake) as target, reading_session() as session:
        await read_bounded(session, f"http://{target}/", 10)
        assert len(session.cookie_jar) == 0


async def test_a_prometheus_text_reaches_nobody() -> None:
    secret = json.dumps({"error": "the secret of another namespace"}).encode()
    for status in (200, 400, 422, 500):
        async with saying(text(secret, b"", status)) as target, prometheus_reader(Budget()) as ask:
            with pytest.raises(PrometheusError) as failed:
                await ask("payments", f"http://{target}", "up")
        assert "secret" not in str(failed.value)


async def test_answers_are_read_up_to_what_is_asked_for() -> None:
    entries = bytes(range(16)) * 1000
    async with (
        saying(text(entries, b"slipway-outcomes: class\r\n")) as target,
        answer_taker(Budget()) as take,
    ):
        found = await take(target, 60, 10)
    assert found is not None
    assert found.entries == entries[:160]


async def test_silent_pods_of_one_namespace_leave_room_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "TIMEOUT", 60.0)
    async with (
        saying(dripping(b"", 1.0)) as silent,
        saying(text(SAMPLE % 1)) as honest,
        pod_reader(watched.WANTED, Budget()) as read,
    ):
        # Other addresses of the same server, so that none rests.
        held = [
            asyncio.create_task(read(Endpoint("greedy", f"127.0.0.{number % 200 + 1}", silent.port)))
            for number in range(200)
        ]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert await read(honest) is not None
        assert time.monotonic() - began < 30
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_an_address_that_was_silent_rests_and_then_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "TIMEOUT", 0.2)
    monkeypatch.setattr(bounded, "LEAST_REST", 0.3)
    silent = True

    async def write(writer: asyncio.StreamWriter) -> None:
        if silent:
            await asyncio.sleep(60)
        await text(SAMPLE % 1)(writer)

    async with saying(write) as target, pod_reader(watched.WANTED, Budget()) as read:
        assert await read(target) is None
        silent = False
        assert await read(target) is None, "it was asked at once"
        await asyncio.sleep(0.4)
        assert await read(target) is not None


async def test_bytes_are_charged_to_a_namespace_and_given_back() -> None:
    budget = Budget()
    async with budget.request("payments", "a") as charge:
        charge.take(bounded.MOST_BYTES_OF_ONE)
        with pytest.raises(ReadError, match="too much"):
            charge.take(1)
        async with budget.request("other", "b") as other:
            other.take(bounded.MOST_BYTES_OF_ONE)
    async with budget.request("payments", "a") as charge:
        charge.take(bounded.MOST_BYTES_OF_ONE)
    assert budget._bytes == 0
    assert not budget._requests_of


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e300"])
def test_a_value_that_no_counter_has_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no count"):
        by_version(f'slipway_inference_rows_total{{model_version="7"}} {value}\n', watched.WANTED)


@pytest.mark.parametrize("value", ["-1", "1e400", '"1"', "1.5", str(2**60), "null"])
async def test_a_router_that_counts_nonsense_is_none(value: str) -> None:
    stat = f'{{"stats":[{{"name":"cluster.fraud/aaaaaaaaaa.upstream_rq_total","value":{value}}}]}}'
    async with saying(text(stat.encode())) as target:
        with pytest.raises(RouterError, match="as no router does"):
            await read_router(str(target))
