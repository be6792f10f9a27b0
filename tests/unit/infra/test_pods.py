"""Reading what a real model server counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from slipway.contract import Metric
from slipway.core.monitoring.series import series
from slipway.infra.pods import PodError, pod_reader, read_pod
from tests.server import onnx_models
from tests.server.running import Server, free_port, tensor


async def test_a_model_servers_counts_come_as_it_counted_them(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.identity(), tmp_path / "model")
    with Server(tmp_path / "model") as server:
        await asyncio.to_thread(server.wait_until_ready)
        for _ in range(3):
            server.infer(tensor("x", "FP32", [2, 3], [0] * 6))
        server.infer(tensor("x", "FP32", [1, 3], [0] * 2))
        values = await read_pod(f"127.0.0.1:{server.admin_port}")
        assert values[series(Metric.REQUESTS, {"code": "200", "model": "fraud"})] == 3
        assert values[series(Metric.REQUESTS, {"code": "400"})] == 1
        assert values[series(Metric.ROWS, {})] == 6
        assert values[series(f"{Metric.DURATION}_bucket", {"le": "+Inf"})] == 4
        assert all(metric.startswith("slipway_") for metric, _ in values)
        async with pod_reader() as read:
            assert (await read(f"127.0.0.1:{server.admin_port}")) == values


@asynccontextmanager
async def answering(text: str, status: int = 200) -> AsyncIterator[str]:
    """The address of a server that answers everything alike."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_a_pod_that_is_gone_or_says_nonsense_is_no_pod_without_counts() -> None:
    async with pod_reader() as read:
        assert await read(f"127.0.0.1:{free_port()}") is None
    async with answering("slipway_inference_rows_total{ 3") as address:
        with pytest.raises(PodError, match="as no model server does"):
            await read_pod(address)
    async with answering("", 503) as address:
        with pytest.raises(PodError, match="does not answer: status 503"):
            await read_pod(address)
    async with answering("x" * (9 * 1024 * 1024)) as address:
        with pytest.raises(PodError, match="more than"):
            await read_pod(address)
