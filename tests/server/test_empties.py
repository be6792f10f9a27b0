"""Tensors with a dimension of 0: taken and given by every way in and out, and no danger to the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import parser

from e2e.ledger import hold
from slipway_server.errors import RequestError
from slipway_server.protocol.tensors import Datatype
from slipway_server.runtime.model import Model
from slipway_server.runtime.trial import Trial
from tests.server import onnx_models
from tests.server.running import Server, split, tensor
from tests.server.test_answers import array_of, outputs_of, reference

Servers = Callable[[str], Server]
PREDICT = "/v1/models/fraud:predict"


def same(answer: dict[str, Any], expected: Any) -> bool:
    """Whether an output is the array that onnxruntime gives: datatype, shape and bits."""
    array = array_of(answer)
    return bool(
        array.shape == expected.shape
        and array.dtype == expected.dtype
        and (array.dtype.hasobject or array.tobytes() == expected.tobytes())
    )


@pytest.mark.parametrize("shape", [[0, 4], [2, 0], [0, 0]])
def test_every_datatype_may_be_empty_as_json_and_as_bytes(servers: Servers, shape: list[int]) -> None:
    server = servers("every_datatype")
    arrays = {f"in_{name}": np.empty(shape, Datatype(name).dtype) for name in onnx_models.ONNX_TYPES}
    expected = reference("every_datatype", **arrays)
    nested: list[Any] = [[] for _ in range(shape[0])]
    for data in ([], nested):
        given = [tensor(f"in_{name}", name, shape, data) for name in onnx_models.ONNX_TYPES]
        outputs = outputs_of(server.infer(*given))
        for answer, wanted in zip(outputs.values(), expected, strict=True):
            assert answer["data"] == []
            assert same(answer, wanted)
    given = [tensor(f"in_{name}", name, shape, binary_data_size=0) for name in onnx_models.ONNX_TYPES]
    binary = server.infer_binary({"inputs": given, "parameters": {"binary_data_output": True}})
    document, blobs = split(binary)
    assert set(blobs.values()) == {b""}
    assert [output["shape"] for output in document["outputs"]] == [shape] * len(expected)


def test_a_table_without_rows_is_answered_as_onnxruntime_does(servers: Servers) -> None:
    (expected,) = reference("regressor", X=np.empty((0, 10), np.float32))
    answer = outputs_of(servers("regressor").infer(tensor("X", "FP32", [0, 10], [])))["variable"]
    assert answer["shape"] == [0, 1]
    assert same(answer, expected)
    label, rows = reference("classifier", X=np.empty((0, 30), np.float32))
    outputs = outputs_of(servers("classifier").infer(tensor("X", "FP32", [0, 30], [])))
    assert rows == []
    assert same(outputs["output_label"], label)
    table = outputs["output_probability"]
    assert (table["shape"], table["data"], table["parameters"]["labels"]) == ([0, 2], [], "[0,1]")
    outputs = outputs_of(
        servers("pipeline").infer(tensor("colour", "BYTES", [0, 1], []), tensor("size", "FP32", [0, 1], []))
    )
    assert (outputs["output_label"]["shape"], outputs["output_probability"]["shape"]) == ([0], [0, 3])


def test_one_of_several_inputs_may_be_empty(servers: Servers) -> None:
    server = servers("two_inputs")
    for n, m in ((0, 3), (2, 0), (0, 0)):
        a, w = np.ones((n, 2), np.float32), np.ones((2, m), np.float32)
        product, _, count = reference("two_inputs", a=a, w=w)
        outputs = outputs_of(
            server.infer(
                tensor("a", "FP32", [n, 2], a.ravel().tolist()), tensor("w", "FP32", [2, m], w.tolist())
            )
        )
        assert outputs["product"]["shape"] == [n, m]
        assert same(outputs["product"], product)
        assert same(outputs["count"], count)


def test_an_input_without_a_declared_shape_may_be_empty(servers: Servers) -> None:
    server = servers("gather")
    index, shapeless = tensor("index", "INT64", [0], []), tensor("shapeless", "FP32", [0], [])
    outputs = outputs_of(server.infer(index, shapeless))
    assert (outputs["y"]["shape"], outputs["z"]["shape"]) == ([0], [0])
    answer = server.infer(index, tensor("shapeless", "FP32", [2, 0], []))
    assert answer.status_code == 422
    assert "not known to survive input 'index' of shape [0]" in answer.json()["error"]


def test_an_answer_may_be_empty_though_the_request_is_not(servers: Servers) -> None:
    server = servers("nonzero")
    for row in ([0, 0, 0], [0, 5, 6]):
        (expected,) = reference("nonzero", x=np.array([row], np.float32))
        given = tensor("x", "FP32", [1, 3], row)
        assert same(outputs_of(server.infer(given))["places"], expected)
        document, blobs = split(server.infer(given, parameters={"binary_data_output": True}))
        assert document["outputs"][0]["shape"] == list(expected.shape)
        assert blobs["places"] == expected.tobytes()


def test_empty_requests_share_no_call_and_disturb_nobody(servers: Servers) -> None:
    server = servers("regressor")
    rows = np.random.default_rng(4).normal(0, 0.05, (60, 10)).astype(np.float32)
    (expected,) = reference("regressor", X=rows)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            bodies = [
                {"inputs": [tensor("X", "FP32", [size, 10], rows[at : at + size].ravel().tolist())]}
                for at in range(60)
                for size in (1, 0)
            ]
            return await asyncio.gather(*(client.post(server.infer_path, json=body) for body in bodies))

    answers = [outputs_of(answer)["variable"] for answer in asyncio.run(ask())]
    assert b"".join(array_of(answer).tobytes() for answer in answers[::2]) == expected.tobytes()
    assert all(answer["shape"] == [0, 1] for answer in answers[1::2])


def test_no_rows_may_be_asked_by_the_other_protocols(servers: Servers) -> None:
    def post(name: str, path: str, document: Any) -> Any:
        answer = servers(name).client.post(path, json=document)
        assert answer.status_code == 200, answer.text
        return answer.json()

    for name in ("identity", "regressor", "pipeline"):
        assert post(name, PREDICT, {"instances": []}) == {"predictions": []}
    assert post("identity", PREDICT, {"inputs": []}) == {"outputs": []}
    assert post("identity", PREDICT, {"inputs": {"x": []}}) == {"outputs": []}
    assert post("every_datatype", PREDICT, {"inputs": {f"in_{n}": [[]] for n in onnx_models.ONNX_TYPES}})
    split = {"columns": ["a", "b", "c"], "data": []}
    assert post("identity", "/invocations", {"dataframe_split": split}) == {"predictions": []}
    split = {"columns": ["size", "colour"], "data": []}
    assert post("pipeline", "/invocations", {"dataframe_split": split}) == {"predictions": []}
    assert post("identity", "/invocations", {"instances": []}) == {"predictions": {"y": []}}


def test_an_empty_tensor_costs_no_more_than_it_may(servers: Servers) -> None:
    server = servers("two_inputs")
    w = tensor("w", "FP32", [2, 1], [1, 2])
    assert server.infer(tensor("a", "FP32", [0, 2], []), w).status_code == 200
    server = servers("every_datatype")
    for shape in ([4096, 0], [4097, 0], [0, 2**61]):
        given = [tensor(f"in_{name}", name, shape, []) for name in onnx_models.ONNX_TYPES]
        answer = server.infer(*given)
        assert answer.status_code == (200 if shape == [4096, 0] else 400)
        if answer.status_code == 400:
            assert "its other free dimensions are" in answer.json()["error"]


def test_what_onnxruntime_does_not_survive_is_refused_before_it_is_run(servers: Servers) -> None:
    server = servers("recurrent")
    log = server.log.read_text()
    assert "the model does not survive empty tensors" in log
    assert "terminate called" not in log
    for shape in ([0, 1, 2], [1, 0, 2], [0, 0, 2]):
        answer = server.infer(tensor("x", "FP32", shape, []))
        assert answer.status_code in (200, 422)
        if shape == [0, 1, 2]:
            assert answer.status_code == 422
        if answer.status_code == 422:
            assert (
                "the model refuses these values: it is not known to survive input 'x' of shape"
                in (answer.json()["error"])
            )
    x = np.ones((3, 2, 2), np.float32)
    (expected,) = reference("recurrent", x=x)
    answer = outputs_of(server.infer(tensor("x", "FP32", [3, 2, 2], x.ravel().tolist())))["state"]
    assert same(answer, expected)


@pytest.mark.timed
def test_a_model_that_never_ends_without_rows_still_loads(tmp_path: Path) -> None:
    path = onnx_models.save(onnx_models.endless(), tmp_path) / "model.onnx"
    model = Model(path, 1)
    assert model.warm_up()
    began = time.perf_counter()
    empties = Trial(model).result()
    hold("a trial without rows of a model that never ends", time.perf_counter() - began, 10)
    with pytest.raises(RequestError, match=r"not known to survive input 'x' of shape \[0\]") as caught:
        empties.check({"x": np.empty(0, np.float32)})
    assert caught.value.status == 422
    empties.check({"x": np.ones(1, np.float32)})


def test_of_many_free_dimensions_a_few_combinations_are_tried_and_all_rows_first(tmp_path: Path) -> None:
    names = [f"x{number}" for number in range(40)]
    inputs = ", ".join(f"float[N{number},M{number}] {name}" for number, name in enumerate(names))
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[N0,M0] y) {{ y = Identity(x0) }}'
    onnx_models.save(parser.parse_model(text), tmp_path)
    empties = Trial(Model(tmp_path / "model.onnx", 1)).result()
    empties.check({name: np.empty((0, 1), np.float32) for name in names})
    with pytest.raises(RequestError, match="not known to survive input 'x38'"):
        empties.check({name: np.empty((int(name < "x38"), 1), np.float32) for name in names})


def test_what_the_model_itself_refuses_is_the_clients_to_mend(servers: Servers) -> None:
    """It is tried, and the error of onnxruntime is what the client gets."""
    server = servers("first_row")
    answer = server.infer(tensor("x", "FP32", [0, 3], []))
    assert answer.status_code == 422
    assert "the model refuses these values" in answer.json()["error"]
    assert "not known" not in json.dumps(answer.json())
    assert server.infer(tensor("x", "FP32", [2, 3], [1] * 6)).status_code == 200
