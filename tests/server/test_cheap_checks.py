"""What is wrong with a request is found before the work that its values take, however it came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from slipway_server.errors import RequestError
from slipway_server.protocol.decode import decode
from slipway_server.protocol.tensors import Datatype, TensorSpec
from slipway_server.rpc.open_inference_pb2 import ModelInferRequest
from slipway_server.rpc.outline import check_outline
from tests.server.running import Server, tensor

STRINGS = {"s": TensorSpec("s", Datatype.BYTES, (-1, -1))}
NUMBERS = {"s": TensorSpec("s", Datatype.INT64, (-1, -1))}
TWO = {**STRINGS, "t": TensorSpec("t", Datatype.FP32, (-1,))}
#: As large as a body may be.
MUCH = 60 * 1024 * 1024


def seconds_to_refuse(work: Callable[[], Any]) -> tuple[float, str]:
    """CPU time, which other processes of the machine do not change, and the words of the refusal."""
    began = time.thread_time()
    with pytest.raises(RequestError) as caught:
        work()
    assert caught.value.status == 400
    return time.thread_time() - began, caught.value.message


def binary(blob: bytes, *tensors: dict[str, Any], **members: Any) -> tuple[bytes, int]:
    head = json.dumps({"inputs": list(tensors), **members}).encode()
    return head + blob, len(head)


def strings(size: int, shape: list[int]) -> dict[str, Any]:
    return tensor("s", "BYTES", shape, binary_data_size=size)


@pytest.mark.parametrize(
    ("blob", "shape", "words"),
    [
        (bytes(MUCH), [1, 1], "has more than 2 strings; its shape needs 1"),
        (bytes(MUCH), [0, 1], "has more than 1 strings; its shape needs 0"),
        (bytes(MUCH), [4000, 4000], "has at most 15728640 strings; its shape needs 16000000"),
        (b"\1\0\0\0a" * (MUCH // 5), [3, 1], "has more than 4 strings; its shape needs 3"),
        (b"", [2**40, 2**20], "has 0 strings"),
    ],
)
def test_strings_that_are_too_many_or_too_few_for_their_shape_are_refused_at_once(
    blob: bytes, shape: list[int], words: str
) -> None:
    body, length = binary(blob, strings(len(blob), shape))
    seconds, message = seconds_to_refuse(lambda: decode(body, length, STRINGS, ["y"]))
    assert words in message
    assert seconds < 0.5


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"inputs": [strings(MUCH, [MUCH // 4, 1]), tensor("z", "FP32", [1], [1])]}, "has no input 'z'"),
    ({"inputs": [strings(MUCH, [MUCH // 4, 1]), tensor("t", "FP64", [1], [1])]}, "'datatype' is 'FP64'"),
    ({"inputs": [strings(MUCH, [MUCH // 4, 1]), tensor("t", "FP32", [1, 1], [1])]}, "has shape [1, 1]"),
    ({"inputs": [strings(MUCH - 4, [MUCH // 4 - 1, 1]), tensor("t", "FP32", [1], [1])]}, "belong to no"),
    ({"inputs": [strings(MUCH, [MUCH // 4, 1])], "outputs": [{"name": "z"}]}, "has no output 'z'"),
    ({"inputs": [strings(MUCH, [MUCH // 4, 1])], "parameters": {"timeout": "soon"}}, "'timeout' must be"),
    ({"inputs": [strings(MUCH, [MUCH // 4, 1])], "id": 7}, "'id' must be a string"),
]


@pytest.mark.parametrize(("document", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_mistake_elsewhere_is_found_before_the_values_are_read(
    document: dict[str, Any], words: str
) -> None:
    head = json.dumps(document).encode()
    body = head + bytes(MUCH)
    seconds, message = seconds_to_refuse(lambda: decode(body, len(head), TWO, ["y"]))
    assert words in message
    assert seconds < 0.5


def part(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    size, out = len(content), bytearray((number << 3 | 2,))
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes([*out, size]) + content


def typed(shape: list[int], contents: bytes) -> bytes:
    head = ModelInferRequest.InferInputTensor(name="s", datatype="BYTES", shape=shape).SerializeToString()
    return part(5, head + part(5, contents))


HALF = MUCH // 2
OUTLINES = [
    (part(7, b"") * HALF, "'raw_input_contents' has more than 1 items"),
    (part(5, b"") * HALF, "'inputs' has more than 1 items"),
    (part(6, b"") * HALF, "'outputs' has more than 1 items"),
    (part(4, b"") * HALF, "the message has more than"),
    (part(15, b"") * HALF, "the message has more than"),
    (part(5, part(4, b"") * HALF), "an input has more than 4096 parts"),
    (part(5, part(1, b"s") + part(3, b"\1" * MUCH)), "input 's': 'shape' has too many dimensions"),
    (part(5, part(1, b"s") + b"\x18\1" * HALF), "input 's': 'shape' has too many dimensions"),
    (typed([1, 1], part(8, b"") * HALF), "'contents' has more than 1 strings; shape [1, 1] needs 1"),
    (typed([2, 0], part(8, b"abc") * (MUCH // 5)), "'contents' has more than 0 strings"),
]


@pytest.mark.parametrize(("message", "words"), OUTLINES, ids=[words for _, words in OUTLINES])
def test_a_message_of_too_many_parts_is_refused_before_it_is_unpacked(message: bytes, words: str) -> None:
    seconds, said = seconds_to_refuse(lambda: check_outline(message, STRINGS, 1))
    assert words in said
    assert seconds < 0.5


@pytest.mark.parametrize(
    "broken", [b"\xff" * 100, b"\x2a\xff\xff\xff\x7f", b"\x0b", b"\x2a\x02\x1a\x05", b"\x08"]
)
def test_what_is_no_message_is_left_to_the_parser_of_messages(broken: bytes) -> None:
    check_outline(broken, STRINGS, 1)


def test_a_whole_message_has_the_parts_that_its_model_needs() -> None:
    request = ModelInferRequest(model_name="m", raw_input_contents=[b"abc"])
    request.parameters["p"].int64_param = 7
    request.outputs.add(name="y")
    given = request.inputs.add(name="s", datatype="BYTES", shape=[3, 300])
    given.contents.bytes_contents.extend([b"abc"] * 900)
    check_outline(request.SerializeToString(), STRINGS, 1)
    given.contents.bytes_contents.append(b"")
    with pytest.raises(RequestError, match="more than 900 strings"):
        check_outline(request.SerializeToString(), STRINGS, 1)


def test_the_servers_doors_blame_the_client_not_the_load(servers: Callable[[str], Server]) -> None:
    server = servers("texts")
    blob = bytes(16 * 1024 * 1024)
    response = server.infer_binary(
        {"inputs": [tensor("s", "BYTES", [1, 1], binary_data_size=len(blob))]}, blob
    )
    assert (response.status_code, "retry-after" in response.headers) == (400, False)
    assert "more than 2 strings" in response.json()["error"]


@pytest.mark.parametrize("path", ["/v1/models/fraud:predict", "/invocations"])
def test_values_of_a_wrong_shape_are_not_unpacked_from_base64(
    servers: Callable[[str], Server], path: str
) -> None:
    body = orjson.dumps({"inputs": [[[{"b64": "not base64"}]]]})
    response = servers("texts").client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert "has shape [1, 1, 1]" in response.text
