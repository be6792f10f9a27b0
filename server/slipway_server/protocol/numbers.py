"""Large JSON requests by simdjson: numbers go straight into an array, without a Python object for each.

Only what is certainly well-formed is read here. Everything else is left to the ordinary decoder, which either
accepts it as well or has the words to say what is wrong.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import simdjson

from slipway_server.protocol.tensors import Datatype

#: From this size on it pays.
LARGE_JSON_BYTES = 2048

_KINDS: dict[str, tuple[str, type[Any]]] = {
    Datatype.FP16: ("d", np.float64),
    Datatype.FP32: ("d", np.float64),
    Datatype.FP64: ("d", np.float64),
    **dict.fromkeys((Datatype.INT8, Datatype.INT16, Datatype.INT32, Datatype.INT64), ("i", np.int64)),
    **dict.fromkeys((Datatype.UINT8, Datatype.UINT16, Datatype.UINT32, Datatype.UINT64), ("u", np.uint64)),
}
_local = threading.local()


def parse_numbers(text: bytes) -> dict[str, Any] | None:
    """The document with an array under each input's ``data``; ``None`` where simdjson cannot tell all."""
    parser = getattr(_local, "parser", None)
    if parser is None:
        parser = _local.parser = simdjson.Parser()
    try:
        return _convert(parser.parse(text), text)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError):
        return None


def _convert(root: Any, text: bytes) -> dict[str, Any] | None:
    document = _members(root, "inputs")
    brackets = 1 + sum(_brackets(value) for value in document.values())
    tensors: list[dict[str, Any]] = []
    for tensor in root["inputs"]:
        members = _members(tensor, "data")
        letter, dtype = _KINDS[members["datatype"]]
        data = tensor["data"]
        brackets += 1 + sum(_brackets(value) for value in members.values())
        if type(data[0]) is simdjson.Array:
            rows, columns = members["shape"]
            if len(data) != rows or any(len(row) != columns for row in data):
                return None
            brackets += rows
        elif len(data) != _product(members["shape"]):
            return None
        members["data"] = np.frombuffer(data.as_buffer(of_type=letter), dtype)
        tensors.append(members)
    # simdjson flattens lists at any depth; that no other lists are in there is told by counting brackets.
    if text.count(b"[") != brackets:
        return None
    document["inputs"] = tensors
    return document


def _members(of: Any, without: str) -> dict[str, Any]:
    """An object's members as Python values, but for one; raises ``ValueError`` for a name given twice."""
    names = list(of.keys())
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice")
    return {name: _plain(of[name]) for name in names if name != without}


def _plain(value: Any) -> Any:
    if type(value) is simdjson.Array:
        return value.as_list()
    return value.as_dict() if type(value) is simdjson.Object else value


def _brackets(value: object) -> int:
    if isinstance(value, list):
        return 1 + sum(map(_brackets, value))
    return sum(map(_brackets, value.values())) if isinstance(value, dict) else 0


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
