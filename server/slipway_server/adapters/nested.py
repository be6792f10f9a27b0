"""Tensors from nested lists, whose shape is told by nothing but the lists, and such lists from answers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from slipway_server.errors import listing, schema_error, show
from slipway_server.protocol.decode import count_rows, decode_shape, parse, required
from slipway_server.protocol.header import HEADER_LENGTH
from slipway_server.protocol.tensors import Array, Datatype, InferRequest, OutputChoice, Tensor, TensorSpec
from slipway_server.protocol.values import from_base64, from_json
from slipway_server.runtime.model import Model

_MAX_RANK = 32


def document_of(body: bytes, header_length: int | None, members: str) -> dict[str, Any]:
    """The JSON object in a body; ``members`` are what it should hold. Raises :class:`RequestError`."""
    refuse_binary(header_length)
    return parse(body, members)


def refuse_binary(header_length: int | None) -> None:
    """Raises :class:`RequestError` (400) where binary tensors follow a JSON part."""
    if header_length is not None:
        raise schema_error(f"binary tensors go to /v2/models/<name>/infer: leave {HEADER_LENGTH} out here")


def request_of(arrays: Mapping[str, Array], model: Model, parameters: object = None) -> InferRequest:
    """A request for all outputs; ``parameters`` say something of its rows, if they are an object."""
    choices = tuple(OutputChoice(name, False) for name in model.output_names)
    told = parameters if isinstance(parameters, dict) else {}
    return InferRequest(None, arrays, choices, count_rows(arrays, model.inputs), None, told)


def tensor_of(value: object, spec: TensorSpec, where: str) -> Array:
    """The tensor in nested lists; a last dimension of 1 may be left out. Raises :class:`RequestError`.

    What an empty list does not tell of the shape is as the model declares it.
    """
    flat, shape = _flatten(value, where)
    wanted = spec.shape
    if not flat and wanted is not None and len(shape) < len(wanted):
        if -1 in wanted[len(shape) :]:
            raise schema_error(
                f"{where}: an empty list does not tell its shape; the model takes {list(wanted)}: "
                "send it to /v2/models/<name>/infer, with its shape"
            )
        shape = [*shape, *wanted[len(shape) :]]
    elif wanted is not None and len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        shape = [*shape, 1]
    fitting = decode_shape(shape, spec, where)
    if spec.datatype is Datatype.BYTES:
        flat = [_text(each, where, spec.raw) for each in flat]
    array = from_json(flat, spec.datatype, fitting, where, loose=True)
    return from_base64(array, where) if spec.raw else array


def only_one(specs: Mapping[str, TensorSpec]) -> TensorSpec | None:
    """The only input that has no value of its own, if there is but one."""
    needed = list(required(specs).values())
    return needed[0] if len(needed) == 1 else None


def columns_of(value: object, specs: Mapping[str, TensorSpec], what: str) -> dict[str, Array]:
    """Tensors by their names or, where the model has one input, just that."""
    if isinstance(value, dict):
        given: Mapping[str, Any] = value
    elif (spec := only_one(specs)) is not None:
        given = {spec.name: value}
    else:
        raise schema_error(f"{what} is {show(value)}; the model needs an object with {listing(list(specs))}")
    return {
        name: tensor_of(given[name], specs[name], f"input {show(name)}")
        for name in _names(given, specs, what)
    }


def rows_of(value: object, specs: Mapping[str, TensorSpec], what: str) -> dict[str, Array]:
    """Tensors from a list with one item for each row: an object of all inputs or, of one input, its value."""
    if type(value) is not list:
        raise schema_error(f"{what} must be a list, not {show(value)}")
    if not value:
        return {name: tensor_of([], spec, f"input {show(name)}") for name, spec in required(specs).items()}
    if not isinstance(value[0], dict) or set(value[0]) == {"b64"}:
        only = only_one(specs)
        if only is None:
            raise schema_error(
                f"{what}[0] must be an object with {listing(list(specs))}, not {show(value[0])}"
            )
        return {only.name: tensor_of(value, only, f"input {show(only.name)}")}
    columns: dict[str, list[Any]] = {}
    for position, row in enumerate(value):
        if not isinstance(row, dict):
            raise schema_error(f"{what}[{position}] must be an object as {what}[0] is, not {show(row)}")
        for name in _names(row, specs, f"{what}[{position}]"):
            columns.setdefault(name, []).append(row[name])
    return {name: tensor_of(column, specs[name], f"input {show(name)}") for name, column in columns.items()}


def plain(tensor: Tensor) -> Any:
    """An answer for orjson, which writes floats in the fewest digits, and NaN and infinity as ``null``."""
    if not tensor.datatype.is_float:
        return tensor.array.tolist()
    return np.ascontiguousarray(tensor.array) if tensor.array.ndim else tensor.array[()]


def each_row(tensors: Sequence[Tensor], rows: int, instead: str) -> list[list[Any]]:
    """For each tensor its rows; raises :class:`RequestError` where they are not those of the request."""
    for tensor in tensors:
        if tensor.array.ndim == 0 or len(tensor.array) != rows:
            raise schema_error(
                f"output {show(tensor.name)} has no value for each of the {rows} rows; {instead}"
            )
    return [list(plain(tensor)) for tensor in tensors]


def _names(given: Mapping[str, Any], specs: Mapping[str, TensorSpec], what: str) -> list[str]:
    for name in given:
        if name not in specs:
            raise schema_error(
                f"{what}: the model has no input {show(name)}; its inputs are {listing(list(specs))}"
            )
    needed = list(required(specs))
    missing = [name for name in needed if name not in given]
    if missing:
        raise schema_error(f"{what}: missing input {listing(missing)}; the model needs {listing(needed)}")
    return [name for name in specs if name in given]


def _flatten(value: object, where: str) -> tuple[list[Any], list[int]]:
    if type(value) is not list:
        raise schema_error(f"{where}: must be a list, not {show(value)}")
    level: list[Any] = list(value)
    shape = [len(value)]
    while level and type(level[0]) is list:
        size = len(level[0])
        for position, item in enumerate(level):
            if type(item) is not list or len(item) != size:
                raise schema_error(
                    f"{where}: the lists of dimension {len(shape)} differ: the first has {size} values, "
                    f"number {position} is {show(item)}; all rows need the same shape"
                )
        shape.append(size)
        if len(shape) > _MAX_RANK:
            raise schema_error(f"{where}: has more than {_MAX_RANK} dimensions")
        level = list(chain.from_iterable(level))
    assert len(level) == prod(shape)
    return level, shape


def _text(value: object, where: str, raw: bool) -> object:
    """A string, or the object by which TensorFlow's protocol writes bytes; with ``raw``, its base64."""
    if not isinstance(value, dict) or set(value) != {"b64"} or not isinstance(value["b64"], str):
        return value
    if raw:
        return value["b64"]
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (binascii.Error, ValueError):
        raise schema_error(f"{where}: {show(value['b64'])} is not base64 of UTF-8") from None
