"""The same gates on what real model servers count of the requests that they get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from slipway.contract import InputColumn, Inputs
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import ByVersion
from slipway.core.observed import ObjectKind
from slipway.engine.observers.pod_counts import WANTED
from slipway.infra.bounded import Budget
from slipway.infra.pods import pod_reader
from slipway.profiling import make_profile
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.unit.world import World

Pair = tuple[Server, Server]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two versions of one model; the second refuses what the first takes."""
    directory = onnx_models.save(onnx_models.classifier(), tmp_path_factory.mktemp("served") / "model")
    frame = load_breast_cancer(as_frame=True).frame
    profile = make_profile(frame, directory / "model.onnx", labels="target")
    (directory / "profile.json").write_bytes(profile.text())
    strict = Inputs(columns=(InputColumn(name="mean radius", tensor="X", column=0, maximum=15.0),))
    with (
        Server(directory, modelVersion="1") as stable,
        Server(directory, modelVersion="2", inputs=strict) as canary,
    ):
        yield stable.wait_until_ready(), canary.wait_until_ready()


async def rolling_out(servers: Pair, *gates: dict[str, Any]) -> World:
    """Version 2 has half of the traffic; its pods are the second server, version 1's the first."""
    world = World()
    stable = ""

    async def read(target: Endpoint) -> ByVersion | None:
        pods = {pod["metadata"]["name"]: pod for pod in world.kube.all(ObjectKind.POD)}
        revision = pods[target.host]["metadata"]["labels"]["slipway.dev/revision"]
        async with pod_reader(WANTED, Budget()) as read_pod:
            return await read_pod(
                replace(target, host="127.0.0.1", port=servers[revision != stable].admin_port)
            )

    world.routers.read_pod = read  # type: ignore[method-assign]
    await world.restart()
    spec = {
        "model": {"uri": "mlflow://fraud/1"},
        "scaling": {"minReplicas": 1, "maxReplicas": 1},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"setWeight": 50}, {"analysis": {}}],
            "analysis": {"gates": list(gates), "intervalSeconds": 10},
        },
    }
    world.create(spec)
    world.routers.requests_per_second = 10
    await world.run(60)
    stable = str(world.status()["stable"]["revision"])
    world.create({**spec, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(30)
    return world


def rows(table: Any) -> dict[str, Any]:
    return tensor("X", "FP32", list(table.shape), np.asarray(table).reshape(-1).tolist())


async def ask(server: Server, tables: list[Any]) -> list[int]:
    """The statuses of the answers to one request for each table."""
    return [(await asyncio.to_thread(server.infer, rows(table))).status_code for table in tables]


async def test_a_contract_that_refuses_what_clients_send_rejects_the_version(servers: Pair) -> None:
    world = await rolling_out(servers, {"name": "contract", "type": "Violations"})
    table = load_breast_cancer().data.astype(np.float32)
    requests = [table[start : start + 1] for start in range(120)]
    refused = sum(int(one[0, 0] > 15.0) for one in requests)
    assert await ask(servers[0], requests) == [200] * 120
    assert (await ask(servers[1], requests)).count(400) == refused > 20
    await world.run(60)
    (rejected,) = world.status()["rejected"]
    fact = f"canary {refused} requests against the input contract in 120, stable 0 in 120: evidence"
    assert rejected["message"].startswith(f"gate contract: {fact}")
    assert world.status()["stable"]["version"] == "1"


async def test_answers_to_other_rows_are_a_shift_and_to_the_same_rows_none(servers: Pair) -> None:
    gate = {"name": "answers", "type": "PredictionShift", "dryRun": False}
    data = load_breast_cancer()
    small = data.data[data.data[:, 0] <= 15.0].astype(np.float32)
    world = await rolling_out(servers, gate)
    for server in servers:
        assert await ask(server, [small] * 3) == [200] * 3
    await world.run(15)
    assert world.status()["stable"]["version"] == "2"

    world = await rolling_out(servers, gate)
    benign = small[small[:, 0] <= 12.0]
    assert await ask(servers[0], [data.data.astype(np.float32)] * 3) == [200] * 3
    assert await ask(servers[1], [benign] * 8) == [200] * 8
    await world.run(60)
    (rejected,) = world.status()["rejected"]
    assert rejected["message"].startswith("gate answers: PSI ")
    assert f"{8 * len(benign):,} answers of the canary, of stable as good as 1,707" in rejected["message"]
