from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.running import Server, tensor

Servers = Callable[[str], Server]
GOOD = tensor("x", "FP32", [1, 3], [1, 2, 3])


def x(**members: Any) -> dict[str, Any]:
    """The good tensor with some members changed, or left out where given as ``...``."""
    return {key: value for key, value in (GOOD | members).items() if value is not ...}


REFUSED: list[tuple[Any, str]] = [
    # (the document, a part of the message)
    ([], "must be a JSON object with 'inputs', not a list of 0"),
    ("inputs", "must be a JSON object"),
    ({}, "'inputs' is missing; send a list of the tensors 'x'"),
    ({"inputs": {}}, "'inputs' is an object"),
    ({"inputs": []}, "missing input 'x'; the model needs 'x'"),
    ({"inputs": [7]}, "inputs[0] must be an object with a 'name'"),
    ({"inputs": [x(name=...)]}, "inputs[0] must be an object with a 'name'"),
    ({"inputs": [x(name="z")]}, "the model has no input 'z'; its inputs are 'x'"),
    ({"inputs": [GOOD, GOOD]}, "input 'x' is given twice"),
    ({"inputs": [x(datatype=...)]}, "'datatype' is missing; the model takes FP32"),
    ({"inputs": [x(datatype="FP64")]}, "'datatype' is 'FP64'; the model takes FP32"),
    ({"inputs": [x(datatype=["FP32"])]}, "'datatype' is a list of 1"),
    ({"inputs": [x(shape=...)]}, "'shape' is missing"),
    ({"inputs": [x(shape=3)]}, "'shape' is 3; send a list of whole numbers"),
    ({"inputs": [x(shape=[1, 3.0])]}, "'shape' must hold whole numbers from 0, not 3.0"),
    ({"inputs": [x(shape=[True, 3])]}, "'shape' must hold whole numbers from 0, not true"),
    ({"inputs": [x(shape=[-1, 3])]}, "'shape' must hold whole numbers from 0, not -1"),
    ({"inputs": [x(shape=[1, 0], data=[])]}, "has shape [1, 0], the model takes [-1, 3]"),
    ({"inputs": [x(shape=[0, 3])]}, "'data' has 3 values; shape [0, 3] needs 0"),
    (
        {"inputs": [x(shape=[0, 3], data=[[]])]},
        "in dimension 0 there is a list of 1 where a list of 0 should",
    ),
    ({"inputs": [x(shape=[3])]}, "has shape [3], the model takes [-1, 3] (-1 stands for any size)"),
    ({"inputs": [x(shape=[3, 1])]}, "has shape [3, 1], the model takes [-1, 3]"),
    ({"inputs": [x(shape=[1] * 5000)]}, "the model takes [-1, 3]"),
    ({"inputs": [x(shape=[2**61, 3])]}, "'data' has 3 values; shape [2305843009213693952, 3] needs"),
    ({"inputs": [x(data=...)]}, "'data' is missing (or 'binary_data_size' in its parameters)"),
    ({"inputs": [x(data=None)]}, "'data' is missing"),
    ({"inputs": [x(data=7)]}, "'data' must be a list, not 7"),
    ({"inputs": [x(data=[1, 2])]}, "'data' has 2 values; shape [1, 3] needs 3"),
    ({"inputs": [x(data=[])]}, "'data' has 0 values; shape [1, 3] needs 3"),
    ({"inputs": [x(data=[[1, 2], [3]])]}, "in dimension 0 there is a list of 2 where a list of 1 should be"),
    ({"inputs": [x(data=[[1, 2]])]}, "in dimension 1 there is a list of 2 where a list of 3 should be"),
    ({"inputs": [x(data=[[[1], [2], [3]]])]}, "value 0 is a list of 1, which is a list; FP32 takes numbers"),
    ({"inputs": [x(data=[1, "2", 3])]}, "value 1 is '2', which is a string; FP32 takes numbers"),
    ({"inputs": [x(data=[1, 2, True])]}, "value 2 is true, which is a boolean"),
    ({"inputs": [x(data=[1, 2, [None]])]}, "value 2 is a list of 1, which is a list; FP32 takes numbers"),
    ({"inputs": [x(data=[1, 2, {}])]}, "value 2 is an object"),
    ({"inputs": [x(data=[1, 1e39, 3])]}, "value 1 is 1e+39; FP32 goes up to 3.402823466"),
    ({"inputs": [x(parameters=[])]}, "'parameters' must be an object, not a list of 0"),
    ({"inputs": [x(parameters={"binary_data_size": 12})]}, "has both 'data' and 'binary_data_size'"),
    ({"inputs": [x(data=..., parameters={"binary_data_size": 12})]}, "but 0 bytes are left after the JSON"),
    ({"inputs": [x(data=..., parameters={"binary_data_size": "12"})]}, "must be a count of bytes, not '12'"),
    ({"inputs": [x(data=..., parameters={"binary_data_size": -1})]}, "must be a count of bytes, not -1"),
    ({"inputs": [GOOD], "id": 7}, "'id' must be a string, not 7"),
    ({"inputs": [GOOD], "parameters": 7}, "'parameters' must be an object, not 7"),
    ({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, "'binary_data_output' must be a boolean"),
    ({"inputs": [GOOD], "outputs": {}}, "'outputs' must be a list, not an object"),
    ({"inputs": [GOOD], "outputs": ["y"]}, "outputs[0] must be an object with a 'name'"),
    ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "the model has no output 'z'; its outputs are 'y'"),
    ({"inputs": [GOOD], "outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is asked for twice"),
    (
        {"inputs": [GOOD], "outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
        "'binary_data' must be a boolean, not 'yes'",
    ),
]


@pytest.mark.parametrize(("document", "message"), REFUSED, ids=[part for _, part in REFUSED])
def test_a_request_that_does_not_fit_is_refused_with_what_to_mend(
    servers: Servers, document: Any, message: str
) -> None:
    server = servers("identity")
    response = server.client.post(server.infer_path, json=document)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]
    assert len(response.json()["error"]) < 600


TYPED: list[tuple[str, Any, str]] = [
    ("BOOL", 1, "BOOL takes true or false"),
    ("UINT8", 256, "value 0 is 256; UINT8 goes from 0 to 255"),
    ("UINT8", -1, "UINT8 goes from 0 to 255"),
    ("INT8", -129, "INT8 goes from -128 to 127"),
    ("INT32", 1.0, "INT32 takes whole numbers without a point or exponent"),
    ("INT64", 2**63, "INT64 goes from -9223372036854775808 to"),
    ("UINT64", 2**64, "UINT64 takes whole numbers"),
    ("INT16", True, "value 0 is true, which is a boolean"),
    ("FP16", 65520.5, "FP16 goes up to 65504"),
    ("BYTES", 1, "BYTES takes strings"),
    ("BYTES", None, "BYTES takes strings"),
]


@pytest.mark.parametrize(("datatype", "value", "message"), TYPED)
def test_a_value_that_its_datatype_cannot_hold_is_named(
    servers: Servers, datatype: str, value: Any, message: str
) -> None:
    response = servers("every_datatype").infer(tensor(f"in_{datatype}", datatype, [1, 1], [value]))
    assert response.status_code == 400
    assert message in response.json()["error"]


NOT_JSON: list[tuple[bytes, str]] = [
    (b"", "the body is not JSON"),
    (b"{", "the body is not JSON"),
    (b"\xff\xfe", "not valid UTF-8"),
    (b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[NaN,1,2]}]}', "JSON has no NaN"),
    (b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[-Infinity,1,2]}]}', "JSON has no NaN"),
    (
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1e999,1,2]}]}',
        "send such a tensor as",
    ),
    (b"[" * 5000, "the body is not JSON"),
    (b'{"id":"\\ud800"}', "the body is not JSON"),
]


