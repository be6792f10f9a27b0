"""Reading what pods counted, of a real model server and of text that is made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from slipway.contract import METRICS_PATH, Metric
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import add_up, of_all_versions, series
from slipway.engine.observers import pod_counts, watched
from slipway.infra.bounded import Budget
from slipway.infra.pods import PodError, by_version, pod_reader, read_pod
from tests.ports import free_port
from tests.server import onnx_models
from tests.server.running import Server, tensor

TEXT = """\
# HELP slipway_feature_values_total Values.
# TYPE slipway_feature_values_total counter
slipway_feature_values_total{bin="(-inf,1]",feature="a \\"b\\" {c}",model="m",model_version="7"} 3.0
slipway_feature_values_total{bin="(1,+inf)",feature="a \\"b\\" {c}",model="m",model_version="7"} 1e+06
slipway_feedback_labels_total{correct="true",label="x\\\\n",model="m",model_version="6",outcome="x"} 2.0
slipway_feedback_labels_total{correct="true",label="x\\\\n",model="m",model_version="6",outcome="x"} 2.0
slipway_inference_duration_seconds_sum{model="m",model_version="7"} 0.5
process_cpu_seconds_total 1.0
"""


def test_counts_are_told_apart_by_the_version_that_predicted() -> None:
    found = by_version(TEXT, watched.WANTED)
    feature = 'a "b" {c}'
    assert found == {
        "7": {
            series(Metric.FEATURE_VALUES, {"bin": "(-inf,1]", "feature": feature}): 3.0,
            series(Metric.FEATURE_VALUES, {"bin": "(1,+inf)", "feature": feature}): 1_000_000.0,
        },
        "6": {
            series(Metric.FEEDBACK_LABELS, {"correct": "true", "label": "x\\n", "outcome": "x"}): 4.0,
        },
    }


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="none"):
        by_version('slipway_inference_rows_total{model="m",model_version="7"} none\n', watched.WANTED)


async def test_a_model_servers_counts_are_those_that_a_full_parser_reads(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.identity(), tmp_path / "model")
    wanted = watched.WANTED | pod_counts.WANTED
    with Server(tmp_path / "model") as server:
        await asyncio.to_thread(server.wait_until_ready)
        for _ in range(3):
            server.infer(tensor("x", "FP32", [2, 3], [0] * 6))
        server.infer(tensor("x", "FP32", [1, 3], [0] * 2))
        address = f"127.0.0.1:{server.admin_port}"
        async with pod_reader(wanted, Budget()) as read, aiohttp.ClientSession() as session:
            found = await read(Endpoint("payments", "127.0.0.1", server.admin_port))
            async with session.get(f"http://{address}{METRICS_PATH}") as response:
                families = list(text_string_to_metric_families(await response.text()))
    assert found is not None
    assert len(found) == 1
    values = of_all_versions(found)
    assert values[series(Metric.REQUESTS, {"code": "200", "model": "fraud"})] == 3
    assert values[series(Metric.REQUESTS, {"code": "400"})] == 1
    assert values[series(Metric.ROWS, {})] == 6
    assert values[series(f"{Metric.DURATION}_bucket", {"le": "+Inf"})] == 4
    samples = [sample for family in families for sample in family.samples]
    assert values == add_up((one.name, one.labels, one.value) for one in samples if one.name in wanted)
    gauges = {family.name for family in families if family.type == "gauge"}
    assert Metric.IN_FLIGHT in gauges
    assert not pod_counts.WANTED & gauges, "one that fell would pass for a restart"


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
    async with pod_reader(pod_counts.WANTED, Budget()) as read:
        assert await read(Endpoint("payments", "127.0.0.1", free_port())) is None
    for text, status, why in (
        ("slipway_inference_rows_total{ 3", 200, "as no model server does"),
        ("", 503, "does not answer: status 503"),
        ("x" * (9 * 1024 * 1024), 200, "more than"),
    ):
        async with answering(text, status) as address, aiohttp.ClientSession() as session:
            with pytest.raises(PodError, match=why):
                await read_pod(address, pod_counts.WANTED, session)
