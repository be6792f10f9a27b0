"""The same gate with real model servers behind a real Envoy that copies requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from slipway.core.endpoint import Endpoint
from slipway.core.observed import ObjectKind
from slipway.core.rollout.shadow_agreement import Remembered, answers, common, unlike
from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.infra.bounded import Budget
from slipway.infra.pods import answer_taker, take_answers
from tests.ports import free_port
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.unit.router.running import bring, running_router
from tests.unit.world import World

Pair = tuple[Server, Server]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers of one model, one of them in two processes."""
    directory = onnx_models.save(onnx_models.classifier(), tmp_path_factory.mktemp("pairs") / "model")
    with Server(directory) as stable, Server(directory, processes=2) as canary:
        yield stable.wait_until_ready(), canary.wait_until_ready()


@asynccontextmanager
async def mirrored(folder: Path, servers: Pair) -> AsyncIterator[str]:
    """Where clients reach the first server, while the second gets copies."""
    arms = [Arm(name, "127.0.0.1", one.http_port) for name, one in zip(("aaa", "bbb"), servers, strict=True)]
    route = Route("fraud", free_port(), *arms, weight=0, mirror_percent=100, timeout_milliseconds=2000)
    async with running_router(folder, [route]) as router:
        await bring(router, route)
        yield f"http://127.0.0.1:{route.listener}"


def body(table: Any) -> str:
    return json.dumps({"inputs": [tensor("X", "FP32", list(table.shape), table.reshape(-1).tolist())]})


async def ask(url: str, tables: list[Any], reached: Sequence[Server], **headers: str) -> None:
    """Send each table, and wait until these servers have answered all: clients do not wait for copies."""
    before = [_answered(server) for server in reached]
    kind = {"content-type": "application/json"}
    async with aiohttp.ClientSession(headers=kind | headers) as session:
        for table in tables:
            async with session.post(f"{url}/v2/models/fraud/infer", data=body(table)) as answer:
                assert answer.status == 200
    wanted = [count + len(tables) for count in before]
    async with asyncio.timeout(20):
        while [_answered(server) for server in reached] != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _answered(server: Server) -> float:
    return sum(
        value for (name, _), value in server.metrics().items() if name == "slipway_inference_requests_total"
    )


async def take(servers: Pair, seconds: int = 60) -> list[Remembered]:
    async with aiohttp.ClientSession() as session:
        return [await take_answers(f"127.0.0.1:{one.admin_port}", seconds, 1000, session) for one in servers]


async def test_every_copied_request_is_a_pair_and_only_while_somebody_asks(
    tmp_path: Path, servers: Pair
) -> None:
    table = load_breast_cancer().data.astype(np.float32)
    requests = [table[start : start + 1 + start % 3] for start in range(100)]
    async with mirrored(tmp_path, servers) as url:
        await ask(url, requests, servers)
        assert [one.entries for one in await take(servers)] == [b"", b""], "nobody had asked yet"
        await ask(url, requests, servers)
        stable, canary = await take(servers)
        pairs = common(answers([canary]), answers([stable]))
        assert len(pairs) == 100
        assert sorted({len(one) for one, _ in pairs}) == [1, 2, 3]
        assert not stable.numbers
        assert unlike(pairs, False, 0.0) == 0
        assert [one.entries for one in await take(servers)] == [b"", b""], "taken once"
        # An id that a client gives twice names no request, and a large request is not remembered.
        await ask(url, requests[:2], servers, **{"x-request-id": "twice"})
        await ask(url, [table[:17]], servers)
        stable, canary = await take(servers)
        assert common(answers([canary]), answers([stable])) == []


async def test_a_stranger_who_asks_takes_nothing_away_from_the_operator(
    tmp_path: Path, servers: Pair
) -> None:
    table = load_breast_cancer().data.astype(np.float32)
    targets = [Endpoint("here", "127.0.0.1", server.admin_port) for server in servers]
    async with (
        mirrored(tmp_path, servers) as url,
        answer_taker(Budget()) as operator,
        answer_taker(Budget()) as stranger,
    ):
        for target in targets:
            await operator(target, 60, 1000)
        await ask(url, [table[:1]] * 20, servers)
        for target in targets:
            await stranger(target, 60, 1000)
        await take(servers)
        found = [await operator(target, 60, 1000) for target in targets]
        assert [len(each.entries) // 16 for each in found if each is not None] == [20, 20]
        again = [await operator(target, 60, 1000) for target in targets]
        assert [each.entries for each in again if each is not None] == [b"", b""]


async def test_a_rollout_is_judged_by_what_both_answered(tmp_path: Path, servers: Pair) -> None:
    world = World()
    stable = ""

    async def from_server(target: Endpoint, seconds: int, most: int) -> Remembered | None:
        pods = {pod["metadata"]["name"]: pod for pod in world.kube.all(ObjectKind.POD)}
        revision = pods[target.host]["metadata"]["labels"]["slipway.dev/revision"]
        async with aiohttp.ClientSession() as session:
            server = servers[revision != stable]
            return await take_answers(f"127.0.0.1:{server.admin_port}", seconds, most, session)

    world.routers.take_answers = from_server  # type: ignore[method-assign]
    await world.restart()
    spec = {
        "model": {"uri": "mlflow://fraud/1"},
        "scaling": {"minReplicas": 1, "maxReplicas": 1},
        "rollout": {
            "strategy": "Shadow",
            "analysis": {"gates": [{"name": "alike", "type": "ShadowAgreement"}], "intervalSeconds": 10},
        },
    }
    world.create(spec)
    world.routers.requests_per_second = 10
    await world.run(60)
    stable = str(world.status()["stable"]["revision"])
    world.create({**spec, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(15)
    table = load_breast_cancer().data.astype(np.float32)
    async with mirrored(tmp_path, servers) as url:
        await ask(url, [table[start % 500 : start % 500 + 1] for start in range(300)], servers)
    await world.run(15)
    (gate,) = world.status()["rollout"]["gates"]
    assert gate["verdict"] == "Pass"
    assert gate["message"].startswith("0 of 300 requests were answered otherwise by the canary: evidence ")


async def test_answers_are_forgotten_once_nobody_asks_and_bad_requests_are_told_why(servers: Pair) -> None:
    table = load_breast_cancer().data[:1].astype(np.float32)
    await take(servers, seconds=60)
    await ask(servers[0].url, [table], servers[:1], **{"x-request-id": "a"})
    found = await take(servers, seconds=1)
    assert len(found[0].entries) == 16
    await asyncio.sleep(1.1)
    await ask(servers[0].url, [table], servers[:1], **{"x-request-id": "b"})
    assert (await take(servers))[0].entries == b""
    async with aiohttp.ClientSession() as session:
        for path, status in (("0", 400), ("7201", 400), ("x", 400), ("", 400)):
            async with session.post(f"{servers[0].admin}/answers/{path}") as answer:
                assert answer.status == status
                assert "1 to 7200" in await answer.text()
        async with session.get(f"{servers[0].admin}/answers/5") as answer:
            assert answer.status == 405
