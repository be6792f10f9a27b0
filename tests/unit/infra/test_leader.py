"""The lease, against a web server that keeps one as the API server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord

from slipway.infra import leader
from tests.unit.infra.api_server import ApiServer, api_server

NOW = "2026-11-24 12:00:00.000001"
RECORD = LeaderElectionRecord("pod-a", "15", NOW, NOW)


class Leases:
    """One lease with a resource version; ``down`` breaks every connection."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.down = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if request.method == "POST":
            if self.lease is not None:
                return _status(409, "AlreadyExists")
            return self._store(await request.json())
        if self.lease is None:
            return _status(404, "NotFound")
        if request.method == "PUT":
            lease = await request.json()
            if lease["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            return self._store(lease)
        return web.json_response(self.lease)

    def _store(self, lease: dict[str, Any]) -> web.Response:
        self.version += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease}
        return web.json_response(self.lease)

    @property
    def holder(self) -> str | None:
        return self.lease["spec"].get("holderIdentity") if self.lease else None


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code)


@pytest.fixture
def leases() -> Leases:
    return Leases()


def _lock(client: ApiClient, identity: str = "pod-a") -> leader._Lock:
    return leader._Lock("slipway-operator", "slipway-system", identity, client)


@asynccontextmanager
async def _server(leases: Leases) -> AsyncIterator[ApiServer]:
    async with api_server(leases) as server:
        yield server


async def test_a_lease_is_created_read_and_renewed(leases: Leases) -> None:
    async with _server(leases) as server:
        lock = _lock(server.client)
        found, error = await lock.get("slipway-operator", "slipway-system")
        assert not found
        assert isinstance(error, ApiException)
        assert error.status == 404
        assert await lock.create("slipway-operator", "slipway-system", RECORD)
        found, record = await lock.get("slipway-operator", "slipway-system")
        assert found
        assert isinstance(record, LeaderElectionRecord)
        assert record.holder_identity == "pod-a"
        assert await lock.update("slipway-operator", "slipway-system", RECORD)
        assert leases.version == 2


async def test_a_lease_that_another_created_first_is_not_ours(leases: Leases) -> None:
    async with _server(leases) as server:
        assert await _lock(server.client, "pod-b").create("slipway-operator", "slipway-system", RECORD)
        assert not await _lock(server.client).create("slipway-operator", "slipway-system", RECORD)


async def test_a_lease_that_another_renewed_meanwhile_is_not_ours(leases: Leases) -> None:
    async with _server(leases) as server:
        one, other = _lock(server.client), _lock(server.client, "pod-b")
        await one.create("slipway-operator", "slipway-system", RECORD)
        await one.get("slipway-operator", "slipway-system")
        await other.get("slipway-operator", "slipway-system")
        assert await one.update("slipway-operator", "slipway-system", RECORD)
        assert not await other.update("slipway-operator", "slipway-system", RECORD)


async def test_a_server_without_an_answer_is_one_more_try_not_the_end(leases: Leases) -> None:
    async with _server(leases) as server:
        lock = _lock(server.client)
        await lock.create("slipway-operator", "slipway-system", RECORD)
        await lock.get("slipway-operator", "slipway-system")
        leases.down = True
        found, error = await lock.get("slipway-operator", "slipway-system")
        assert not found
        assert isinstance(error, ApiException)
        assert not await lock.create("slipway-operator", "slipway-system", RECORD)
        assert not await lock.update("slipway-operator", "slipway-system", RECORD)


class _QuickConfig(Config):
    """The real configuration, checked as it is, then run faster."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lease_duration, self.renew_deadline, self.retry_period = 3, 1, 0.05


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "Config", _QuickConfig)


@pytest.mark.usefixtures("quick")
async def test_the_replica_that_holds_the_lease_acts_and_the_other_waits(leases: Leases) -> None:
    acting: list[str] = []
    async with _server(leases) as server:
        tasks = [_run(server, "pod-a", acting)]
        await _until(lambda: acting == ["pod-a"])
        tasks.append(_run(server, "pod-b", acting))
        await asyncio.sleep(0.3)
        assert acting == ["pod-a"]
        assert leases.holder == "pod-a"
        await _cancel(tasks)


@pytest.mark.usefixtures("quick")
async def test_a_released_lease_is_taken_over_without_waiting_for_its_end(leases: Leases) -> None:
    acting: list[str] = []
    async with _server(leases) as server:
        first = _run(server, "pod-a", acting)
        await _until(lambda: acting == ["pod-a"])
        second = _run(server, "pod-b", acting)
        await asyncio.sleep(0.1)
        await _cancel([first])
        begun = asyncio.get_running_loop().time()
        await leader.release(server.client, "slipway-system", "pod-a")
        await _until(lambda: acting == ["pod-a", "pod-b"])
        assert asyncio.get_running_loop().time() - begun < 1.5
        await _cancel([second])


@pytest.mark.usefixtures("quick")
async def test_a_leader_that_cannot_renew_ends_its_process(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    acting: list[str] = []
    async with _server(leases) as server:
        task = _run(server, "pod-a", acting)
        await _until(lambda: acting == ["pod-a"])
        leases.down = True
        await asyncio.wait_for(task, 10)
        assert ended == [1]


@pytest.mark.usefixtures("quick")
async def test_a_server_that_is_down_at_the_start_is_waited_for(leases: Leases) -> None:
    leases.down = True
    acting: list[str] = []
    async with _server(leases) as server:
        task = _run(server, "pod-a", acting)
        await asyncio.sleep(0.3)
        assert not task.done()
        leases.down = False
        await _until(lambda: acting == ["pod-a"])
        await _cancel([task])


async def test_only_the_holder_releases_the_lease(leases: Leases) -> None:
    async with _server(leases) as server:
        await leader.release(server.client, "slipway-system", "pod-a")
        await _lock(server.client).create("slipway-operator", "slipway-system", RECORD)
        await leader.release(server.client, "slipway-system", "pod-b")
        assert leases.holder == "pod-a"
        await leader.release(server.client, "slipway-system", "pod-a")
        assert not leases.holder


async def test_releasing_to_a_server_that_is_down_hinders_nobody_from_leaving(leases: Leases) -> None:
    leases.down = True
    async with _server(leases) as server:
        await leader.release(server.client, "slipway-system", "pod-a")


def _run(server: ApiServer, identity: str, acting: list[str]) -> asyncio.Task[None]:
    async def act() -> None:
        acting.append(identity)
        await asyncio.Event().wait()

    return asyncio.create_task(leader.lead(server.client, "slipway-system", identity, act))


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass in ten seconds")


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
