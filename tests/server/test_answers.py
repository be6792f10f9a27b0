from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest

from slipway_server.protocol.tensors import Datatype
from tests.server import onnx_models
from tests.server.running import Server, split, tensor
from tests.server.test_limits import BODY, head, talk

Servers = Callable[[str], Server]


def reference(name: str, **inputs: Any) -> list[Any]:
    """What onnxruntime itself answers, with one thread as the server has."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(getattr(onnx_models, name)().SerializeToString(), options)
    return session.run(None, inputs)  # type: ignore[no-any-return]


def outputs_of(response: httpx.Response) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def array_of(output: dict[str, Any]) -> Any:
    return np.array(output["data"], dtype=Datatype(output["datatype"]).dtype).reshape(output["shape"])


def test_a_regressors_answers_equal_onnxruntimes_bit_by_bit(servers: Servers) -> None:
    rows = np.random.default_rng(1).normal(0, 0.05, (64, 10)).astype(np.float32)
    (expected,) = reference("regressor", X=rows)
    server = servers("regressor")
    nested = server.infer(tensor("X", "FP32", [64, 10], rows.tolist()))
    flat = server.infer(tensor("X", "FP32", [64, 10], rows.ravel().tolist()))
    binary = server.infer_binary(
        {
            "inputs": [tensor("X", "FP32", [64, 10], binary_data_size=rows.nbytes)],
            "parameters": {"binary_data_output": True},
        },
        rows.tobytes(),
    )
    assert array_of(outputs_of(nested)["variable"]).tobytes() == expected.tobytes()
    assert array_of(outputs_of(flat)["variable"]).tobytes() == expected.tobytes()
    assert binary.headers["content-type"] == "application/octet-stream"
    document, blobs = split(binary)
    assert blobs["variable"] == expected.tobytes()
    assert document["outputs"][0]["shape"] == [64, 1]
    assert "data" not in document["outputs"][0]


def test_a_classifiers_zip_map_becomes_a_table_with_its_labels(servers: Servers) -> None:
    rows = np.random.default_rng(2).normal(10, 5, (7, 30)).astype(np.float32)
    label, probabilities = reference("classifier", X=rows)
    server = servers("classifier")
    outputs = outputs_of(server.infer(tensor("X", "FP32", [7, 30], rows.ravel().tolist())))
    assert outputs["output_label"]["datatype"] == "INT64"
    assert outputs["output_label"]["data"] == label.tolist()
    table = outputs["output_probability"]
    assert (table["datatype"], table["shape"]) == ("FP32", [7, 2])
    labels = json.loads(table["parameters"]["labels"])
    assert labels == [0, 1]
    expected = np.array([[row[name] for name in labels] for row in probabilities], dtype=np.float32)
    assert array_of(table).tobytes() == expected.tobytes()


def test_a_pipeline_takes_strings_and_answers_with_strings(servers: Servers) -> None:
    colours, sizes = ["blau", "weiß", "weiß", "never seen"], [1.2, 4.4, 5.9, 0.0]
    label, probabilities = reference(
        "pipeline",
        colour=np.array(colours, dtype=object).reshape(4, 1),
        size=np.array(sizes, dtype=np.float32).reshape(4, 1),
    )
    inputs = [tensor("size", "FP32", [4, 1], sizes), tensor("colour", "BYTES", [4, 1], colours)]
    outputs = outputs_of(servers("pipeline").infer(*inputs))
    assert outputs["output_label"]["datatype"] == "BYTES"
    assert outputs["output_label"]["data"] == label.tolist()
    labels = json.loads(outputs["output_probability"]["parameters"]["labels"])
    assert labels == ["setosa", "versicolor", "virginica"]
    expected = np.array([[row[name] for name in labels] for row in probabilities], dtype=np.float32)
    assert array_of(outputs["output_probability"]).tobytes() == expected.tobytes()


EXAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False, False, True],
    "UINT8": [0, 1, 254, 255],
    "UINT16": [0, 1, 2, 65535],
    "UINT32": [0, 1, 2, 2**32 - 1],
    "UINT64": [0, 1, 2**53 + 1, 2**64 - 1],
    "INT8": [-128, -1, 0, 127],
    "INT16": [-(2**15), -1, 0, 2**15 - 1],
    "INT32": [-(2**31), -1, 0, 2**31 - 1],
    "INT64": [-(2**63), -1, 2**53 + 1, 2**63 - 1],
    "FP16": [-65504.0, 0.1, 6e-8, 3],
    "FP32": [-3.4028234663852886e38, 0.1, 1e-45, 3],
    "FP64": [-1.7976931348623157e308, 0.1, 5e-324, 3],
    "BYTES": ["", "naïve ☃ \U0001f6a2", "a\x00b", '"\\\n'],
}


def encoded(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
    with np.errstate(over="ignore"):
        return np.array(values, dtype=Datatype(datatype).dtype).tobytes()


@pytest.mark.parametrize("datatype", list(EXAMPLES))
def test_every_datatype_comes_back_exactly_as_json_and_as_bytes(servers: Servers, datatype: str) -> None:
    assert set(EXAMPLES) == set(Datatype)
    inputs, blobs = [], []
    for name, values in EXAMPLES.items():
        if name == datatype:
            blobs.append(encoded(name, values))
            inputs.append(tensor(f"in_{name}", name, [2, 2], binary_data_size=len(blobs[-1])))
        else:
            inputs.append(tensor(f"in_{name}", name, [2, 2], [values[:2], values[2:]]))
    wanted: dict[str, Any] = {"name": f"out_{datatype}"}
    as_json = servers("every_datatype").infer_binary({"inputs": inputs, "outputs": [wanted]}, *blobs)
    output = outputs_of(as_json)[f"out_{datatype}"]
    assert (output["datatype"], output["shape"]) == (datatype, [2, 2])
    assert encoded(datatype, output["data"]) == blobs[0]
    if datatype not in ("FP16", "FP32", "FP64"):
        assert output["data"] == EXAMPLES[datatype]

    in_json = [tensor(f"in_{name}", name, [2, 2], values) for name, values in EXAMPLES.items()]
    wanted = wanted | {"parameters": {"binary_data": True}}
    _, got = split(servers("every_datatype").infer(*in_json, outputs=[wanted]))
    assert got == {f"out_{datatype}": blobs[0]}


def test_binary_tensors_need_no_alignment_in_the_body(servers: Servers) -> None:
    values = np.arange(6, dtype=np.float32)
    for pad in range(8):
        response = servers("identity").infer_binary(
            {"inputs": [tensor("x", "FP32", [2, 3], binary_data_size=24)], "id": "p" * pad}, values.tobytes()
        )
        assert outputs_of(response)["y"]["data"] == values.tolist()


def test_binary_data_carries_nan_and_infinity_both_ways(servers: Servers) -> None:
    values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    request = {
        "inputs": [tensor("x", "FP32", [1, 3], binary_data_size=12)],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    _, blobs = split(servers("identity").infer_binary(request, values.tobytes()))
    assert blobs["y"] == values.tobytes()


def test_json_answers_null_for_nan_and_counts_it(servers: Servers) -> None:
    response = servers("two_inputs").infer(
        tensor("a", "FP32", [1, 2], [1, 0]), tensor("w", "FP32", [2, 3], [4, -1, -9, 0, 0, 0])
    )
    outputs = outputs_of(response)
    assert outputs["root"]["data"] == [2.0, None, None]
    assert outputs["root"]["parameters"] == {"nonfinite": 2}
    assert outputs["product"]["data"] == [4.0, -1.0, -9.0]
    assert "parameters" not in outputs["product"]


def test_outputs_come_as_asked_in_order_and_encoding(servers: Servers) -> None:
    a, w = tensor("a", "FP32", [1, 2], [[1, 2]]), tensor("w", "FP32", [2, 1], [[3], [4]])
    server = servers("two_inputs")
    everything = server.infer(w, a, id="request-7").json()
    assert [output["name"] for output in everything["outputs"]] == ["product", "root", "count"]
    assert everything["id"] == "request-7"
    assert (everything["model_name"], everything["model_version"]) == ("fraud", "3")
    assert "id" not in server.infer(w, a).json()
    assert outputs_of(server.infer(w, a))["count"] == {
        "name": "count",
        "datatype": "INT64",
        "shape": [],
        "data": [2],
    }
    asked = [{"name": "count"}, {"name": "product", "parameters": {"binary_data": False}}]
    document, blobs = split(server.infer(a, w, outputs=asked, parameters={"binary_data_output": True}))
    assert [output["name"] for output in document["outputs"]] == ["count", "product"]
    assert blobs == {"count": (2).to_bytes(8, "little")}
    assert document["outputs"][1]["data"] == [11.0]


def test_null_stands_for_an_absent_optional_member(servers: Servers) -> None:
    given = tensor("x", "FP32", [1, 3], [1, 2, 3]) | {"parameters": None}
    response = servers("identity").infer(given, id=None, outputs=None, parameters=None)
    assert outputs_of(response)["y"]["data"] == [1.0, 2.0, 3.0]


def test_parameters_the_server_does_not_know_are_ignored(servers: Servers) -> None:
    given = tensor("x", "FP32", [1, 3], [1, 2, 3], content_type="np", priority=3)
    response = servers("identity").infer(given, parameters={"headers": "x"}, trace="y")
    assert outputs_of(response)["y"]["data"] == [1.0, 2.0, 3.0]


def test_an_input_without_a_declared_shape_takes_any(servers: Servers) -> None:
    server = servers("gather")
    for shape, data in (([], [5]), ([2, 1], [5, 6])):
        response = server.infer(tensor("index", "INT64", [1], [4]), tensor("shapeless", "FP32", shape, data))
        assert outputs_of(response)["z"]["shape"] == shape


def test_the_same_model_answers_under_its_version(servers: Servers) -> None:
    body = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
    response = servers("identity").client.post("/v2/models/fraud/versions/3/infer", json=body)
    assert outputs_of(response)["y"]["data"] == [1.0, 2.0, 3.0]


def test_metadata_names_every_tensor_with_its_datatype_and_shape(servers: Servers) -> None:
    client = servers("classifier").client
    expected = {
        "name": "fraud",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}],
        "outputs": [
            {"name": "output_label", "datatype": "INT64", "shape": [-1]},
            {"name": "output_probability", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    for path in ("/v2/models/fraud", "/v2/models/fraud/versions/3"):
        found = client.get(path).json()
        assert found.pop("parameters")["batching"].startswith(("on: ", "off: "))
        assert found == expected
    inputs = servers("pipeline").client.get("/v2/models/fraud").json()["inputs"]
    assert {"name": "colour", "datatype": "BYTES", "shape": [-1, 1]} in inputs


def test_the_server_says_that_it_is_alive_and_ready_and_what_it_is(servers: Servers) -> None:
    client = servers("identity").client
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/fraud/ready", "/v2/models/fraud/versions/3/ready"):
        assert client.get(path).json() == {"name": "fraud", "ready": True}
    about = client.get("/v2").json()
    assert about["name"] == "slipway"
    assert about["extensions"] == ["binary_tensor_data"]


def test_the_request_id_header_is_echoed_on_answers_and_errors(servers: Servers) -> None:
    client = servers("identity").client
    for path in ("/v2", "/v2/models/other", "/nowhere"):
        assert client.get(path, headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert "x-request-id" not in client.get("/v2", headers={"x-request-id": "x" * 129}).headers
    assert "x-request-id" not in client.get("/v2").headers


def test_each_request_gets_its_own_id_back_however_alike_their_heads_are(servers: Servers) -> None:
    server = servers("identity")
    ids = ["3ea7a6c6-5408-4ccd-a61f-a6945905ea98", "a.b", "a b", "2", "2", "z" * 128, "z" * 129, "\x80", "3"]
    lines = [
        "x-forwarded-proto: http\r\nx-request-id: {}",
        "x-request-id: {}\r\nx-forwarded-proto: http",
        "X-Request-ID: {}",
        "x-request-id:{}",
        "x-request-id: {}\r\nX-Request-Id: other",
        "x-request-id: {}\r\nx-request-id: other",
    ]
    cases = [(line, each, b"{}" if each == "a.b" else BODY) for line in lines for each in ids]
    said = [
        head(server, f"content-length: {len(body)}", line.format(each)) + body for line, each, body in cases
    ]
    for answers in (talk(server, *said), talk(server, b"".join(said))):
        heads = answers.split(b"HTTP/1.1 ")[1:]
        assert [each[:3] for each in heads] == [b"400" if body == b"{}" else b"200" for _, _, body in cases]
        found = [re.search(rb"x-request-id: (.*)\r", each) for each in heads]
        assert [match and match[1].decode() for match in found] == [
            each if len(each) < 129 and each.isascii() else None for _, each, _ in cases
        ]


async def test_many_clients_at_once_each_get_their_own_answer(servers: Servers) -> None:
    server = servers("identity")

    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        values = [float(number), float(number + 1), -float(number)]
        body = {"inputs": [tensor("x", "FP32", [1, 3], values)], "id": str(number)}
        document = (await client.post(server.infer_path, json=body)).json()
        return bool(document["id"] == str(number) and document["outputs"][0]["data"] == values)

    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        assert all(await asyncio.gather(*(ask(client, number) for number in range(200))))
