"""What other servers offer and this one does not is refused by name; and their raw requests are taken."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from slipway_server.rpc import health_pb2
from slipway_server.rpc import open_inference_pb2 as oip
from tests.server import onnx_models
from tests.server.running import Server, split, tensor
from tests.server.test_grpc import GOOD as GIVEN
from tests.server.test_grpc import SERVICE, ask, request

Servers = Callable[[str], Server]
GOOD = tensor("x", "FP32", [1, 3], [1, 2, 3])
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "output 'y': 'classification' is 2"),
    ({"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "'shared_memory_region'"),
    ({"parameters": {"sequence_id": 7}}, "request parameters: 'sequence_id' is 7"),
    ({"parameters": {"sequence_id": "a", "sequence_start": True}}, "'sequence_id' is 'a'"),
    ({"parameters": {"sequence_end": True}}, "'sequence_end' is true"),
]


@pytest.mark.parametrize(("members", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_would_change_an_answer_is_refused_by_name(
    servers: Servers, members: dict[str, Any], words: str
) -> None:
    server = servers("identity")
    for _ in range(2):
        answer = server.infer(GOOD, **members)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
        assert "not offered" in answer.json()["error"]
    asked = request(GIVEN)
    for name, value in members.get("parameters", {}).items():
        kind = {bool: "bool_param", int: "int64_param"}.get(type(value), "string_param")
        setattr(asked.parameters[name], kind, value)
    for output in members.get("outputs", []):
        wish = asked.outputs.add(name=output["name"])
        for name, value in output["parameters"].items():
            setattr(wish.parameters[name], "int64_param" if isinstance(value, int) else "string_param", value)
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "ModelInfer", asked, oip.ModelInferResponse)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_an_input_in_shared_memory_is_refused_by_name(servers: Servers) -> None:
    server = servers("identity")
    where = tensor("x", "FP32", [1, 3], shared_memory_region="r", shared_memory_byte_size=12)
    answer = server.infer(where)
    assert answer.status_code == 400
    words = "input 'x': 'shared_memory_region' is 'r', but shared memory is not offered"
    assert words in answer.json()["error"]
    asked = request(GIVEN)
    asked.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(grpc.RpcError, match="shared memory is not offered"):
        ask(server, "ModelInfer", asked, oip.ModelInferResponse)


def test_the_same_parameters_may_ask_for_nothing(servers: Servers) -> None:
    nothing = {"sequence_id": 0, "sequence_start": False, "sequence_end": None}
    wish = [{"name": "y", "parameters": {"classification": 0}}]
    assert servers("identity").infer(GOOD, parameters=nothing, outputs=wish).status_code == 200


def raw(server: Server, body: bytes, media: str = "application/octet-stream") -> httpx.Response:
    headers = {"inference-header-content-length": "0", "content-type": media}
    return server.client.post(server.infer_path, content=body, headers=headers)


def test_tritons_raw_request_is_the_only_inputs_bytes(servers: Servers) -> None:
    server = servers("identity")
    for rows in (1, 4, 4, 1, 0, 1000):
        array = np.random.default_rng(rows).random((rows, 3), np.float32)
        document, blobs = split(raw(server, array.tobytes()))
        assert (document["outputs"][0]["shape"], blobs["y"]) == ([rows, 3], array.tobytes())
    for size in (1, 13):
        answer = raw(server, bytes(size))
        assert answer.status_code == 400
        assert f"{size} bytes are not a multiple of 12" in answer.json()["error"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("two_inputs", "but it has 'a', 'w'; send a JSON part"),
        ("texts", "the shape of 's' is not told by the count of its bytes"),
    ],
)
def test_where_bytes_alone_do_not_tell_a_raw_request_is_refused_with_words(
    servers: Servers, model: str, words: str
) -> None:
    answer = raw(servers(model), bytes(24))
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text


def test_grpc_says_at_once_that_the_model_is_still_being_loaded(tmp_path: Path) -> None:
    directory = onnx_models.save(onnx_models.slow_to_load(), tmp_path / "model")
    with Server(directory) as server:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", server.grpc_port), timeout=5).close()
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        began = time.monotonic()
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            infer = channel.unary_unary(
                f"{SERVICE}/ModelInfer",
                oip.ModelInferRequest.SerializeToString,
                oip.ModelInferResponse.FromString,
            )
            assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 2, "NOT_SERVING"
            with pytest.raises(grpc.RpcError) as caught:
                infer(request(GIVEN), timeout=10)
        assert time.monotonic() - began < 8
        assert server.client.get("/v2/health/ready").status_code == 503, "it was loaded meanwhile"
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "still being loaded" in caught.value.details()
        server.wait_until_ready(60)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 1, "SERVING"