@pytest.mark.parametrize(("body", "message"), NOT_JSON, ids=[part for _, part in NOT_JSON])
def test_a_body_that_is_not_json_is_refused(servers: Servers, body: bytes, message: str) -> None:
    server = servers("identity")
    response = server.client.post(
        server.infer_path, content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_binary_tensors_must_fill_the_body_exactly(servers: Servers) -> None:
    server = servers("identity")
    request = {"inputs": [tensor("x", "FP32", [1, 3], binary_data_size=12)]}
    for blob, message in (
        (b"\0" * 11, "'binary_data_size' is 12, but 11 bytes are left"),
        (b"\0" * 13, "1 bytes after the JSON belong to no input"),
    ):
        response = server.infer_binary(request, blob)
        assert response.status_code == 400
        assert message in response.json()["error"]
    request["inputs"][0]["parameters"]["binary_data_size"] = 8
    response = server.infer_binary(request, b"\0" * 8)
    assert "'binary_data_size' is 8; FP32 of shape [1, 3] has 12 bytes" in response.json()["error"]


@pytest.mark.parametrize("length", ["", "x", "-1", "+5", "1e3", "99999999999999", "9999"])
def test_a_wrong_length_of_the_json_part_is_refused(servers: Servers, length: str) -> None:
    server = servers("identity")
    headers = {"inference-header-content-length": length, "content-type": "application/octet-stream"}
    response = server.client.post(server.infer_path, content=b'{"inputs":[]}', headers=headers)
    assert response.status_code in (400, 413)
    assert "Inference-Header-Content-Length" in response.text or "larger" in response.text


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"\x02\0\0\0ab\x01\0\0", "string 1 goes past the end"),
        (b"\xff\xff\xff\xffab", "string 0 goes past the end"),
        (b"\x02\0\0\0\xff\xfe", "string 0 is not UTF-8"),
        (b"\0\0\0\0\0\0\0\0", "has 2 strings; its shape needs 1"),
        (b"", "has 0 strings; its shape needs 1"),
    ],
)
def test_broken_binary_strings_are_refused(servers: Servers, blob: bytes, message: str) -> None:
    given = tensor("in_BYTES", "BYTES", [1, 1], binary_data_size=len(blob))
    response = servers("every_datatype").infer_binary({"inputs": [given]}, blob)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_a_binary_boolean_must_be_zero_or_one(servers: Servers) -> None:
    given = tensor("in_BOOL", "BOOL", [1, 2], binary_data_size=2)
    response = servers("every_datatype").infer_binary({"inputs": [given]}, b"\x01\x02")
    assert (response.status_code, "0 or 1" in response.text) == (400, True)


