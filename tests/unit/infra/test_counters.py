"""Reading counts by version, of a real model server and of text that is made up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from slipway.core.monitoring.series import series
from slipway.engine.judging import WANTED
from slipway.infra.counters import by_version, counter_reader
from slipway.infra.pods import read_pod
from slipway.names import Metric
from tests.server import onnx_models
from tests.server.running import Server, free_port, tensor

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
    found = by_version(TEXT, WANTED)
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
        by_version('slipway_inference_rows_total{model="m",model_version="7"} none\n', WANTED)


async def test_a_model_servers_counts_are_those_that_a_full_parser_reads(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.identity(), tmp_path / "model")
    with Server(tmp_path / "model") as server:
        await asyncio.to_thread(server.wait_until_ready)
        server.infer(tensor("x", "FP32", [2, 3], [0] * 6))
        address = f"127.0.0.1:{server.admin_port}"
        whole = await read_pod(address)
        async with counter_reader({*WANTED, Metric.REQUESTS}) as read:
            found = await read(address)
            assert await read(f"127.0.0.1:{free_port()}") is None
        assert found is not None
        [values] = found.values()
        assert values[series(Metric.ROWS, {})] == 2
        assert values == {
            name: value for name, value in whole.items() if name[0] in {*WANTED, Metric.REQUESTS}
        }
