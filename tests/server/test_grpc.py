from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import trustme
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from e2e.ledger import hold
from slipway_server.rpc import health_pb2
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.wire.frames import END_HEADERS, END_STREAM, PREFACE, Kind, frame
from slipway_server.wire.headers import literal
from tests.server.conftest import Start
from tests.server.running import Server, tensor
from tests.server.test_answers import EXAMPLES, encoded, outputs_of, reference

Servers = Callable[[str], Server]
SERVICE = "/inference.GRPCInferenceService"
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "UINT64": "uint64_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@pytest.fixture(scope="session")
def stack() -> str:
    """gRPC has a side of its own, whichever of the two REST has."""
    return "own"


@contextmanager
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as made:
        yield made


def ask(server: Server, method: str, request: Any, answer: Any, **how: Any) -> Any:
    """Call a method of the service; raises ``grpc.RpcError``."""
    with channel(server) as made:
        call = made.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=how.pop("timeout", 10), **how)


def given(name: str, datatype: str, shape: list[int], values: Any = None) -> Any:
    made = oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if values is not None:
        getattr(made.contents, FIELDS[datatype]).extend(values)
    return made


def request(*inputs: Any, raw: list[bytes] | None = None, **members: Any) -> oip.ModelInferRequest:
    members.setdefault("model_name", "fraud")
    return oip.ModelInferRequest(inputs=inputs, raw_input_contents=raw, **members)


GOOD = given("x", "FP32", [1, 3], [1, 2, 3])


def infer(server: Server, *inputs: Any, how: dict[str, Any] | None = None, **members: Any) -> Any:
    return ask(server, "ModelInfer", request(*inputs, **members), oip.ModelInferResponse, **(how or {}))


