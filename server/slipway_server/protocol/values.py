"""The values of one tensor, out of lists of JSON or out of bytes."""

from __future__ import annotations

import base64
import binascii
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from slipway_server.errors import schema_error, show
from slipway_server.protocol.tensors import Array, Datatype

#: Before each string of a binary tensor: its length.
_LENGTH_BYTES = 4
JSON_TYPES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a whole number",
    float: "a number with a point or exponent",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
#: What JSON holds for a tensor of each datatype, and how to say so.
_TAKEN: dict[Datatype, tuple[set[type], str]] = {
    each: ({int, float, type(None)}, "numbers")
    if each.is_float
    else ({int}, "whole numbers without a point or exponent")
    for each in Datatype
}
_TAKEN[Datatype.BOOL] = ({bool}, "true or false")
_TAKEN[Datatype.BYTES] = ({str}, "strings")
#: Up to here a float tells all whole numbers apart.
_EXACT = 2.0**53


def from_json(
    data: object, datatype: Datatype, shape: tuple[int, ...], where: str, loose: bool = False
) -> Array:
    """A tensor from a list of JSON, flat or nested; ``null`` among floats is NaN.

    With ``loose``, ``1.0`` is a whole number, and ``true`` and ``1`` stand for each other.
    """
    if isinstance(data, np.ndarray):
        return _from_numbers(data, datatype, shape, where, loose)
    flat = _flatten(data, shape, where)
    allowed, wanted = _TAKEN[datatype]
    kinds = set(map(type, flat))
    if not kinds <= allowed:
        if loose:
            flat = [_whole(value, datatype) for value in flat]
        index = next((i for i, value in enumerate(flat) if type(value) not in allowed), None)
        if index is not None:
            value = flat[index]
            hint = "; only floats can be missing" if value is None else ""
            raise schema_error(
                f"{where}: value {index} is {show(value)}, which is {JSON_TYPES[type(value)]}; "
                f"{datatype} takes {wanted}{hint}"
            )
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=datatype.dtype)
    except OverflowError:
        limits = np.iinfo(datatype.dtype)
        index = next(i for i, value in enumerate(flat) if not limits.min <= value <= limits.max)
        raise schema_error(
            f"{where}: value {index} is {show(flat[index])}; "
            f"{datatype} goes from {limits.min} to {limits.max}"
        ) from None
    if datatype.is_float and not np.isfinite(array).all():
        beyond = (i for i in np.flatnonzero(~np.isfinite(array)).tolist() if flat[i] is not None)
        index = next(beyond, None)
        if index is not None:
            raise schema_error(
                f"{where}: value {index} is {show(flat[index])}; "
                f"{datatype} goes up to {np.finfo(array.dtype).max}"
            )
    return array.reshape(shape)


def _whole(value: Any, datatype: Datatype) -> Any:
    """The value as its datatype has it, where the two mean the same."""
    kind = type(value)
    if datatype is Datatype.BOOL:
        return bool(value) if kind in (int, float) and value in (0, 1) else value
    if datatype is Datatype.BYTES:
        return value
    if kind is bool:
        return int(value)
    if kind is float and not datatype.is_float and abs(value) <= _EXACT and value.is_integer():
        return int(value)
    return value


def _from_numbers(data: Array, datatype: Datatype, shape: tuple[int, ...], where: str, loose: bool) -> Array:
    """As :func:`from_json` for numbers of the right kind, but of 64 bits."""
    if data.size != prod(shape):
        raise schema_error(
            f"{where}: 'data' has {data.size} values; shape {list(shape)} needs {prod(shape)}"[:500]
        )
    with np.errstate(over="ignore"):
        array = data.astype(datatype.dtype)
    bad = ~np.isfinite(array) if datatype.is_float else array != data
    if bad.any():
        # Rare enough to say it slowly, by the words of the one place that has them.
        return from_json(data.tolist(), datatype, shape, where, loose)
    return array.reshape(shape)


