"""Requests as bytes, in each protocol, and what onnxruntime answers to them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Array = npt.NDArray[Any]

NAME = "model"
INFER_PATH = f"/v2/models/{NAME}/infer"
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_LENGTH = "Inference-Header-Content-Length"


class Protocol(StrEnum):
    """How tensors travel: REST with JSON, REST with binary tensors, gRPC with raw contents."""

    JSON = "json"
    BINARY = "binary"
    GRPC = "grpc"


class WrongAnswerError(Exception):
    """A server's answer is not onnxruntime's."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request, which a load repeats, and the one right answer: the model's only output."""

    protocol: Protocol
    body: bytes
    headers: Mapping[str, str]
    expected: Array

    def check(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Compare an answer by value and shape; raises :class:`WrongAnswerError`."""
        try:
            found = _READERS[self.protocol](body, {name.lower(): value for name, value in headers.items()})
        except (ValueError, KeyError, IndexError, struct.error) as error:
            raise WrongAnswerError(f"cannot be read ({error!r}): {body[:200]!r}") from error
        if found.shape != self.expected.shape or not np.array_equal(found, self.expected):
            raise WrongAnswerError(f"{found.ravel()[:4]}… is not {self.expected.ravel()[:4]}…")


def make_case(models: Path, model: str, protocol: Protocol, rows: int) -> Case:
    """The first ``rows`` rows of a model in ``models``."""
    with np.load(models / f"{model}.npz") as file:
        inputs = {name: file[name][:rows] for name in file}
    inputs = {name: a.astype(object) if a.dtype.kind == "U" else a for name, a in inputs.items()}
    session = ort.InferenceSession(str(models / model / "model.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    return _WRITERS[protocol](inputs, np.asarray(expected))


def _json(inputs: Mapping[str, Array], expected: Array) -> Case:
    tensors = [
        {
            "name": name,
            "datatype": _datatype(array),
            "shape": array.shape,
            # In the fewest digits that give the same float32.
            "data": [value if isinstance(value, str) else float(str(value)) for value in array.ravel()],
        }
        for name, array in inputs.items()
    ]
    body = json.dumps({"inputs": tensors}, separators=(",", ":")).encode()
    return Case(Protocol.JSON, body, {"Content-Type": "application/json"}, expected)


def _binary(inputs: Mapping[str, Array], expected: Array) -> Case:
    tensors = [
        {
            "name": name,
            "datatype": _datatype(array),
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(array.tobytes() for array in inputs.values())
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}
    return Case(Protocol.BINARY, body, headers, expected)


def _grpc(inputs: Mapping[str, Array], expected: Array) -> Case:
    tensors = b"".join(
        _field(
            5,
            _field(1, name.encode())
            + _field(2, _datatype(array).encode())
            + _field(3, b"".join(_varint(size) for size in array.shape)),
        )
        for name, array in inputs.items()
    )
    raw = b"".join(_field(7, array.tobytes()) for array in inputs.values())
    return Case(Protocol.GRPC, _field(1, NAME.encode()) + tensors + raw, {}, expected)


def _read_json(body: bytes, _: Mapping[str, str]) -> Array:
    (output,) = json.loads(body)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _read_binary(body: bytes, headers: Mapping[str, str]) -> Array:
    size = int(headers[_LENGTH.lower()])
    (output,) = json.loads(body[:size])["outputs"]
    return np.frombuffer(body[size:], np.float32).reshape(output["shape"])


def _read_grpc(body: bytes, _: Mapping[str, str]) -> Array:
    """``ModelInferResponse`` of the protocol's proto: outputs are field 5, raw contents field 6."""
    shape: list[int] = []
    data = b""
    for number, value in _fields(body):
        if number == 6:
            data = value
        elif number == 5:
            for inner, part in _fields(value):
                if inner == 3:
                    shape += _varints(part)
                elif inner == 5:
                    data = dict(_fields(part)).get(6, data)  # fp32_contents
    return np.frombuffer(data, np.float32).reshape(shape)


def _datatype(array: Array) -> str:
    return "BYTES" if array.dtype == object else "FP32"


def _varint(value: int) -> bytes:
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message; one that is a number comes as its bytes."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        start = position
        if key & 7 == 2:
            size, start = _read_varint(data, position)
            position = start + size
        elif key & 7 == 0:
            _, position = _read_varint(data, position)
        else:
            position += {1: 8, 5: 4}[key & 7]
        yield key >> 3, data[start:position]


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


def _varints(data: bytes) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _read_varint(data, position)
        values.append(value)
    return values


_WRITERS = {Protocol.JSON: _json, Protocol.BINARY: _binary, Protocol.GRPC: _grpc}
_READERS = {Protocol.JSON: _read_json, Protocol.BINARY: _read_binary, Protocol.GRPC: _read_grpc}
