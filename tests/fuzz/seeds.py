"""Cases from which a fuzzer starts: one of each kind of request, whole and well-formed or nearly so."""

from __future__ import annotations

import json
import struct
from typing import Any

from slipway_server.rpc import health_pb2, reflection_pb2
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.wire.frames import END_HEADERS, END_STREAM, Kind, frame, settings, window_update
from tests.fuzz.targets import GZIP, METHODS, ROUTES, TWICE, call_headers

_X = {"name": "x", "datatype": "FP32", "shape": [1, 3]}
_VALUES = {"BOOL": True, "BYTES": "é"}
_DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)
_RAW = {"BOOL": b"\1", "UINT8": b"\1", "INT8": b"\1", "BYTES": b"\2\0\0\0ab"}
_RAW |= dict.fromkeys(("UINT16", "INT16", "FP16"), b"\0\x3c")
_RAW |= dict.fromkeys(("UINT32", "INT32", "FP32"), b"\0\0\x80\x3f")
_RAW |= dict.fromkeys(("UINT64", "INT64", "FP64"), b"\0" * 8)


def seeds() -> dict[str, list[bytes]]:
    """Cases by target."""
    return {
        "http": _http(),
        "body": _body(),
        "http2": _http2(),
        "message": _message(),
        "frames": _frames(),
        "settings": _settings(),
        "doors": _doors(),
    }


def _json(**members: Any) -> bytes:
    return json.dumps(members).encode()


def _infer(**members: Any) -> bytes:
    return _json(inputs=[_X | {"data": [1, 2.5, -3e4]}], **members)


def _every(binary: bool, rows: int = 1) -> tuple[bytes, bytes]:
    """A document for the model of all datatypes, with a row or none, and its binary part."""
    inputs: list[dict[str, Any]] = []
    for name in _DATATYPES:
        made: dict[str, Any] = {"name": f"in_{name}", "datatype": name, "shape": [rows, 1]}
        if binary:
            made["parameters"] = {"binary_data_size": len(_RAW[name]) * rows}
        else:
            made["data"] = [_VALUES.get(name, 1)] * rows
        inputs.append(made)
    text = _json(inputs=inputs, parameters={"binary_data_output": binary})
    return text, b"".join(_RAW[name] * rows for name in _DATATYPES) if binary else b""


def _request(line: bytes, *fields: bytes, content: bytes = b"") -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"host: a", *fields, b"", content])


def _http() -> list[bytes]:
    infer, text = b"POST /v2/models/fraud/infer", _infer(id="a")
    length = b"content-length: %d" % len(text)
    trace = b"a" * 32 + b"-" + b"b" * 16
    plain = _request(infer, length, content=text)
    chunks = b"5\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\nt: u\r\n\r\n" % (text[:5], len(text) - 5, text[5:])
    cases = [
        plain,
        plain * 3,
        _request(b"GET /v2/models/fraud/versions/3"),
        _request(b"HEAD /v2/health/ready", b"connection: close"),
        _request(b"GET /v2/models/fraud/openapi.json", b"x-request-id: 7"),
        _request(b"GET /v1/models/fraud") + _request(b"GET /version"),
        _request(b"GET http://a/v2?b=c%20d"),
        b"GET /v2/health/live HTTP/1.0\r\n\r\n",
        _request(infer, b"transfer-encoding: chunked", content=chunks),
        _request(infer, length, b"expect: 100-continue", content=text),
        _request(infer, length, b"upgrade: h2c", b"connection: upgrade", content=text),
        _request(infer, length, b"timeout: 1.5", b"traceparent: 00-" + trace + b"-01", content=text),
        _request(infer, length, b"content-length: 3", content=text),
        _request(infer, b"content-length: 9999", content=text),
    ]
    return [bytes([choice]) + case for case in cases for choice in (0, 2, 5)]


