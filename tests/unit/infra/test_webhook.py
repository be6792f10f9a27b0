"""Saying from outside that a model's alias has moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import pytest

from slipway.engine.controller.apply import Writer
from slipway.engine.errors import ApiError
from slipway.engine.store import Key
from slipway.infra import serving, webhook
from tests.ports import free_port
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, World

TOKEN = "a word of some length"


@asynccontextmanager
async def hook(world: World) -> AsyncIterator[str]:
    """The address of an operator's server on this world."""
    writer = Writer(world.kube, world.operator.store, "operator-1")
    hook = webhook.Webhook(
        TOKEN, lambda namespace, name: writer.request_refresh(Key(namespace, name), world.now)
    )
    port = free_port()
    runner = await webhook.serve(hook, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def call(url: str, token: str | None = TOKEN) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
        return response.status, await response.text()


async def test_a_call_is_not_lost_where_status_is_written_in_the_same_moment() -> None:
    """The reconcile read the resource before the call, and has something to write after it."""
    world = World()
    await world.operator.start()
    world.models["mlflow://fraud@champion"] = world.models["mlflow://fraud/1"]
    spec = {"model": {"uri": "mlflow://fraud@champion", "refreshSeconds": 0}}
    world.create(spec)
    await world.settle()
    other = Writer(world.kube, world.operator.store, "operator-1")
    called: list[datetime] = []

    def before(request: Request) -> None:
        if request.verb != "apply_status" or called:
            return
        called.append(world.now)
        asyncio.get_running_loop().create_task(other.request_refresh(Key(NAMESPACE, NAME), world.now))

    world.models["mlflow://fraud@champion"] = world.models["mlflow://fraud/2"]
    world.create({**spec, "scaling": {"minReplicas": 2}})
    world.kube.before = before
    await world.run(30)
    assert called
    assert world.status()["refreshRequestedAt"].startswith(called[0].strftime("%Y-%m-%dT%H:%M:%S"))
    assert world.status()["stable"]["version"] == "2", "and the name was looked up again"


@pytest.fixture
async def world() -> World:
    world = World()
    await world.operator.start()
    world.create()
    await world.settle()
    return world


async def test_it_is_noted_in_status_where_the_leader_sees_it(world: World) -> None:
    now = world.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    async with hook(world) as url:
        assert await call(f"{url}/refresh/{NAMESPACE}/{NAME}") == (202, "its model is looked up again\n")
    assert world.status()["refreshRequestedAt"] == now
    assert world.said()["Ready"] == "True Serving"
    await world.settle()
    assert world.status()["refreshRequestedAt"] == now


@pytest.mark.parametrize("token", [None, "", "another word"])
async def test_without_the_token_nothing_is_noted(world: World, token: str | None) -> None:
    async with hook(world) as url:
        status, text = await call(f"{url}/refresh/{NAMESPACE}/{NAME}", token)
    assert (status, text) == (401, "the bearer token is missing or wrong\n")
    assert "refreshRequestedAt" not in world.status()


async def test_a_name_that_is_not_there_is_told_so(world: World) -> None:
    async with hook(world) as url:
        assert (await call(f"{url}/refresh/{NAMESPACE}/other"))[0] == 404


async def test_an_api_server_that_is_down_is_told_so(world: World) -> None:
    def fail(_: object) -> None:
        raise ApiError(0, "NoAnswer", "connection refused")

    world.kube.before = fail
    async with hook(world) as url:
        status, text = await call(f"{url}/refresh/{NAMESPACE}/{NAME}")
    assert status == 503
    assert "try again" in text


async def raw(url: str, head: bytes) -> bytes:
    """What comes back to bytes that no client would send."""
    _, _, port = url.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(head)
    try:
        return await asyncio.wait_for(reader.read(200), 5)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "given",
    [
        b"Authorization: Bearer \xff\r\n",
        b"Authorization: Bearer \xc3\x28\xf0\r\n",
        "Authorization: Bearer ß\r\n".encode(),
        b"Authorization: \xff\r\n",
        b"Authorization: Bearer\r\n",
        b"Authorization:\r\n",
        b"Authorization: Basic YTpi\r\n",
        b"Authorization: " + TOKEN.encode() + b"\r\n",
        b"Authorization: Bearer " + TOKEN.encode() + b"x\r\n",
        b"Authorization: Bearer " + TOKEN[:-1].encode() + b"\r\n",
        b"Authorization: Bearer " + b"a" * 7000 + b"\r\n",
        b"Authorization: Bearer wrong\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n",
        b"X-Token: " + TOKEN.encode() + b"\r\n",
        b"",
    ],
)
async def test_whatever_stands_for_a_token_is_wrong_without_a_traceback(
    world: World, given: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with hook(world) as url:
        path = f"POST /refresh/{NAMESPACE}/{NAME} HTTP/1.1\r\nHost: a\r\n".encode()
        answer = await raw(url, path + given + b"Content-Length: 0\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))
    assert "refreshRequestedAt" not in world.status()
    assert "Traceback" not in caplog.text


async def test_headers_without_end_are_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with hook(world) as url:
        answer = await raw(url, b"POST / HTTP/1.1\r\nAuthorization: Bearer " + b"a" * 200_000)
    assert b" 400 Bad Request" in answer
    assert "Traceback" not in caplog.text


async def test_the_right_token_is_taken_however_its_scheme_is_written(world: World) -> None:
    async with hook(world) as url, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"bearer {TOKEN}"}
        async with session.post(f"{url}/refresh/{NAMESPACE}/{NAME}", headers=headers) as response:
            assert response.status == 202


async def test_a_body_is_not_read(world: World) -> None:
    async with hook(world) as url:
        head = f"POST /refresh/{NAMESPACE}/{NAME} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n"
        answer = await raw(url, head.encode() + b"Content-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 202 ")


async def test_it_serves_nothing_else(world: World) -> None:
    async with hook(world) as url, aiohttp.ClientSession() as session:
        for path in ("/metrics", "/healthz", "/"):
            async with session.get(url + path) as response:
                assert response.status == 404


async def test_callers_without_the_token_are_slowed_down_and_others_are_not(world: World) -> None:
    async with hook(world) as url:
        path = f"{url}/refresh/{NAMESPACE}/{NAME}"
        found = [(await call(path, "wrong"))[0] for _ in range(30)]
        assert found[:10] == [401] * 10
        assert 429 in found
        assert (await call(path))[0] == 202, "from the same address"


async def test_too_many_calls_are_told_to_come_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BURST_OF_ONE", 3.0)
    async with hook(world) as url, aiohttp.ClientSession() as session:
        statuses = []
        for _ in range(5):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with session.post(f"{url}/refresh/{NAMESPACE}/other", headers=headers) as response:
                statuses.append((response.status, response.headers.get("Retry-After")))
    assert statuses[:3] == [(404, None)] * 3
    assert (429, "1") in statuses


async def test_calls_that_come_together_are_one_write_and_the_last_one_is_heard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SPACING", 0.3)
    async with hook(world) as url:
        path = f"{url}/refresh/{NAMESPACE}/{NAME}"
        world.kube.requests.clear()
        assert (await call(path))[0] == 202
        assert len(world.kube.requests) == 1
        assert {status for status, _ in await asyncio.gather(*(call(path) for _ in range(20)))} == {202}
        assert len(world.kube.requests) == 2, "after the last call, and once"
        for name in ("other", "a" * 300, "..", "%2e%2e", "a%2fb"):
            assert (await call(f"{url}/refresh/{NAMESPACE}/{name}"))[0] == 404
        assert len(world.kube.requests) == 2


async def test_connections_that_never_ask_do_not_keep_callers_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MOST_CONNECTIONS", 5)
    monkeypatch.setattr(serving, "SWEEP_SECONDS", 0.05)
    async with hook(world) as url:
        port = int(url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        for _, writer in held:
            writer.write(b"POST /refresh HTTP/1.1\r\n")
        await asyncio.sleep(0.3)
        closed = sum(reader.at_eof() or reader.exception() is not None for reader, _ in held)
        assert closed == 25
        assert (await call(f"{url}/refresh/{NAMESPACE}/{NAME}"))[0] == 202
        for _, writer in held:
            writer.transport.abort()


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
async def test_it_is_called_by_either_family(world: World, host: str) -> None:
    async with hook(world) as url:
        port = url.rpartition(":")[2]
        assert (await call(f"http://{host}:{port}/refresh/{NAMESPACE}/{NAME}"))[0] == 202