def _flatten(data: object, shape: tuple[int, ...], where: str) -> list[Any]:
    """Values in row-major order from a flat list or from lists nested exactly as the shape says."""
    if type(data) is not list:
        raise schema_error(f"{where}: 'data' must be a list, not {show(data)}")
    count = prod(shape)
    if not (data and type(data[0]) is list):
        if len(data) != count:
            raise schema_error(
                f"{where}: 'data' has {len(data)} values; shape {list(shape)} needs {count}"[:500]
            )
        return data
    level: list[Any] = [data]
    for depth, size in enumerate(shape):
        for item in level:
            if type(item) is not list or len(item) != size:
                raise schema_error(
                    f"{where}: nested 'data' does not have shape {list(shape)}: in dimension {depth} there "
                    f"is {show(item)} where a list of {size} should be; nest it so, or send it flat"
                )
        level = list(chain.from_iterable(level))
    return level


def check_size(
    size: int, datatype: Datatype, shape: tuple[int, ...], where: str, said: str = "'binary_data_size' is"
) -> None:
    """Raises :class:`RequestError` (400) where so many bytes cannot be a tensor of this shape."""
    count = prod(shape)
    if datatype is Datatype.BYTES:
        if size < _LENGTH_BYTES * count:
            most = "at most " if size else ""
            raise schema_error(
                f"{where}: has {most}{size // _LENGTH_BYTES} strings; its shape needs {count}"[:500]
            )
        return
    need = count * datatype.dtype.itemsize
    if size != need:
        raise schema_error(
            f"{where}: {said} {size}; {datatype} of shape {list(shape)} has {need} bytes"[:500]
        )


def from_base64(texts: Array, where: str) -> Array:
    """The bytes that strings of base64 stand for. Raises :class:`RequestError` (400)."""
    found = np.empty(texts.size, dtype=object)
    for position, text in enumerate(texts.reshape(-1).tolist()):
        try:
            found[position] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise schema_error(
                f"{where}: value {position} is {show(text)}, which is no base64; in JSON this input's bytes "
                "are base64, or send them as binary data"
            ) from None
    return found.reshape(texts.shape)


def from_bytes(
    data: bytes | memoryview, datatype: Datatype, shape: tuple[int, ...], where: str, raw: bool = False
) -> Array:
    """A tensor from its values in row-major order, little-endian; strings have their length before them.

    With ``raw`` they are bytes of any kind.

    The size passed :func:`check_size`.
    """
    count = prod(shape)
    if datatype is Datatype.BYTES:
        return _strings(data, count, where, raw).reshape(shape)
    if datatype is Datatype.BOOL and count and np.frombuffer(data, np.uint8).max() > 1:
        raise schema_error(f"{where}: a BOOL is one byte, 0 or 1")
    # onnxruntime reads the memory in place, so it has to be aligned, which a slice of a body may not be.
    array = np.frombuffer(data, dtype=datatype.dtype).reshape(shape)
    return np.require(array, requirements=["A"])


def _strings(data: bytes | memoryview, count: int, where: str, raw: bool) -> Array:
    # Where they lie is told by their lengths alone. Only strings that all lie within the bytes are read.
    places: list[tuple[int, int]] = []
    position, size = 0, len(data)
    while position < size:
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "little")
        if start > size or position > size:
            raise schema_error(f"{where}: string {len(places)} goes past the end of the tensor's bytes")
        places.append((start, position))
        if len(places) > count:
            break
    if len(places) != count:
        more = "" if position == size else "more than "
        raise schema_error(f"{where}: has {more}{len(places)} strings; its shape needs {count}")
    if raw:
        return np.array([bytes(data[start:stop]) for start, stop in places], dtype=object)
    values: list[str] = []
    try:
        for start, stop in places:
            values.append(str(data[start:stop], "utf-8"))
    except UnicodeDecodeError:
        raise schema_error(f"{where}: string {len(values)} is not UTF-8, which the model needs") from None
    return np.array(values, dtype=object)