def test_values_that_the_model_itself_refuses_are_the_clients_to_mend(servers: Servers) -> None:
    server = servers("gather")
    response = server.infer(tensor("index", "INT64", [1], [5]), tensor("shapeless", "FP32", [], [0]))
    assert response.status_code == 422
    assert "the model refuses these values" in response.json()["error"]
    assert "/onnxruntime_src" not in response.text


def test_missing_inputs_are_all_named(servers: Servers) -> None:
    response = servers("two_inputs").infer()
    assert response.json()["error"] == "missing input 'a', 'w'; the model needs 'a', 'w'"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "there is nothing at '/nothing'"),
        ("GET", "/v2/", 404, "there is nothing at '/v2/'"),
        ("GET", "/v2/models/spam", 404, "there is no model 'spam' here; this server has 'fraud'"),
        ("POST", "/v2/models/spam/infer", 404, "there is no model 'spam'"),
        ("GET", "/v2/models/fraud/versions/4", 404, "model 'fraud' has version '3' here, not '4'"),
        ("POST", "/v2/models/fraud/versions/4/infer", 404, "has version '3' here"),
        ("GET", "/v2/models/spam/ready", 404, "there is no model 'spam'"),
        ("GET", "/v2/models/fraud/infer", 405, "takes POST, not 'GET'"),
        ("PUT", "/v2/models/fraud", 405, "not 'PUT'"),
        ("POST", "/v2/health/live", 405, "not 'POST'"),
        ("GET", "/metrics", 404, "there is nothing at '/metrics'"),
        ("POST", "/drain", 404, "there is nothing at '/drain'"),
    ],
)
def test_a_wrong_path_or_method_says_what_is_there(
    servers: Servers, method: str, path: str, status: int, message: str
) -> None:
    response = servers("identity").client.request(method, path)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert (status == 405) == ("allow" in response.headers)


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"content-type": "text/plain"}, 415, "send application/json"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "send application/json"),
        ({"content-type": "application/json", "content-encoding": "br"}, 415, "without Content-Encoding"),
        ({"content-type": "application/octet-stream"}, 400, "needs the header Inference-Header"),
    ],
)
def test_a_body_of_another_kind_is_refused(
    servers: Servers, headers: dict[str, str], status: int, message: str
) -> None:
    server = servers("identity")
    response = server.client.post(server.infer_path, content=b"{}", headers=headers)
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize("content_type", [None, "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_is_taken_under_each_of_its_names(servers: Servers, content_type: str | None) -> None:
    server = servers("identity")
    headers = {"content-type": content_type} if content_type else {}
    body = json.dumps({"inputs": [GOOD]}).encode()
    assert server.client.post(server.infer_path, content=body, headers=headers).status_code == 200


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=5)
    | st.sampled_from(["a", "w", "product", "FP32", "BYTES", "binary_data_size"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)


@st.composite
def nearly_good(draw: st.DrawFn) -> dict[str, Any]:
    """A good request for ``two_inputs``, maybe empty, with up to three members replaced, removed or added."""
    n, m = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    document: dict[str, Any] = {
        "id": "1",
        "parameters": {"binary_data_output": False},
        "inputs": [
            tensor("a", "FP32", [n, 2], [1, 2, 3, 4][: 2 * n], x=1),
            tensor("w", "FP32", [2, m], [[1, 3][:m], [2, 4][:m]], binary_data_size=None),
        ],
        "outputs": [{"name": "product", "parameters": {"binary_data": True}}],
    }
    for _ in range(draw(st.integers(0, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and draw(st.booleans()):
                place = inner
            elif draw(st.booleans()):
                place[key] = draw(anything)
                break
            else:
                del place[key]
                break
    return document


def check_never_fails(server: Server, response: httpx.Response) -> None:
    assert response.status_code in (200, 400, 404, 405, 411, 413, 415, 422), response.text
    if response.status_code != 200:
        error = response.json()["error"]
        assert isinstance(error, str)
        assert 5 < len(error) < 2000
    assert server.process.poll() is None


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(document=nearly_good() | anything)
def test_no_document_makes_the_server_fail(servers: Servers, document: Any) -> None:
    server = servers("two_inputs")
    body = json.dumps(document).encode()
    response = server.client.post(
        server.infer_path, content=body, headers={"content-type": "application/json"}
    )
    check_never_fails(server, response)


@quick
@given(
    body=st.binary(max_size=200),
    length=st.none()
    | st.integers(-5, 250).map(str)
    | st.text("0123456789abc-+. ", max_size=8).map(str.strip),
    media=st.sampled_from(["application/json", "application/octet-stream", "", ";", "text/html", "a/b; c=d"]),
    path=st.sampled_from(["/v2/models/fraud/infer", "/v2/models/fraud/versions/3/infer"])
    | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=20).map(
        lambda tail: "/v2/models/" + tail
    ),
    host=st.sampled_from(["a", "[::", "x:y:z", "[zz]:1", ""]),
)
def test_no_bytes_or_headers_make_the_server_fail(
    servers: Servers, body: bytes, length: str | None, media: str, path: str, host: str
) -> None:
    server = servers("two_inputs")
    headers = {"content-type": media, "host": host}
    if length is not None:
        headers["inference-header-content-length"] = length
    check_never_fails(server, server.client.post(path, content=body, headers=headers))


@quick
@given(data=st.data())
def test_no_binary_tensor_makes_the_server_fail(servers: Servers, data: st.DataObject) -> None:
    server = servers("every_datatype")
    name = data.draw(st.sampled_from(["BOOL", "INT64", "FP16", "BYTES"]))
    blob = data.draw(st.binary(max_size=40))
    shape = data.draw(st.lists(st.integers(-1, 4), min_size=1, max_size=3))
    size = data.draw(st.integers(-1, 44) | st.just(len(blob)))
    given_tensor = tensor(f"in_{name}", name, shape, binary_data_size=size)
    check_never_fails(server, server.infer_binary({"inputs": [given_tensor]}, blob))
