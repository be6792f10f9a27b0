"""A look at a large ``ModelInferRequest`` before protobuf unpacks it.

Two bytes of a message can become a hundred in memory. So the parts are counted first, where they lie, and the
counting stops at the first part too many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from slipway_server.errors import RequestError, schema_error, show
from slipway_server.protocol.tensors import TensorSpec
from slipway_server.rpc.open_inference_pb2 import InferTensorContents, ModelInferRequest

#: A smaller message cannot become large.
LARGE_MESSAGE_BYTES = 256 * 1024
#: Parts of a message, or of one of its inputs, beside one for each tensor: parameters, mostly.
_MOST_PARTS = 4096
#: The dimensions of a shape take ten bytes each, at most.
_MOST_SHAPE_BYTES = 320
_INPUT = ModelInferRequest.INPUTS_FIELD_NUMBER
_OUTPUT = ModelInferRequest.OUTPUTS_FIELD_NUMBER
_RAW = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_NAME, _SHAPE, _CONTENTS = (
    ModelInferRequest.InferInputTensor.NAME_FIELD_NUMBER,
    ModelInferRequest.InferInputTensor.SHAPE_FIELD_NUMBER,
    ModelInferRequest.InferInputTensor.CONTENTS_FIELD_NUMBER,
)
_STRINGS = InferTensorContents.BYTES_CONTENTS_FIELD_NUMBER
_VARINT, _BYTES = 0, 2
#: Bytes of a field by its wire type, where all fields of the type have as many.
_FIXED = {1: 8, 5: 4}


class _BrokenError(Exception):
    """No message of protobuf; its parser says so as well."""


def check_outline(body: bytes, specs: Mapping[str, TensorSpec], outputs: int) -> None:
    """Raises :class:`RequestError` (400) for more parts than a request of this model can have."""
    try:
        _check(body, {_INPUT: len(specs), _RAW: len(specs), _OUTPUT: outputs})
    except _BrokenError:
        return  # the parser has the words for it


def _check(body: bytes, most: dict[int, int]) -> None:
    names = {_INPUT: "'inputs'", _RAW: "'raw_input_contents'", _OUTPUT: "'outputs'"}
    found = dict.fromkeys(most, 0)
    parts = 0
    for number, wire, start, stop in _fields(body, 0, len(body)):
        parts += 1
        if parts > _MOST_PARTS + sum(most.values()):
            raise _too_many("the message has", parts - 1, "parts")
        if number not in found or wire != _BYTES:
            continue
        found[number] += 1
        if found[number] > most[number]:
            model = {_OUTPUT: "outputs"}.get(number, "inputs")
            raise schema_error(
                f"{names[number]} has more than {most[number]} items; the model has {most[number]} {model}"
            )
        if number == _INPUT:
            _check_input(body, start, stop)


def _check_input(body: bytes, start: int, stop: int) -> None:
    name = b""
    shape: list[int] = []
    contents: list[tuple[int, int]] = []
    packed = 0
    for count, (number, wire, begin, end) in enumerate(_fields(body, start, stop)):
        if count >= _MOST_PARTS:
            raise _too_many("an input has", _MOST_PARTS, "parts")
        if number == _NAME and wire == _BYTES:
            name = body[begin:end]
        elif number == _SHAPE:
            packed += end - begin
            if packed > _MOST_SHAPE_BYTES:
                raise schema_error(f"{_where(name)}: 'shape' has too many dimensions")
            shape += list(_varints(body, begin, end))
        elif number == _CONTENTS and wire == _BYTES:
            contents.append((begin, end))
    needed, strings = prod(shape), 0
    for begin, end in contents:
        for number, wire, _, _ in _fields(body, begin, end):
            if number != _STRINGS or wire != _BYTES:
                break
            strings += 1
            if strings > needed:
                raise schema_error(
                    f"{_where(name)}: 'contents' has more than {needed} strings; "
                    f"shape {shape} needs {needed}"[:500]
                )


def _where(name: bytes) -> str:
    return f"input {show(name.decode('utf-8', 'replace'))}"


def _too_many(what: str, count: int, parts: str) -> RequestError:
    return schema_error(f"{what} more than {count} {parts}; send the tensors in 'raw_input_contents'")


def _fields(body: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and place of each field; raises :class:`_BrokenError`."""
    while position < stop:
        tag, position = _varint(body, position, stop)
        number, wire = tag >> 3, tag & 7
        start = position
        if wire == _BYTES:
            size, start = _varint(body, position, stop)
            position = start + size
        elif wire == _VARINT:
            _, position = _varint(body, position, stop)
        elif wire in _FIXED:
            position += _FIXED[wire]
        else:
            raise _BrokenError
        if position > stop:
            raise _BrokenError
        yield number, wire, start, position


def _varints(body: bytes, position: int, stop: int) -> Iterator[int]:
    while position < stop:
        value, position = _varint(body, position, stop)
        yield value


def _varint(body: bytes, position: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= stop:
            raise _BrokenError
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _BrokenError
