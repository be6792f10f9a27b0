"""How old the data is that a model is asked about: by a header, a parameter or an input."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from slipway.contract import Metric, ModelFault
from slipway.core.monitoring import series
from slipway.core.monitoring.quality import median_age
from slipway_server.metrics.ledger import PAGE_BYTES, Page
from slipway_server.monitoring.ages import AgeCounter, FreshnessError, seconds_of
from slipway_server.protocol.tensors import Datatype, TensorSpec
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.settings import Freshness, SettingsError, parse_serving
from tests.server.conftest import Start
from tests.server.running import Server, tensor

LABELS = (("model", "fraud"), ("model_version", "3"))


def ages(server: Server) -> dict[float, float]:
    """Rows by age, cumulative, as whoever judges reads them."""
    return series.data_ages(values(server))


def values(server: Server) -> series.Values:
    return series.add_up((name, dict(labels), value) for (name, labels), value in server.metrics().items())


def unknown(server: Server) -> dict[str, float]:
    found = server.metrics()
    return {
        reason: found[Metric.DATA_AGE_UNKNOWN, (*LABELS, ("reason", reason))]
        for reason in ("missing", "invalid", "future")
    }


def rows(count: int) -> dict[str, Any]:
    return tensor("X", "FP32", [count, 10], [0.0] * 10 * count)


def test_a_header_tells_the_age_of_all_rows_of_its_request(start: Start) -> None:
    config = {"source": "Header", "name": "X-Data-Time", "maxAgeSeconds": 1000}
    server = start("regressor", freshness=config).wait_until_ready()
    before = ages(server)
    assert set(before.values()) == {0.0}
    assert {60.0, 1000.0, math.inf} <= before.keys()
    assert unknown(server) == {"missing": 0, "invalid": 0, "future": 0}
    assert series.data_age_limit(values(server)) == 1000

    now = time.time()
    minutes_ago = datetime.fromtimestamp(now - 600, UTC).isoformat().replace("+00:00", "Z")
    for count, text in ((3, f"{now:.0f}"), (2, minutes_ago), (6, f"{now - 7200:.3f}")):
        for _ in range(2):
            answer = server.client.post(
                server.infer_path, json={"inputs": [rows(count)]}, headers={"x-data-time": text}
            )
            assert answer.status_code == 200
            assert "parameters" not in answer.json()
    for text in ("yesterday", "2026-01-01T00:00:00", f"{now + 9000:.0f}", ""):
        headers = {"x-data-time": text}
        assert server.client.post(server.infer_path, json={"inputs": [rows(1)]}, headers=headers).is_success
    assert server.infer(rows(1)).status_code == 200

    found = ages(server)
    assert (found[60.0], found[300.0], found[900.0], found[1000.0]) == (6, 6, 10, 10)
    assert (found[3600.0], found[10_800.0], found[math.inf]) == (10, 22, 22)
    assert unknown(server) == {"missing": 2, "invalid": 2, "future": 1}
    assert median_age(found, 23) is None
    # More than half of the rows are older than the limit, which the median says.
    assert (median_age(found, 22) or 0) > 1000


def test_metadata_of_grpc_tells_it_too(start: Start) -> None:
    config = {"source": "Header", "name": "x-data-time", "maxAgeSeconds": 60}
    server = start("regressor", freshness=config).wait_until_ready()
    request = oip.ModelInferRequest(model_name="fraud")
    request.inputs.add(name="X", datatype="FP32", shape=[2, 10]).contents.fp32_contents.extend([0.0] * 20)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        call(request, metadata=[("x-data-time", f"{time.time() - 100:.0f}")], timeout=10)
    assert (ages(server)[60.0], ages(server)[300.0]) == (0, 2)


def test_a_parameter_holds_one_time_or_one_a_row_and_is_read_each_time(start: Start) -> None:
    config = {"source": "Parameter", "name": "as_of", "maxAgeSeconds": 3600}
    server = start("regressor", freshness=config).wait_until_ready()
    now = int(time.time())
    for age in (10, 100, 10_000):
        assert server.infer(rows(2), parameters={"as_of": now - age}).status_code == 200
    assert server.infer(rows(3), parameters={"as_of": [now, None, True]}).status_code == 200
    assert server.infer(rows(2), parameters={"as_of": [now]}).status_code == 200
    found = ages(server)
    assert (found[60.0], found[300.0], found[3600.0], found[math.inf]) == (3, 5, 5, 7)
    assert unknown(server) == {"missing": 1, "invalid": 3, "future": 0}


def test_an_input_that_the_model_does_not_have_is_said_before_anything_is_served(start: Start) -> None:
    config = {"source": "Tensor", "name": "taken_at", "maxAgeSeconds": 3600}
    server = start("regressor", freshness=config)
    assert server.wait() == 1
    failure: Any = server.last_words().outcome
    assert failure.failure.reason == ModelFault.MODEL_LOAD_FAILED
    assert "spec.monitoring.freshness does not fit the model" in failure.failure.message
    assert "the model has no input 'taken_at'; its inputs are" in failure.failure.message


def counter(
    datatype: Datatype, shape: tuple[int, ...] = (-1, 2), column: int = 1
) -> tuple[AgeCounter, Callable[[], dict[str, float]]]:
    """A counter of a tensor's column, and what it has counted: finite buckets that have any, and the rest."""
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    spec = TensorSpec("t", datatype, shape)
    config = Freshness("Tensor", "t", 100, column)
    made = AgeCounter(config, {"t": spec}, page, "fraud", "3")

    def told() -> dict[str, float]:
        made.flush()
        names = [name.decode() for name in page.names()]
        found = {name: page.values[slot] for slot, name in enumerate(names) if page.values[slot]}
        return {
            name.split('"le":"')[-1].split('"reason":"')[-1].split('"')[0]: value
            for name, value in found.items()
            if "_sum" not in name
        }

    return made, told


