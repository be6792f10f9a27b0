from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from e2e.ledger import hold
from slipway_server.lifecycle import Lifecycle
from tests.ports import free_port
from tests.server.conftest import Start
from tests.server.running import Server, tensor

ROW = tensor("x", "FP32", [1, 3], [1, 2, 3])


@pytest.mark.timed
def test_a_draining_server_answers_but_asks_clients_to_leave(start: Start) -> None:
    server = start("identity", drainSeconds=2).wait_until_ready()
    assert "connection" not in server.infer(ROW).headers
    began = time.monotonic()
    server.terminate()
    while server.client.get("/v2/health/ready").status_code == 200:
        time.sleep(0.01)
    assert server.client.get("/v2/health/live").status_code == 200
    assert server.client.get("/v2/models/fraud/ready").status_code == 503
    for response in (server.infer(ROW), server.client.get("/v2/models/fraud"), server.client.get("/nowhere")):
        assert response.headers["connection"] == "close"
    assert server.infer(ROW).status_code == 200
    assert server.wait() == 0
    took = time.monotonic() - began
    assert took >= 2
    hold("a drain of two seconds", took, 4)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/v2/health/live")


@pytest.mark.timed
async def test_a_drain_ends_after_a_quiet_time_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_server.lifecycle.QUIET_SECONDS", 0.3)
    lifecycle = Lifecycle(drain_seconds=10)
    lifecycle.loaded = True
    first = asyncio.create_task(lifecycle.drain())
    await asyncio.sleep(0.2)
    assert not lifecycle.ready
    lifecycle.began()
    await asyncio.sleep(0.6)
    assert not first.done(), "a request is still being answered"
    lifecycle.ended()
    await asyncio.sleep(0.2)
    assert not first.done(), "the last request ended only just now"
    seconds = await asyncio.wait_for(first, 5)
    assert seconds >= 1.1
    hold("a drain ends 0.3 s after the last of 1.1 s of requests", seconds, 3)


async def test_a_drain_ends_in_time_though_clients_never_leave() -> None:
    lifecycle = Lifecycle(drain_seconds=0.3)
    lifecycle.began()
    assert 0.3 <= await asyncio.wait_for(lifecycle.drain(), 3) < 2


def test_sigterm_alone_drains_too_and_what_is_under_way_is_finished(start: Start) -> None:
    server = start("slow", drainSeconds=1, requestTimeoutMilliseconds=20_000).wait_until_ready()
    answers: list[httpx.Response] = []
    work = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [400_000])]
    client = threading.Thread(target=lambda: answers.append(server.infer(*work)))
    client.start()
    in_flight = ("slipway_inference_in_flight", (("model", "fraud"), ("model_version", "3")))
    while server.metrics()[in_flight] == 0:
        time.sleep(0.01)
    server.terminate()
    assert server.wait() == 0
    client.join(5)
    assert answers[0].status_code == 200
    assert answers[0].json()["outputs"][0]["data"] == [1.0]


@pytest.mark.timed
def test_interrupt_ends_an_idle_server_at_once_and_closes_idle_connections(start: Start) -> None:
    server = start("identity", drainSeconds=30).wait_until_ready()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as idle:
        began = time.monotonic()
        server.process.send_signal(2)
        assert server.wait() == 0
        took = time.monotonic() - began
        assert took < 15, "it drained"
        hold("an idle server ends at an interrupt", took, 2)
        assert idle.recv(1) == b""


class Service:
    """Like a Kubernetes Service: each new connection goes to one of the endpoints, and stays with it."""

    def __init__(self) -> None:
        self.endpoints: list[int] = []
        self.port = free_port()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._connect, "127.0.0.1", self.port):
            yield

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            port = random.choice(self.endpoints)
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._pipe(reader, server_writer), self._pipe(server_reader, writer))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_rolling_replacement_under_constant_load_loses_no_request(start: Start) -> None:
    def begin() -> Server:
        return start("identity", drainSeconds=2)

    service, answered, failed = Service(), 0, []
    current = await asyncio.to_thread(begin().wait_until_ready)
    service.endpoints = [current.http_port]
    stop = asyncio.Event()

    async def client(pause: Callable[[], float]) -> None:
        nonlocal answered
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=10) as session:
            while not stop.is_set():
                try:
                    response = await session.post("/v2/models/fraud/infer", json={"inputs": [ROW]})
                    if response.status_code == 200:
                        answered += 1
                    else:
                        failed.append(f"{response.status_code} {response.text}")
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                await asyncio.sleep(pause())

    async def replace(old: Server) -> Server:
        """What Kubernetes does: the new pod is ready, the old one leaves the endpoints a little late."""
        new = await asyncio.to_thread(begin().wait_until_ready)
        service.endpoints.append(new.http_port)
        old.terminate()
        await asyncio.sleep(0.7)
        service.endpoints.remove(old.http_port)
        assert await asyncio.to_thread(old.wait) == 0
        return new

    async with service.running():
        busy = [client(lambda: 0.005) for _ in range(8)]
        pausing = [client(lambda: random.uniform(0.1, 1.5)) for _ in range(20)]
        clients = [asyncio.create_task(each) for each in busy + pausing]
        for _ in range(2):
            current = await replace(current)
        stop.set()
        await asyncio.gather(*clients)
    assert failed == []
    assert answered > 100