def refused(server: Server, *inputs: Any, **members: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        infer(server, *inputs, **members)
    return caught.value.code(), caught.value.details()


def test_answers_equal_onnxruntimes_bit_by_bit_raw_and_typed(servers: Servers) -> None:
    rows = np.random.default_rng(1).normal(0, 0.05, (64, 10)).astype(np.float32)
    (expected,) = reference("regressor", X=rows)
    server = servers("regressor")
    raw = infer(server, given("X", "FP32", [64, 10]), raw=[rows.tobytes()], id="seven")
    typed = infer(server, given("X", "FP32", [64, 10], rows.ravel().tolist()), model_version="3")
    assert (raw.model_name, raw.model_version, raw.id) == ("fraud", "3", "seven")
    assert [(out.name, out.datatype, list(out.shape)) for out in raw.outputs] == [
        ("variable", "FP32", [64, 1])
    ]
    assert list(raw.raw_output_contents) == [expected.tobytes()]
    assert not typed.raw_output_contents
    answer = np.array(typed.outputs[0].contents.fp32_contents, np.float32)
    assert answer.tobytes() == expected.tobytes()


def test_every_datatype_comes_back_exactly_raw(servers: Servers) -> None:
    inputs = [given(f"in_{name}", name, [2, 2]) for name in EXAMPLES]
    blobs = [encoded(name, values) for name, values in EXAMPLES.items()]
    answer = infer(servers("every_datatype"), *inputs, raw=blobs)
    assert [out.datatype for out in answer.outputs] == list(EXAMPLES)
    assert list(answer.raw_output_contents) == blobs


def test_every_datatype_comes_back_exactly_typed(servers: Servers) -> None:
    examples = {name: values for name, values in EXAMPLES.items() if name != "FP16"}
    examples["BYTES"] = [value.encode() for value in examples["BYTES"]]
    inputs = [given(f"in_{name}", name, [2, 2], values) for name, values in examples.items()]
    answer = infer(servers("typed_datatypes"), *inputs)
    assert not answer.raw_output_contents
    for output, (name, _), sent in zip(answer.outputs, examples.items(), inputs, strict=True):
        assert (output.name, output.datatype, list(output.shape)) == (f"out_{name}", name, [2, 2])
        assert output.contents == sent.contents


@pytest.mark.parametrize("shape", [[0, 4], [2, 0]])
def test_every_datatype_may_be_empty_raw_and_typed(servers: Servers, shape: list[int]) -> None:
    inputs = [given(f"in_{name}", name, shape) for name in EXAMPLES]
    for _ in range(2):  # the second time its layout might be known
        answer = infer(servers("every_datatype"), *inputs, raw=[b""] * len(inputs))
        assert [list(out.shape) for out in answer.outputs] == [shape] * len(inputs)
        assert list(answer.raw_output_contents) == [b""] * len(inputs)
    inputs = [given(f"in_{name}", name, shape, []) for name in EXAMPLES if name != "FP16"]
    answer = infer(servers("typed_datatypes"), *inputs)
    assert [(list(out.shape), out.datatype) for out in answer.outputs] == [
        (shape, each.datatype) for each in inputs
    ]
    assert not answer.raw_output_contents
    assert all(out.contents == oip.InferTensorContents() for out in answer.outputs)


def test_what_is_empty_and_not_survived_is_refused(servers: Servers) -> None:
    code, words = refused(servers("recurrent"), given("x", "FP32", [0, 1, 2]))
    assert code is INVALID
    assert "not known to survive input 'x' of shape [0, 1, 2]" in words
    full = infer(servers("recurrent"), given("x", "FP32", [1, 1, 2], [1, 2]))
    assert len(full.outputs[0].contents.fp32_contents) == 5


def test_fp16_has_no_typed_contents_and_is_answered_raw(servers: Servers) -> None:
    code, words = refused(servers("every_datatype"), given("in_FP16", "FP16", [1, 1]))
    assert code is INVALID
    assert words == "input 'in_FP16': FP16 has no typed contents; send it in 'raw_input_contents'"


def test_raw_requests_that_differ_in_their_numbers_alone_get_each_its_own_answer(servers: Servers) -> None:
    server = servers("two_inputs")
    random = np.random.default_rng(7)
    with channel(server) as made:
        call = made.unary_unary(f"{SERVICE}/ModelInfer", None, oip.ModelInferResponse.FromString)
        for number in range(60):
            n, m = 1 + number % 3, 1 + number % 2
            a, w = random.random((n, 2), np.float32), random.random((2, m), np.float32)
            inputs = [given("a", "FP32", [n, 2]), given("w", "FP32", [2, m])]
            if number % 2:
                inputs.reverse()
            blobs = [(a if each.name == "a" else w).tobytes() for each in inputs]
            name = "" if number < 30 else f"n{number}"
            answer = call(request(*inputs, raw=blobs, id=name).SerializeToString(), timeout=10)
            product, _, count = reference("two_inputs", a=a, w=w)
            assert answer.id == name
            assert [list(out.shape) for out in answer.outputs] == [[n, m], [n, m], []]
            assert answer.raw_output_contents[0] == product.tobytes()
            assert answer.raw_output_contents[2] == count.tobytes()


def test_a_message_whose_fields_come_in_another_order_is_read_for_what_it_says(servers: Servers) -> None:
    """Its ``id`` comes last, and looks like raw contents."""
    server = servers("identity")
    start = request(X, raw=[blob(1, 2, 3)]).SerializeToString()
    for words in (b"abcdefghijkl", b"ABCDEFGHIJKL"):
        name = b"\x3a\x0c" + words
        with channel(server) as made:
            answer = oip.ModelInferResponse.FromString(
                made.unary_unary(f"{SERVICE}/ModelInfer")(
                    start + b"\x1a" + bytes((len(name),)) + name, timeout=10
                )
            )
        assert answer.id == name.decode()
        assert list(answer.raw_output_contents) == [blob(1, 2, 3)]


def test_strings_and_a_zip_map_with_its_labels(servers: Servers) -> None:
    colours, sizes = ["blau", "weiß", "never seen"], [1.2, 4.4, 0.0]
    server = servers("pipeline")
    inputs = [
        given("colour", "BYTES", [3, 1], [colour.encode() for colour in colours]),
        given("size", "FP32", [3, 1], sizes),
    ]
    answer = infer(server, *inputs)
    rest = outputs_of(
        server.infer(tensor("colour", "BYTES", [3, 1], colours), tensor("size", "FP32", [3, 1], sizes))
    )
    label, table = answer.outputs
    assert [value.decode() for value in label.contents.bytes_contents] == rest["output_label"]["data"]
    assert json.loads(table.parameters["labels"].string_param) == ["setosa", "versicolor", "virginica"]
    expected = np.array(rest["output_probability"]["data"], np.float32)
    assert np.array(table.contents.fp32_contents, np.float32).tobytes() == expected.tobytes()


def test_nan_is_taken_and_given_exactly(servers: Servers) -> None:
    answer = infer(servers("identity"), given("x", "FP32", [1, 3], [float("nan"), float("inf"), -0.0]))
    values = list(answer.outputs[0].contents.fp32_contents)
    assert np.isnan(values[0])
    assert values[1:] == [float("inf"), 0.0]
    assert np.signbit(values[2])


def blob(*values: float) -> bytes:
    return np.array(values, np.float32).tobytes()


INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = given("x", "FP32", [1, 3])
REFUSED: list[tuple[dict[str, Any], grpc.StatusCode, str]] = [
    ({"inputs": [GOOD], "model_name": "other"}, grpc.StatusCode.NOT_FOUND, "there is no model 'other' here"),
    ({"inputs": [GOOD], "model_version": "9"}, grpc.StatusCode.NOT_FOUND, "has version '3' here, not '9'"),
    ({"inputs": []}, INVALID, "missing input 'x'; the model needs 'x'"),
    ({"inputs": [GOOD, GOOD]}, INVALID, "input 'x' is given twice"),
    ({"inputs": [given("z", "FP32", [1, 3], [1, 2, 3])]}, INVALID, "the model has no input 'z'"),
    (
        {"inputs": [given("x", "FP64", [1, 3], [1, 2, 3])]},
        INVALID,
        "'datatype' is 'FP64'; the model takes FP32",
    ),
    ({"inputs": [given("x", "FP32", [3], [1, 2, 3])]}, INVALID, "has shape [3], the model takes [-1, 3]"),
    ({"inputs": [given("x", "FP32", [1, 0])]}, INVALID, "has shape [1, 0], the model takes [-1, 3]"),
    ({"inputs": [given("x", "FP32", [0, 3], [1])]}, INVALID, "'contents' has 1 values; shape [0, 3] needs 0"),
    ({"inputs": [given("x", "FP32", [-1, 3], [1, 2, 3])]}, INVALID, "whole numbers from 0, not -1"),
    ({"inputs": [given("x", "FP32", [2**61, 3], [1, 2, 3])]}, INVALID, "'contents' has 3 values"),
    (
        {"inputs": [given("x", "FP32", [1, 3], [1, 2])]},
        INVALID,
        "'contents' has 2 values; shape [1, 3] needs 3",
    ),
    ({"inputs": [X]}, INVALID, "'contents' has 0 values; shape [1, 3] needs 3"),
    (
        {"inputs": [X], "raw": [blob(1, 2)]},
        INVALID,
        "'raw_input_contents' is 8; FP32 of shape [1, 3] has 12 bytes",
    ),
    ({"inputs": [X], "raw": [blob(1, 2, 3)] * 2}, INVALID, "has 2 items for 1 inputs; send one for each"),
    ({"inputs": [GOOD], "raw": [blob(1, 2, 3)]}, INVALID, "has both 'contents' and 'raw_input_contents'"),
    (
        {"inputs": [GOOD], "outputs": [oip.ModelInferRequest.InferRequestedOutputTensor(name="z")]},
        INVALID,
        "the model has no output 'z'",
    ),
    (
        {"inputs": [GOOD], "parameters": {"timeout": oip.InferParameter(string_param="soon")}},
        INVALID,
        "'timeout' must be whole microseconds, not 'soon'",
    ),
]


@pytest.mark.parametrize(("asked", "code", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_a_request_that_does_not_fit_is_refused_with_what_to_mend(
    servers: Servers, asked: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    found, details = refused(
        servers("identity"), *asked["inputs"], **{k: v for k, v in asked.items() if k != "inputs"}
    )
    assert found is code
    assert words in details


def test_values_that_the_model_itself_refuses_are_the_clients_to_mend(servers: Servers) -> None:
    inputs = [given("index", "INT64", [1], [5]), given("shapeless", "FP32", [], [0])]
    code, words = refused(servers("gather"), *inputs)
    assert code is INVALID
    assert "the model refuses these values" in words


def test_the_wrong_contents_field_and_numbers_out_of_range_are_named(servers: Servers) -> None:
    server = servers("every_datatype")
    wrong = given("in_INT8", "INT8", [1, 1])
    wrong.contents.fp32_contents.append(1)
    assert "the contents are in 'fp32_contents'; INT8 goes into 'int_contents'" in refused(server, wrong)[1]
    assert "INT8 goes from -128 to 127" in refused(server, given("in_INT8", "INT8", [1, 1], [128]))[1]
    assert "is not UTF-8" in refused(server, given("in_BYTES", "BYTES", [1, 1], [b"\xff"]))[1]


def raw_call(server: Server, body: bytes, path: str = f"{SERVICE}/ModelInfer", **how: Any) -> Any:
    with channel(server) as made:
        return made.unary_unary(path)(body, timeout=10, **how)


def rejected(server: Server) -> dict[str, int]:
    return {
        dict(labels)["reason"]: int(value)
        for (name, labels), value in server.metrics().items()
        if name == "slipway_inference_rejected_total"
    }


def test_what_is_no_message_and_methods_that_are_not_there_are_refused(servers: Servers) -> None:
    server = servers("identity")
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(server, b"\xff\xff\xff")
    assert caught.value.code() is INVALID
    assert "is not an inference.ModelInferRequest" in caught.value.details()
    for path in (f"{SERVICE}/RepositoryIndex", "/some.Service/Method"):
        with pytest.raises(grpc.RpcError) as caught:
            raw_call(server, b"", path)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    before = rejected(server)
    status = httpx.get(f"http://127.0.0.1:{server.grpc_port}/v2")
    assert rejected(server) == before | {"malformed": before["malformed"] + 1}
    assert (status.status_code, status.json()) == (
        400,
        {"error": "this port speaks gRPC; REST has one of its own"},
    )


@pytest.mark.parametrize("model", ["pipeline", "with_default"])
def test_metadata_is_that_of_rest(servers: Servers, model: str) -> None:
    server = servers(model)
    asked = oip.ModelMetadataRequest(name="fraud", version="3")
    found = ask(server, "ModelMetadata", asked, oip.ModelMetadataResponse)
    rest = server.client.get("/v2/models/fraud").json()
    assert (found.name, list(found.versions), found.platform) == (
        rest["name"],
        rest["versions"],
        rest["platform"],
    )
    assert {name: value.string_param for name, value in found.parameters.items()} == rest["parameters"]
    for tensors, in_rest in ((found.inputs, rest["inputs"]), (found.outputs, rest["outputs"])):
        for mine, theirs in zip(tensors, in_rest, strict=True):
            own = {name: value.bool_param for name, value in mine.parameters.items()}
            assert {"name": mine.name, "datatype": mine.datatype, "shape": list(mine.shape), **own} == theirs
    about = ask(server, "ServerMetadata", oip.ServerMetadataRequest(), oip.ServerMetadataResponse)
    assert about.name == "slipway"
    assert ask(server, "ServerLive", oip.ServerLiveRequest(), oip.ServerLiveResponse).live
    assert ask(server, "ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse).ready
    assert ask(server, "ModelReady", oip.ModelReadyRequest(name="fraud"), oip.ModelReadyResponse).ready
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "ModelReady", oip.ModelReadyRequest(name="other"), oip.ModelReadyResponse)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_shows_the_services_and_how_they_are_built(servers: Servers) -> None:
    with channel(servers("identity")) as made:
        database = ProtoReflectionDescriptorDatabase(made)
        names = set(database.get_services())
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        assert {method.name for method in file.service[0].method} >= {"ModelInfer", "ServerLive"}
        with pytest.raises(KeyError):
            database.FindFileContainingSymbol("inference.Nothing")
    assert names == {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    }


def test_the_ids_of_request_and_trace_come_back(servers: Servers) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = request(GOOD).SerializeToString()
    with channel(servers("identity")) as made:
        _, call = made.unary_unary(f"{SERVICE}/ModelInfer").with_call(
            message, metadata=[("x-request-id", "abc"), ("traceparent", trace)], timeout=10
        )
        sent = dict(call.initial_metadata())
    assert (sent["x-request-id"], sent["traceparent"]) == ("abc", trace)


def test_compressed_requests_are_taken_within_the_same_limit(start: Start) -> None:
    server = start("identity", maxBodyBytes=100_000).wait_until_ready()
    fits = given("x", "FP32", [8000, 3])
    answer = infer(server, fits, raw=[bytes(96_000)], how={"compression": grpc.Compression.Gzip})
    assert answer.raw_output_contents[0] == bytes(96_000)
    too_large = given("x", "FP32", [80_000, 3])
    for how in ({}, {"compression": grpc.Compression.Gzip}):
        code, words = refused(server, too_large, raw=[bytes(960_000)], how=how)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the body is larger than 100000 bytes" in words


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady"])
def test_a_compression_that_is_not_taken_is_unimplemented_and_says_which_are(
    servers: Servers, method: str
) -> None:
    server = servers("identity")
    with pytest.raises(grpc.RpcError) as caught:
        compressed(server, method, grpc.Compression.Deflate)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "compressed by 'deflate' are not taken; send it with gzip" in caught.value.details()


@pytest.mark.parametrize(
    ("encoding", "status"), [(b"deflate", b"12"), (b"snappy", b"12"), (b"identity", b"3"), (None, b"3")]
)
def test_the_headers_of_such_a_refusal_name_what_is_taken(
    servers: Servers, encoding: bytes | None, status: bytes
) -> None:
    pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", f"{SERVICE}/ModelInfer".encode())]
    pairs += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    pairs += [] if encoding is None else [(b"grpc-encoding", encoding)]
    sent = frame(Kind.HEADERS, END_HEADERS, 1, b"".join(literal(*pair) for pair in pairs))
    sent += frame(Kind.DATA, END_STREAM, 1, b"\1\0\0\0\3abc")
    answer = b""
    with socket.create_connection(("127.0.0.1", servers("identity").grpc_port), timeout=10) as connection:
        connection.sendall(PREFACE + frame(Kind.SETTINGS, 0, 0) + sent)
        while b"grpc-status" not in answer:
            answer += connection.recv(65536)
    assert literal(b"grpc-accept-encoding", b"identity,gzip") in answer
    assert literal(b"grpc-status", status) in answer


def test_small_messages_may_be_compressed_too(servers: Servers) -> None:
    server = servers("identity")
    assert compressed(server, "ModelReady", grpc.Compression.Gzip).ready
    assert compressed(server, "ModelInfer", grpc.Compression.Gzip).model_name == "fraud"
    with pytest.raises(grpc.RpcError) as caught:
        compressed(server, "ModelReady", grpc.Compression.Gzip, name="a" * 100_000)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def compressed(server: Server, method: str, how: Any, name: str = "fraud") -> Any:
    if method == "ModelInfer":
        padding = {"id": "a" * 200}  # so that it pays to compress it
        return infer(server, GOOD, how={"compression": how}, **padding)
    asked = oip.ModelReadyRequest(name=name, version="" if name != "fraud" else "3")
    asked.MergeFromString(b"\x7a\xff\x01" + bytes(255))  # a field that nobody knows, for the same reason
    return ask(server, method, asked, oip.ModelReadyResponse, compression=how)


def test_large_tensors_pass_both_ways_through_small_windows(servers: Servers) -> None:
    rows = np.random.default_rng(3).random((500_000, 3), np.float32)
    with grpc.insecure_channel(
        f"127.0.0.1:{servers('identity').grpc_port}",
        options=[("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)],
    ) as made:
        call = made.unary_unary(f"{SERVICE}/ModelInfer", None, oip.ModelInferResponse.FromString)
        message = request(given("x", "FP32", [500_000, 3]), raw=[rows.tobytes()]).SerializeToString()
        answers = [call.future(message, timeout=30) for _ in range(4)]
        assert all(answer.result().raw_output_contents[0] == rows.tobytes() for answer in answers)


@pytest.mark.timed
def test_a_request_past_its_deadline_gets_the_status_for_it(start: Start) -> None:
    server = start("slow", requestTimeoutMilliseconds=300).wait_until_ready()
    slow = [given("x", "FP32", [1], [1.0]), given("n", "INT64", [1], [10_000_000])]
    began = time.monotonic()
    code, words = refused(server, *slow)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no answer within 0.3 s" in words
    assert refused(server, *slow, how={"timeout": 0.1})[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    parameters = {"timeout": oip.InferParameter(int64_param=50_000)}
    assert refused(server, *slow, parameters=parameters)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    hold("three deadlines of gRPC, 0.45 s in all", time.monotonic() - began, 3)
    quick = [given("x", "FP32", [1], [4.0]), given("n", "INT64", [1], [1])]
    assert list(infer(server, *quick).outputs[0].contents.fp32_contents) == [2.0]


def test_requests_are_counted_with_those_of_rest(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    for _ in range(20):
        infer(server, GOOD)
    refused(server, given("x", "FP64", [1, 3], [1, 2, 3]))
    assert server.infer(tensor("x", "FP32", [1, 3], [1, 2, 3])).status_code == 200
    labels = (("model", "fraud"), ("model_version", "3"))
    samples = server.metrics()
    assert samples["slipway_inference_requests_total", (("code", "200"), *labels)] == 21
    assert samples["slipway_inference_requests_total", (("code", "400"), *labels)] == 1
    assert samples["slipway_inference_rejected_total", (*labels, ("reason", "schema"))] == 1
    assert samples["slipway_inference_rows_total", labels] == 21
    assert samples["slipway_inference_in_flight", labels] == 0


def test_health_is_watched_until_the_drain_and_no_request_is_lost(start: Start) -> None:
    server = start("classifier", drainSeconds=3).wait_until_ready()
    statuses, answered, failures = [], 0, []
    rows = given("X", "FP32", [1, 30], [0.5] * 30)
    message = request(rows).SerializeToString()
    stop = threading.Event()

    def watch() -> None:
        with channel(server) as made:
            stream = made.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            for each in map(health_pb2.HealthCheckResponse.FromString, stream):
                statuses.append(each.status)
                if each.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    return

    def load() -> None:
        nonlocal answered
        with channel(server) as made:
            call = made.unary_unary(f"{SERVICE}/ModelInfer")
            while not stop.is_set():
                try:
                    call(message, timeout=5)
                    answered += 1
                except grpc.RpcError as error:
                    failures.append(error)
                    return

    threads = [threading.Thread(target=each) for each in (watch, load, load)]
    for thread in threads:
        thread.start()
    with channel(server) as made:
        check = made.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        serving = health_pb2.HealthCheckResponse.SERVING
        assert check(health_pb2.HealthCheckRequest()).status == serving
        assert check(health_pb2.HealthCheckRequest(service=SERVICE[1:])).status == serving
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    time.sleep(0.3)
    server.terminate()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert statuses == [serving, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert answered > 50
    assert failures == []
    assert server.wait() == 0


def test_tls_and_client_certificates_are_those_of_rest(
    model_dirs: Callable[[str], Path], tmp_path: Path
) -> None:
    authority = trustme.CA()
    server_cert, client_cert = authority.issue_cert("localhost"), authority.issue_cert("client")
    files = {name: tmp_path / name for name in ("cert", "key", "ca")}
    server_cert.cert_chain_pems[0].write_to_path(files["cert"])
    server_cert.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    environment = {
        "SLIPWAY_TLS_CERT_FILE": str(files["cert"]),
        "SLIPWAY_TLS_KEY_FILE": str(files["key"]),
        "SLIPWAY_TLS_CLIENT_CA_FILE": str(files["ca"]),
    }
    with Server(model_dirs("identity"), environment=environment) as server:
        credentials = grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(),
            client_cert.private_key_pem.bytes(),
            client_cert.cert_chain_pems[0].bytes(),
        )
        message = request(GOOD).SerializeToString()
        with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as made:
            call = made.unary_unary(f"{SERVICE}/ModelInfer", None, oip.ModelInferResponse.FromString)
            answer = call(message, timeout=20, wait_for_ready=True)
            assert list(answer.outputs[0].contents.fp32_contents) == [1, 2, 3]
        without = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(f"localhost:{server.grpc_port}", without) as made:
            with pytest.raises(grpc.RpcError) as caught:
                made.unary_unary(f"{SERVICE}/ModelInfer")(message, timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_many_clients_get_each_their_own_answer(servers: Servers) -> None:
    server = servers("identity")
    with channel(server) as made:
        call = made.unary_unary(f"{SERVICE}/ModelInfer", None, oip.ModelInferResponse.FromString)
        asked = [
            (
                number,
                call.future(
                    request(given("x", "FP32", [1, 3], [number] * 3), id=str(number)).SerializeToString()
                ),
            )
            for number in range(1000)
        ]
        for number, answer in asked:
            message = answer.result(20)
            assert message.id == str(number)
            assert list(message.outputs[0].contents.fp32_contents) == [number] * 3


def test_a_client_that_resets_its_requests_without_end_is_sent_away(servers: Servers) -> None:
    server = servers("identity")
    with socket.create_connection(("127.0.0.1", server.grpc_port), 5) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        ping = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + bytes(8)
        try:
            for _ in range(20):
                client.sendall(ping * 500)
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
    assert infer(server, GOOD).outputs[0].shape == [1, 3]
