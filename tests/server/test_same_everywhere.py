"""One table of requests by every way in: groups, ages, features and figures are the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from slipway_server.rpc import open_inference_pb2 as oip
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_monitoring import with_profile

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]
FRAME = load_breast_cancer(as_frame=True).frame
ROWS = FRAME.drop(columns="target").to_numpy(np.float32)[:3]
#: Of a few seconds, and of what tells REST and gRPC apart.
_OTHER = ("duration", "process_", "python_", "ring", "uptime", "data_age_seconds_sum")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("everywhere")
    directory, _ = with_profile(folder, onnx_models.classifier(), FRAME, labels="target", holdout=FRAME[:100])
    config: dict[str, Any] = {
        "sensitiveAttributes": [
            {"name": "sex", "groups": ["female", "male", "true", "7"], "parameter": "sex"},
            {"name": "region", "groups": ["north"], "header": "x-region"},
        ],
        "favorableOutcomes": ["1"],
        "freshness": {"source": "Parameter", "name": "as_of", "maxAgeSeconds": 3600},
        "monitoredFeatures": 5,
    }
    with Server(directory, **config) as running:
        yield running.wait_until_ready()


def rest(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    given = tensor("X", "FP32", list(ROWS.shape), ROWS.reshape(-1).tolist())
    post(server, server.infer_path, {"inputs": [given], "parameters": parameters}, headers)


def binary(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    given = tensor("X", "FP32", list(ROWS.shape), binary_data_size=ROWS.nbytes)
    head = json.dumps({"inputs": [given], "parameters": parameters}).encode()
    more = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = server.client.post(server.infer_path, content=head + ROWS.tobytes(), headers=headers | more)
    assert answer.status_code == 200, answer.text


def predict(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    post(server, "/v1/models/fraud:predict", {"instances": ROWS.tolist(), "parameters": parameters}, headers)


def predict_columns(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    body = {"inputs": {"X": ROWS.tolist()}, "parameters": parameters}
    post(server, "/v1/models/fraud:predict", body, headers)


def table(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    split = {"columns": list(range(ROWS.shape[1])), "data": ROWS.tolist()}
    post(server, "/invocations", {"dataframe_split": split, "params": parameters}, headers)


def records(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    made = [{str(at): value for at, value in enumerate(row)} for row in ROWS.tolist()]
    post(server, "/invocations", {"dataframe_records": made, "params": parameters}, headers)


def typed(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    ask(server, parameters, headers, raw=False)


def raw(server: Server, parameters: dict[str, Any], headers: dict[str, str]) -> None:
    ask(server, parameters, headers, raw=True)


def post(server: Server, path: str, body: Any, headers: dict[str, str]) -> None:
    answer = server.client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text


def ask(server: Server, parameters: dict[str, Any], headers: dict[str, str], raw: bool) -> None:
    request = oip.ModelInferRequest(model_name="fraud")
    given = request.inputs.add(name="X", datatype="FP32", shape=ROWS.shape)
    if raw:
        request.raw_input_contents.append(ROWS.tobytes())
    else:
        given.contents.fp32_contents.extend(ROWS.reshape(-1).tolist())
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(
            type(value), "string_param"
        )
        text = json.dumps(value) if isinstance(value, list) else value
        if value is None:
            request.parameters[name].SetInParent()
        else:
            setattr(request.parameters[name], kind, text)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        call(request, metadata=list(headers.items()), timeout=10)


NOW = int(time.time())
CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"sex": "female"}, {}),
    ({"sex": "FEMALE"}, {"x-region": "north"}),
    ({"sex": ["female", "male", "else"]}, {}),
    ({"sex": ["female", "male"]}, {}),
    ({"sex": True, "as_of": NOW - 10_000}, {}),
    ({"sex": 7, "as_of": NOW - 200.5}, {"x-region": "south"}),
    ({"sex": None, "as_of": [NOW - 100, None, True]}, {}),
    ({"as_of": "yesterday"}, {}),
    ({"as_of": NOW + 100_000, "unknown": "[not a list"}, {}),
    ({"as_of": str(NOW - 10_000), "sex": "[female"}, {}),
]
DOORS: list[Callable[[Server, dict[str, Any], dict[str, str]], None]] = [
    *(rest, binary, predict, predict_columns, table, records, typed, raw)
]


def gained(server: Server, work: Callable[[], None]) -> Figures:
    """What a request adds to the figures."""
    before = server.metrics()
    work()
    after = server.metrics()
    return {
        key: value - before.get(key, 0.0)
        for key, value in after.items()
        if value != before.get(key, 0.0) and not any(part in key[0] for part in _OTHER)
    }


@pytest.mark.parametrize(("parameters", "headers"), CASES, ids=[json.dumps(case) for case, _ in CASES])
def test_each_way_in_counts_the_same(
    server: Server, parameters: dict[str, Any], headers: dict[str, str]
) -> None:
    expected = gained(server, lambda: rest(server, parameters, headers))
    names = {name for name, _ in expected}
    for part in ("requests_total", "rows_total", "group_predictions", "data_age", "feature"):
        assert any(part in name for name in names), f"{part} is not among {sorted(names)}"
    for door in DOORS:
        for _ in range(2):  # what was seen before is read another way
            found = gained(server, lambda door=door: door(server, parameters, headers))  # type: ignore[misc]
            assert found == expected, door.__name__


def test_a_parameter_tells_the_group_by_every_way_in(server: Server) -> None:
    for door in DOORS:
        found = gained(server, lambda door=door: door(server, {"sex": "female"}, {}))  # type: ignore[misc]
        groups = {
            dict(labels)["group"]: value
            for (name, labels), value in found.items()
            if name == "slipway_group_predictions_total" and dict(labels)["attribute"] == "sex"
        }
        assert sum(groups.values()) == len(ROWS)
        assert set(groups) == {"female"}, door.__name__