def _body() -> list[bytes]:
    def case(route: int, content: bytes, split: int = 0, every: int = 0, how: int = 0) -> bytes:
        return bytes([how | route << 1 | every]) + split.to_bytes(2, "big") + content

    assert len(ROUTES) == 5
    all_text, _ = _every(False)
    head, blobs = _every(True)
    own = _json(inputs=[_X | {"parameters": {"binary_data_size": 12}}], outputs=[{"name": "y"}])
    empty, hollow = _X | {"shape": [0, 3]}, {"parameters": {"binary_data_size": 0}}
    bare = _json(inputs=[empty | hollow], parameters={"binary_data_output": True})
    no_rows, _ = _every(True, 0)
    rows = [[1, 2, 3], [4, 5, 6]]
    return [
        case(0, _infer()),
        case(0, _infer(id="a", parameters={"timeout": 10**6, "binary_data_output": True}), how=TWICE),
        case(0, _json(inputs=[_X | {"shape": [2, 3], "data": rows}], outputs=[]), how=GZIP),
        case(0, all_text, every=1),
        case(0, _json(inputs=[empty | {"data": []}]), how=TWICE),
        case(0, _every(False, 0)[0], every=1),
        case(0, _json(inputs=[_X | {"name": "in_FP32", "shape": [2, 0], "data": [[], []]}]), every=1),
        case(1, bare, len(bare), how=TWICE),
        case(1, no_rows, len(no_rows), every=1),
        case(2, _json(instances=[])),
        case(2, _json(inputs={"x": []})),
        case(3, _json(dataframe_split={"columns": ["a", "b", "c"], "data": []})),
        case(1, own + struct.pack("<3f", 1, float("nan"), 3), len(own), how=TWICE),
        case(1, head + blobs, len(head), every=1),
        case(2, _json(instances=rows)),
        case(2, _json(inputs={"x": rows})),
        case(2, _json(instances=[{f"in_{name}": [_VALUES.get(name, 1)] for name in _DATATYPES}]), every=1),
        case(3, _json(inputs=rows, params={"a": 1})),
        case(3, _json(dataframe_split={"columns": ["a", "b", "c"], "index": [0, 1], "data": rows})),
        case(4, b'a,"b ""c""",d\r\n1,,-2.5e3\r\n\r\nNaN,0,1\r\n'),
        case(4, b"a,b,c\n"),
        case(3, _json(dataframe_records=[{f"in_{n}": [_VALUES.get(n, 1)] for n in _DATATYPES}]), every=1),
    ]


def _infer_message() -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3])
    asked = oip.ModelInferRequest(model_name="fraud", model_version="3", id="a", inputs=[tensor])
    asked.parameters["timeout"].int64_param = 10**6
    asked.outputs.add(name="y")
    return asked


def _every_message(rows: int = 1) -> oip.ModelInferRequest:
    blobs = [_RAW[name] * rows for name in _DATATYPES]
    asked = oip.ModelInferRequest(model_name="fraud", raw_input_contents=blobs)
    for name in _DATATYPES:
        asked.inputs.add(name=f"in_{name}", datatype=name, shape=[rows, 1])
    return asked


def _message() -> list[bytes]:
    raw = oip.ModelInferRequest(model_name="fraud", raw_input_contents=[b"\0" * 12])
    raw.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    empty = oip.ModelInferRequest(model_name="fraud")
    empty.inputs.add(name="x", datatype="FP32", shape=[0, 3])
    asked = reflection_pb2.ServerReflectionRequest
    cases = [
        (0, _infer_message()),
        (0, raw),
        (0, empty),
        (1, _every_message()),
        (1, _every_message(0)),
        (2, oip.ModelMetadataRequest(name="fraud", version="3")),
        (4, oip.ModelReadyRequest(name="fraud")),
        (6, health_pb2.HealthCheckRequest(service="grpc.health.v1.Health")),
        (8, asked(list_services="*")),
        (8, asked(file_containing_symbol="inference.GRPCInferenceService")),
        (8, asked(file_by_filename="health.proto")),
    ]
    return [bytes([choice]) + made.SerializeToString() for choice, made in cases]


