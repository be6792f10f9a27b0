"""Saying from outside that a model's alias has moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from slipway.engine.apply import Writer
from slipway.engine.errors import ApiError
from slipway.engine.store import Key
from slipway.infra import http
from tests.unit.router.running import free_port
from tests.unit.world import NAME, NAMESPACE, World

TOKEN = "a word of some length"


@asynccontextmanager
async def hook(world: World) -> AsyncIterator[str]:
    """The address of an operator's server on this world."""
    writer = Writer(world.kube, world.operator.store, "operator-1")
    webhook = http.Webhook(
        TOKEN, lambda namespace, name: writer.request_refresh(Key(namespace, name), world.now)
    )
    port = free_port()
    runner = await http.serve(CollectorRegistry(), http.Pulse(), lambda: True, port, webhook)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def call(url: str, token: str | None = TOKEN) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
        return response.status, await response.text()


@pytest.fixture
async def world() -> World:
    world = World()
    await world.operator.start()
    world.create()
    await world.settle()
    return world


async def test_it_is_noted_in_status_where_the_leader_sees_it(world: World) -> None:
    async with hook(world) as url:
        assert await call(f"{url}/refresh/{NAMESPACE}/{NAME}") == (202, "its model is looked up again\n")
    assert world.status()["refreshRequestedAt"] == "2026-11-24T12:00:00.000000Z"
    assert world.said()["Ready"] == "True Serving"
    await world.settle()
    assert world.status()["refreshRequestedAt"] == "2026-11-24T12:00:00.000000Z"


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