def test_a_column_of_an_input_tells_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    made, told = counter(Datatype.FP64)
    table = np.array([[0, 1.8e9], [0, 1.8e9 - 100], [0, 1.8e9 - 101], [0, np.nan], [0, -1e300], [0, 1.9e9]])
    made.add((), {"t": table})
    made.add((), {"t": table[:1]})
    made.add((), {"t": table[:0]})
    assert told() == {"60.0": 2, "100.0": 1, "300.0": 1, "missing": 1, "invalid": 1, "future": 1}

    words, told = counter(Datatype.BYTES, (-1, 1), 0)
    texts = ["2027-01-15T08:00:00Z", "1799999000", "", "soon", "2027-01-15T08:00:00+01:00"]
    words.add((), {"t": np.array(texts, object).reshape(-1, 1)})
    assert told() == {"60.0": 1, "3600.0": 2, "missing": 1, "invalid": 1}

    narrow, told = counter(Datatype.FP64, (-1, -1), 1)
    narrow.add((), {"t": np.zeros((3, 1))})
    assert told() == {"missing": 3}

    whole, told = counter(Datatype.INT64, (-1,), 0)
    whole.add((), {"t": np.full(513, 1_800_000_000 - 30)})
    # More than are counted at once are counted by themselves.
    assert not whole._pending
    assert told() == {"60.0": 513}


def test_an_input_that_holds_no_time_is_refused() -> None:
    for datatype, shape, column, says in (
        (Datatype.FP16, (-1, 2), 0, "is FP16 and can hold no time for each row"),
        (Datatype.FP64, (2,), 0, "can hold no time for each row"),
        (Datatype.FP64, (-1, 2), 2, "has no column 2: a row has 2, counted from 0"),
        (Datatype.INT64, (-1,), 1, "has no column 1: a row has 1, counted from 0"),
    ):
        with pytest.raises(FreshnessError, match=says):
            counter(datatype, shape, column)
    counter(Datatype.FP64, (-1, -1), 9999)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (" 1.5 ", 1.5),
        (b"86400", 86_400.0),
        ("1970-01-02T00:00:00Z", 86_400.0),
        ("1970-01-02 00:00:00.5+00:00", 86_400.5),
        (None, "missing"),
        ("", "missing"),
        (math.nan, "missing"),
        (math.inf, "invalid"),
        (True, "invalid"),
        ([], "invalid"),
        ("1970-01-02", "invalid"),
        ("1970-01-02T00:00:00", "invalid"),
        (b"\xff\xfe", "invalid"),
        ("9" * 5000, "invalid"),
        ("inf", "invalid"),
        (1_764_000_000_000, "invalid"),
        (-1e300, "invalid"),
        ("-inf", "invalid"),
        ({}, "invalid"),
        (2**2000, "invalid"),
    ],
)
def test_a_time_is_a_number_of_seconds_or_text_with_a_time_zone(given: object, seconds: float | str) -> None:
    assert seconds_of(given) == seconds


def test_many_requests_that_came_together_each_keep_their_own_time() -> None:
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    made = AgeCounter(Freshness("Header", "Taken", 100), {}, page, "fraud", "3")
    now = time.time()
    calls: list[Any] = [
        SimpleNamespace(rows=count, header={b"taken": f"{now - age:.0f}".encode()}.get)
        for count, age in ((1, 0), (2, 80), (3, 5000))
    ]
    made.add(calls, {})
    made.flush()
    found = {name.decode(): page.values[slot] for slot, name in enumerate(page.names())}
    counted = {name: value for name, value in found.items() if value and "_bucket" in name}
    assert sorted(counted.values()) == [1, 2, 3]
    total = next(value for name, value in found.items() if "_sum" in name)
    assert total == pytest.approx(2 * 80 + 3 * 5000, abs=20)


def test_the_configuration_says_what_is_wrong() -> None:
    for wrong, says in (
        ('{"source": "Header", "name": "x"}', "an object with source, name and maxAgeSeconds"),
        ('{"source": "Body", "name": "x", "maxAgeSeconds": 1}', "must be Header, Parameter or Tensor"),
        ('{"source": "Header", "name": 1, "maxAgeSeconds": 1}', "a member of the wrong type"),
        ('{"source": "Header", "name": "x", "maxAgeSeconds": 0}', "a number that is too small"),
    ):
        digest = "sha256:" + "0" * 64
        text = f'{{"modelName": "a", "modelVersion": "1", "digest": "{digest}", "freshness": {wrong}}}'
        with pytest.raises(SettingsError, match=says):
            parse_serving(text)