def _frames() -> list[bytes]:
    def one(kind: int, flags: int, stream: int, payload: bytes = b"", call: int = 0) -> bytes:
        return bytes([kind, flags, stream, call or len(payload)]) + payload.ljust(call % 32, b"\0")

    call = one(Kind.HEADERS, END_HEADERS, 1, call=0x80) + one(Kind.DATA, END_STREAM, 1, b"\0" * 5)
    again = one(Kind.HEADERS, END_HEADERS, 3, call=0x80) + one(Kind.RST_STREAM, 0, 3, b"\0\0\0\x08")
    quiet = b"".join(
        [
            one(Kind.PING, 0, 0, b"12345678"),
            one(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
            one(Kind.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
            one(Kind.DATA, 0, 1),
            one(Kind.SETTINGS, 0, 0, b"\0\4\0\0\0\1" * 3),
            one(Kind.PRIORITY, 0, 1, b"\0\0\0\3\7"),
            one(10, 0, 0, b"unknown"),
        ]
    )
    begun = one(Kind.HEADERS, 0, 5, call=0x81) + one(Kind.CONTINUATION, 0, 5) * 3
    return [
        bytes([how]) + case for how in (0, 2, 4) for case in (call, again + call, quiet, call + quiet, begun)
    ]


def _settings() -> list[bytes]:
    def one(name: int, value: int, more: int = 0) -> bytes:
        return bytes([name]) + value.to_bytes(4, "big") + bytes([more])

    windows = one(4, 0) + one(8, 1) + one(9, 1, 1) + one(4, 70_000, 3) + one(4, 2**31 - 1) + one(8, 2**31 - 1)
    others = one(1, 0) + one(2, 1) + one(3, 0) + one(5, 16_384) + one(6, 1) + one(4, 1, 39) + one(5, 2**24)
    return [bytes([how]) + case for how in (0, 2, 4) for case in (windows, others, others + windows)]


def _doors() -> list[bytes]:
    asked = _request(b"POST /v2/models/fraud/infer", b"content-length: %d" % len(_infer()), content=_infer())
    call = _http2()[0][1:]

    def mixed(how: int) -> bytes:
        steps, both = [], {0: asked + asked, 1: call}
        while any(both.values()):
            for which, rest in list(both.items()):
                size = min(how, len(rest))
                steps.append(bytes([size << 1 | which]) + rest[:size])
                both[which] = rest[size:]
        return b"\0" + b"".join(steps)

    return [mixed(size) for size in (20, 60, 127)]


def _http2() -> list[bytes]:
    text = _infer_message().SerializeToString()
    content = b"\0" + len(text).to_bytes(4, "big") + text
    headers = call_headers(METHODS[0])

    def call(stream: int) -> bytes:
        return frame(Kind.HEADERS, END_HEADERS, stream, headers) + frame(
            Kind.DATA, END_STREAM, stream, content
        )

    watch = call_headers(b"/grpc.health.v1.Health/Watch")
    cases = [
        call(1) + call(3),
        frame(Kind.HEADERS, 0, 1, headers[:20]) + frame(Kind.CONTINUATION, END_HEADERS, 1, headers[20:]),
        frame(Kind.HEADERS, END_HEADERS, 1, watch) + frame(Kind.DATA, END_STREAM, 1, b"\0" * 5),
        settings({4: 5, 1: 0, 5: 20000}) + call(1) + window_update(1, 900) + window_update(0, 900),
        frame(Kind.PING, 0, 0, b"12345678") + call(1) + frame(Kind.RST_STREAM, 0, 1, b"\0\0\0\x08"),
        frame(Kind.PRIORITY, 0, 1, b"\0\0\0\3\7") + frame(Kind.GOAWAY, 0, 0, b"\0" * 8),
        call(1)[: -len(content) - 9] + frame(Kind.DATA, 8, 1, b"\2" + content + b"\0\0"),
    ]
    return [bytes([choice]) + case for case in cases for choice in (0, 2, 5)]
