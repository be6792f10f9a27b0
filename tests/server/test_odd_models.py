"""Models at the edges of the protocol, and requests that a model cannot take: what is said, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from slipway_server.runtime.model import plain
from slipway_server.runtime.refused import no_memory
from tests.server.running import Server, split, tensor
from tests.server.test_grpc import given, infer, refused

Servers = Callable[[str], Server]
STRINGS = [b"ok", b"caf\xe9", b"\xff a string that is longer than sixteen \x00 bytes", b""]


# What onnxruntime says is as it says it.
# ruff: noqa: E501


def i(*values: int) -> dict[str, Any]:
    return tensor("i", "INT64", [len(values)], list(values))


def y(binary: bool) -> list[dict[str, Any]]:
    return [{"name": "z"}, {"name": "y", "parameters": {"binary_data": binary}}]


@pytest.mark.parametrize("picked", [[0, 1, 2, 3], [1], [2, 2], [0, 3], []])
def test_strings_that_are_no_utf8_are_exact_in_binary(servers: Servers, picked: list[int]) -> None:
    answer = servers("broken_strings").infer(i(*picked), outputs=y(True))
    document, blobs = split(answer)
    expected = [STRINGS[at] for at in picked]
    assert blobs["y"] == b"".join(len(each).to_bytes(4, "little") + each for each in expected)
    assert document["outputs"][0]["data"] == picked


def test_in_json_they_are_the_models_fault_not_the_clients(servers: Servers) -> None:
    server = servers("broken_strings")
    assert server.infer(i(0, 3)).json()["outputs"][0]["data"] == ["ok", ""]
    key = (
        "slipway_inference_rejected_total",
        (("model", "fraud"), ("model_version", "3"), ("reason", "model_output")),
    )
    before = server.metrics()[key]
    paths: list[tuple[str, dict[str, Any], str]] = [
        (server.infer_path, {"inputs": [i(0, 1)]}, "error"),
        ("/v1/models/fraud:predict", {"instances": [0, 1]}, "error"),
        ("/v1/models/fraud:predict", {"inputs": [0, 1]}, "error"),
        ("/invocations", {"dataframe_split": {"columns": ["i"], "data": [[0], [1]]}}, "message"),
        ("/invocations", {"inputs": [0, 1]}, "message"),
    ]
    for path, body, member in paths:
        answer = server.client.post(path, json=body)
        assert answer.status_code == 500, answer.text
        assert (
            "the model is at fault: its output 'y' holds a string that is not UTF-8" in answer.json()[member]
        )
    assert server.metrics()[key] == before + len(paths)
    assert b'"level":"error"' not in server.log.read_bytes()


def test_grpc_gives_their_bytes_typed_and_raw(servers: Servers) -> None:
    server = servers("broken_strings")
    typed = infer(server, given("i", "INT64", [3], [0, 1, 2]))
    assert list(typed.outputs[0].contents.bytes_contents) == STRINGS[:3]
    raw = infer(server, given("i", "INT64", [1]), raw=[np.array([1]).tobytes()])
    assert raw.raw_output_contents[0] == b"\4\0\0\0caf\xe9"


def test_an_input_with_a_default_may_be_sent_or_left_out_by_every_protocol(servers: Servers) -> None:
    server = servers("with_default")
    x, w = tensor("x", "FP32", [1, 3], [1, 2, 3]), tensor("w", "FP32", [3], [1, 0, -1])
    for inputs, expected in (([x], [2, 4, 6]), ([x, w], [1, 0, -3]), ([w, x], [1, 0, -3]), ([x], [2, 4, 6])):
        assert server.infer(*inputs).json()["outputs"][0]["data"] == expected
    for values, expected in (({}, [2, 4, 6]), ({"w": [1, 0, -1]}, [1, 0, -3])):
        for path, member in (("/v1/models/fraud:predict", "outputs"), ("/invocations", "predictions")):
            answer = server.client.post(path, json={"inputs": {"x": [[1, 2, 3]], **values}}).json()[member]
            assert (answer["y"] if member == "predictions" else answer) == [expected]
    assert server.client.post("/v1/models/fraud:predict", json={"instances": [[1, 2, 3]]}).json() == {
        "predictions": [[2, 4, 6]]
    }
    table = {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5, 6]]}}
    assert server.client.post("/invocations", json=table).json()["predictions"][1] == {"y": [8, 10, 12]}
    typed = infer(server, given("x", "FP32", [1, 3], [1, 2, 3]), given("w", "FP32", [3], [0, 0, 1]))
    assert list(typed.outputs[0].contents.fp32_contents) == [0, 0, 3]
    for _ in range(2):
        blobs = [np.float32(each).tobytes() for each in ([1, 2, 3], [1, 1, 5])]
        raw = infer(server, given("x", "FP32", [1, 3]), given("w", "FP32", [3]), raw=blobs)
        assert raw.raw_output_contents[0] == np.float32([1, 2, 15]).tobytes()
    assert "missing input 'x'; the model needs 'x'" in server.infer(w).json()["error"]
    assert "its inputs are 'x', 'w'" in server.infer(x | {"name": "q"}).json()["error"]
    metadata = server.client.get("/v2/models/fraud").json()["inputs"]
    assert metadata == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "w", "datatype": "FP32", "shape": [3], "optional": True},
    ]
    schema = server.client.get("/v2/models/fraud/openapi.json").json()["components"]["schemas"][
        "InferRequest"
    ]
    given_inputs = schema["properties"]["inputs"]
    assert (given_inputs["minItems"], given_inputs["maxItems"]) == (1, 2)


def test_an_output_of_another_type_is_left_out_and_asking_for_it_says_why(servers: Servers) -> None:
    server = servers("odd_outputs")
    x = tensor("x", "FP32", [1, 3], [1, 2, 3])
    answer = server.infer(x).json()
    assert [(each["name"], each["data"]) for each in answer["outputs"]] == [("y", [1, 2, 3])]
    assert [each["name"] for each in server.client.get("/v2/models/fraud").json()["outputs"]] == ["y"]
    for name, kind in (("half", "tensor(bfloat16)"), ("parts", "seq(tensor(float))")):
        words = (
            f"output '{name}' is a {kind}, which the Open Inference Protocol has no datatype for; ask for 'y'"
        )
        refusal = server.infer(x, outputs=[{"name": name}])
        assert (refusal.status_code, words in refusal.json()["error"]) == (400, True)
    assert server.client.post("/invocations", json={"inputs": [[1, 2, 3]]}).json()["predictions"] == {
        "y": [[1, 2, 3]]
    }
    assert infer(server, given("x", "FP32", [1, 3], [1, 2, 3])).outputs[0].name == "y"
    assert '"half":"tensor(bfloat16)"' in server.log.read_text().replace(" ", "")


def test_sizes_that_should_be_equal_are_named(servers: Servers) -> None:
    server = servers("shared_dimension")
    answer = server.infer(tensor("a", "FP32", [3], [1, 2, 3]), tensor("b", "FP32", [5], [1] * 5))
    assert answer.status_code == 422
    assert (
        "the model refuses these shapes: dimension 0 of input 'a' and dimension 0 of input 'b' are both 'n' in "
        "the model, and must be equal; they are 3 and 5"
    ) in answer.json()["error"]
    assert "onnxruntime_src" not in answer.text
    code, words = refused(server, given("a", "FP32", [3], [1] * 3), given("b", "FP32", [5], [1] * 5))
    assert (code, "they are 3 and 5" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    columns = {"inputs": {"a": [1, 2], "b": [1, 2, 3]}}
    assert "they are 2 and 3" in server.client.post("/v1/models/fraud:predict", json=columns).json()["error"]


WORDS = [
    (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. Name:'' "
        "Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:540 void "
        "onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. "
        "Attempting to broadcast an axis by a dimension other than 1. 3 by 5",
        "axis == 1 || axis == largest was false. Attempting to broadcast",
    ),
    (
        "Status Message: /onnxruntime_src/a/reshape_helper.h:45 onnxruntime::ReshapeHelper::ReshapeHelper(const "
        "onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) const [with T = int] "
        "input_shape_size == size was false. The input tensor cannot be reshaped",
        "Status Message: input_shape_size == size was false. The input",
    ),
    (
        "/onnxruntime_src/a/b.cc:91 onnxruntime::F<int>::G(std::function<void(int)>)::<lambda(int)>::operator()(long) "
        "const x was false.",
        "x was false.",
    ),
    ("/onnxruntime_src/a/b.h:91 the words alone", "the words alone"),
    ("C:\\a\\onnxruntime_src/b.h:91 the words alone", "the words alone"),
    ("no path (at all) in here", "no path (at all) in here"),
]


@pytest.mark.parametrize(("said", "words"), WORDS)
def test_paths_and_signatures_of_the_runtimes_source_are_left_out(said: str, words: str) -> None:
    found = plain(said)
    assert words in found
    assert "onnxruntime_src" not in found
    assert "::" not in found


@pytest.mark.parametrize("size", [2**42, 2**45, 2**50])
def test_memory_that_there_will_never_be_is_the_clients_to_fix(servers: Servers, size: int) -> None:
    server = servers("ranges")
    assert server.infer(tensor("n", "INT64", [1], [4])).json()["outputs"][0]["data"] == [0, 0, 0, 0]
    answer = server.infer(tensor("n", "INT64", [1], [size]))
    assert (answer.status_code, "retry-after" in answer.headers) == (422, False), answer.text
    assert "memory at once for this request, and this server has" in answer.json()["error"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("Failed to allocate memory for requested buffer of size 1048576", 503),
        ("Failed to allocate memory for requested buffer of size 9007199254740992", 422),
        ("Unable to allocate 3.64 TiB for an array with shape (1000000, 1000000) and data type float32", 422),
        ("Unable to allocate 1.00 MiB for an array with shape (1000,) and data type float64", 503),
        ("std::bad_alloc", 422),
        ("", 422),
    ],
)
def test_an_allocation_may_succeed_later_only_if_it_fits_the_machine(words: str, status: int) -> None:
    assert no_memory(MemoryError(words)).status == status
