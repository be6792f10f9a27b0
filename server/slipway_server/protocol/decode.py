"""From the bytes of an infer request to tensors that fit the model, or a message that says what does not.

Follows the REST half of the Open Inference Protocol and its binary tensor data extension. Where the protocol
leaves room: ``null`` stands for an absent optional member, and for NaN among floats, as it does in answers;
unknown members and parameters are ignored; FP16 may come as JSON numbers; a dimension may be 0, and then its
tensor has no data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
import orjson

from slipway_server.errors import listing, schema_error, show
from slipway_server.protocol.header import HEADER_LENGTH
from slipway_server.protocol.numbers import LARGE_JSON_BYTES, parse_numbers
from slipway_server.protocol.tensors import Array, Datatype, InferRequest, OutputChoice, TensorSpec
from slipway_server.protocol.values import JSON_TYPES, check_size, from_base64, from_bytes, from_json

T = TypeVar("T")

_NONE: Mapping[str, str] = {}
_MAX_RANK = 32
_SHARED = "shared memory is not offered; send and take tensors as binary data"
_SEQUENCE = "sequences are not offered: the model keeps nothing from one request to the next"
#: Parameters of other servers that would change an answer, and what to do without them.
OF_REQUESTS = dict.fromkeys(("sequence_id", "sequence_start", "sequence_end"), _SEQUENCE)
OF_INPUTS = {"shared_memory_region": _SHARED}
OF_OUTPUTS = {
    "classification": "classification is not offered; take the output itself, and pick its largest values",
    "shared_memory_region": _SHARED,
}
#: An empty tensor's other free dimensions, multiplied: they cost a client nothing, but maybe the model.
_MAX_BESIDE_EMPTY = 4096


def decode(
    body: bytes,
    header_length: int | None,
    inputs: Mapping[str, TensorSpec],
    outputs: Sequence[str],
    unsupported: Mapping[str, str] = _NONE,
) -> InferRequest:
    """The request in ``body``, checked against the model's inputs and the names of its outputs.

    ``unsupported`` are outputs that cannot be asked for, with the types that they have.

    ``header_length`` is the size of the JSON part in bytes where binary tensors follow it. Raises
    :class:`RequestError` (400) for everything that does not fit.
    """
    if header_length is not None and header_length > len(body):
        raise schema_error(
            f"{HEADER_LENGTH} says {header_length} bytes of JSON, but the body has only {len(body)}"
        )
    if header_length == 0:
        return _raw(body, required(inputs), outputs)
    document = parse(body if header_length is None else body[:header_length])
    binary = _BinaryPart(body, len(body) if header_length is None else header_length)
    choices = decode_outputs(document, outputs, unsupported)
    name, timeout = _optional(document, "id", str, "request"), decode_timeout(document)
    parameters = document.get("parameters") or {}
    refuse_unoffered(parameters, OF_REQUESTS, "request parameters")
    # The values come last: whatever else is wrong costs nothing to find.
    arrays = _decode_inputs(document.get("inputs"), binary, inputs)
    return InferRequest(name, arrays, choices, count_rows(arrays, required(inputs)), timeout, parameters)


def parse(text: bytes, members: str = "'inputs'") -> dict[str, Any]:
    """The JSON object, which should have ``members``.

    A large one has arrays of numbers in place of lists under ``data``.
    """
    if len(text) >= LARGE_JSON_BYTES:
        document = parse_numbers(text)
        if document is not None:
            return document
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = ""
        if b"NaN" in text or b"Infinity" in text or "infinity" in str(error):
            hint = "; JSON has no NaN, Infinity or numbers beyond 1.8e308: send such a tensor as binary data"
        raise schema_error(f"the body is not JSON: {error}{hint}") from None
    if not isinstance(document, dict):
        raise schema_error(f"the body must be a JSON object with {members}, not {show(document)}")
    return document


def _optional(member: Mapping[str, Any], name: str, kind: type[T], where: str) -> T | None:
    value = member.get(name)
    if value is None or type(value) is kind:
        return value
    raise schema_error(f"{where}: '{name}' must be {JSON_TYPES[kind]}, not {show(value)}")


@dataclass(frozen=True, slots=True)
class _Given:
    """A tensor whose name, type, shape and size are right; its values were not looked at yet."""

    spec: TensorSpec
    shape: tuple[int, ...]
    #: Numbers and lists of JSON, or bytes.
    values: Any
    binary: bool


def _decode_inputs(given: object, binary: _BinaryPart, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if type(given) is not list:
        found = "is missing" if given is None else f"is {show(given)}"
        raise schema_error(f"'inputs' {found}; send a list of the tensors {listing(list(specs))}")
    tensors: dict[str, _Given] = {}
    for position, tensor in enumerate(given):
        if type(tensor) is not dict or type(tensor.get("name")) is not str:
            raise schema_error(f"inputs[{position}] must be an object with a 'name', which is a string")
        name: str = tensor["name"]
        spec = specs.get(name)
        if spec is None:
            raise schema_error(f"the model has no input {show(name)}; its inputs are {listing(list(specs))}")
        if name in tensors:
            raise schema_error(f"input {show(name)} is given twice; send each input once")
        tensors[name] = _claim(tensor, spec, binary)
    binary.finish()
    arrays = {name: _read(tensor) for name, tensor in tensors.items()}
    check_complete(arrays, specs)
    return arrays


def check_complete(arrays: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    """Raises :class:`RequestError` (400) where an input is missing that has no value of its own."""
    missing = [name for name, spec in specs.items() if name not in arrays and not spec.optional]
    if missing:
        needed = [name for name, spec in specs.items() if not spec.optional]
        raise schema_error(f"missing input {listing(missing)}; the model needs {listing(needed)}")


def _claim(tensor: dict[str, Any], spec: TensorSpec, binary: _BinaryPart) -> _Given:
    where = f"input {show(spec.name)}"
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        found = "is missing" if datatype is None else f"is {show(datatype)}"
        raise schema_error(f"{where}: 'datatype' {found}; the model takes {spec.datatype}")
    shape = decode_shape(tensor.get("shape"), spec, where)
    parameters = _optional(tensor, "parameters", dict, where) or {}
    refuse_unoffered(parameters, OF_INPUTS, where)
    size = parameters.get("binary_data_size")
    if size is None:
        if tensor.get("data") is None:
            raise schema_error(f"{where}: 'data' is missing (or 'binary_data_size' in its parameters)")
        return _Given(spec, shape, tensor["data"], False)
    if tensor.get("data") is not None:
        raise schema_error(f"{where}: has both 'data' and 'binary_data_size'; send one of them")
    if type(size) is not int or size < 0:
        raise schema_error(f"{where}: 'binary_data_size' must be a count of bytes, not {show(size)}")
    blob = binary.take(size, where)
    check_size(len(blob), spec.datatype, shape, where)
    return _Given(spec, shape, blob, True)


def _read(tensor: _Given) -> Array:
    where = f"input {show(tensor.spec.name)}"
    datatype, shape, raw = tensor.spec.datatype, tensor.shape, tensor.spec.raw
    if tensor.binary:
        return from_bytes(tensor.values, datatype, shape, where, raw)
    array = from_json(tensor.values, datatype, shape, where)
    return from_base64(array, where) if raw else array


def decode_shape(given: object, spec: TensorSpec, where: str) -> tuple[int, ...]:
    if type(given) is not list:
        found = "is missing" if given is None else f"is {show(given)}"
        raise schema_error(f"{where}: 'shape' {found}; send a list of whole numbers")
    for dimension in given:
        if type(dimension) is not int or not 0 <= dimension < 2**62:
            raise schema_error(f"{where}: 'shape' must hold whole numbers from 0, not {show(dimension)}")
    shape = tuple(given)
    if spec.shape is None:
        if len(shape) > _MAX_RANK:
            raise schema_error(f"{where}: has {len(shape)} dimensions; at most {_MAX_RANK} are taken")
        _check_empty(shape, shape, where)
        return shape
    fits = len(shape) == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        wild = " (-1 stands for any size)" if -1 in spec.shape else ""
        raise schema_error(
            f"{where}: has shape {given[:_MAX_RANK]}, the model takes {list(spec.shape)}{wild}"
        )
    _check_empty(shape, [have for want, have in zip(spec.shape, shape, strict=True) if want == -1], where)
    return shape


def _check_empty(shape: tuple[int, ...], free: Sequence[int], where: str) -> None:
    if 0 in shape and prod(size for size in free if size) > _MAX_BESIDE_EMPTY:
        raise schema_error(
            f"{where}: is empty, and its other free dimensions are {prod(size for size in free if size)} "
            f"together; at most {_MAX_BESIDE_EMPTY} are taken"[:500]
        )


def decode_outputs(
    document: Mapping[str, Any], names: Sequence[str], unsupported: Mapping[str, str] = _NONE
) -> tuple[OutputChoice, ...]:
    parameters = _optional(document, "parameters", dict, "request") or {}
    default = _optional(parameters, "binary_data_output", bool, "request parameters") or False
    given = _optional(document, "outputs", list, "request")
    if not given:
        return tuple(OutputChoice(name, default) for name in names)
    choices: dict[str, OutputChoice] = {}
    for position, output in enumerate(given):
        if type(output) is not dict or type(output.get("name")) is not str:
            raise schema_error(f"outputs[{position}] must be an object with a 'name', which is a string")
        name: str = output["name"]
        where = f"output {show(name)}"
        if name in unsupported:
            raise schema_error(
                f"{where} is a {unsupported[name]}, which the Open Inference Protocol has no datatype for; "
                f"ask for {listing(names)}"
            )
        if name not in names:
            raise schema_error(f"the model has no {where}; its outputs are {listing(names)}")
        if name in choices:
            raise schema_error(f"{where} is asked for twice; ask once")
        own_parameters = _optional(output, "parameters", dict, where) or {}
        refuse_unoffered(own_parameters, OF_OUTPUTS, where)
        own = _optional(own_parameters, "binary_data", bool, f"{where} parameters")
        choices[name] = OutputChoice(name, default if own is None else own)
    return tuple(choices.values())


def refuse_unoffered(parameters: Mapping[str, Any], names: Mapping[str, str], where: str) -> None:
    """Raises :class:`RequestError` (400) for one of these parameters, unless its value asks for nothing."""
    for name, instead in names.items():
        if parameters.get(name):
            raise schema_error(f"{where}: '{name}' is {show(parameters[name])}, but {instead}")


def _raw(body: bytes, inputs: Mapping[str, TensorSpec], outputs: Sequence[str]) -> InferRequest:
    """Triton's raw request: nothing but the only input's bytes. All outputs come back as binary data."""
    where = f"{HEADER_LENGTH} is 0, so the body is the model's only input"
    if len(inputs) != 1:
        raise schema_error(
            f"{where}, but it has {listing(list(inputs))}; send a JSON part before the tensors"
        )
    (spec,) = inputs.values()
    if spec.raw:
        one = np.array([body], dtype=object)
        return InferRequest(None, {spec.name: one}, tuple(OutputChoice(each, True) for each in outputs), 1)
    free = 0 if spec.shape is None else spec.shape.count(-1)
    if spec.shape is None or spec.datatype is Datatype.BYTES or free > 1:
        raise schema_error(
            f"{where}; the shape of {show(spec.name)} is not told by the count of its bytes: "
            "send a JSON part before the tensor, with its shape"
        )
    row = prod(size for size in spec.shape if size != -1) * spec.datatype.dtype.itemsize
    if free and (not row or len(body) % row):
        raise schema_error(
            f"{where}, {show(spec.name)} of shape {list(spec.shape)}: {len(body)} bytes are not "
            f"a multiple of {row}"
        )
    shape = tuple(len(body) // row if size == -1 else size for size in spec.shape)
    name = f"input {show(spec.name)}"
    check_size(len(body), spec.datatype, shape, name, "the body's size is")
    arrays = {spec.name: from_bytes(body, spec.datatype, decode_shape(list(shape), spec, name), name)}
    return InferRequest(
        None, arrays, tuple(OutputChoice(each, True) for each in outputs), count_rows(arrays, inputs)
    )


def decode_timeout(document: Mapping[str, Any]) -> int | None:
    value = (document.get("parameters") or {}).get("timeout")
    if value is None or (type(value) is int and value >= 0):
        return value or None  # 0 means no limit of the client's own
    raise schema_error(f"request parameters: 'timeout' must be whole microseconds, not {show(value)}")


def required(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The inputs that have no value of their own."""
    return {name: spec for name, spec in specs.items() if not spec.optional}


def count_rows(arrays: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> int:
    """How many rows the request holds: the first batched input counts; a model without one takes one row."""
    rows = (array.shape[0] for name, array in arrays.items() if name in specs and specs[name].is_batched)
    return next(rows, 1)


class _BinaryPart:
    """The bytes after the JSON, which inputs take one after another."""

    def __init__(self, body: bytes, start: int) -> None:
        self._bytes = memoryview(body)[start:]
        self._taken = 0

    def take(self, size: int, where: str) -> memoryview:
        if size > len(self._bytes) - self._taken:
            raise schema_error(
                f"{where}: 'binary_data_size' is {show(size)}, but {len(self._bytes) - self._taken} bytes "
                f"are left after the JSON; set the header {HEADER_LENGTH} to the size of the JSON part"
            )
        start, self._taken = self._taken, self._taken + size
        return self._bytes[start : self._taken]

    def finish(self) -> None:
        if self._taken != len(self._bytes):
            raise schema_error(
                f"{len(self._bytes) - self._taken} bytes after the JSON belong to no input; "
                "the inputs' 'binary_data_size' must add up to all of them"
            )
