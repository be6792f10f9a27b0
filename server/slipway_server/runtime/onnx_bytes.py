"""What a file that onnxruntime cannot parse looks like: cut off, or never an ONNX model.

onnxruntime says "Protobuf parsing failed" to both. The two need different fixing, so the outermost fields of
the file are walked here: a model that was cut off starts well and then promises more bytes than there are.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import BinaryIO

#: Fields of ``onnx.ModelProto`` by number, with their protobuf wire type (0: varint, 2: length and bytes).
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH_AND_OPSET = {7, 8}


class Shape(Enum):
    """The outermost look of a file."""

    EMPTY = "empty"
    CUT_OFF = "cut off"
    WHOLE = "whole"
    FOREIGN = "foreign"


def look_at(path: Path) -> Shape:
    """Whether the file is built like an ONNX model from its first byte to its last; reads but a few bytes."""
    size = os.path.getsize(path)
    if size == 0:
        return Shape.EMPTY
    with path.open("rb") as file:
        return _walk(file, size)


def _walk(file: BinaryIO, size: int) -> Shape:
    seen: set[int] = set()
    while file.tell() < size:
        tag = _varint(file)
        if tag is None:
            return Shape.CUT_OFF if seen else Shape.FOREIGN
        number, wire = tag >> 3, tag & 7
        if _FIELDS.get(number) != wire or (not seen and number != 1):
            # Every exporter writes the IR version first; anything else is some other file.
            return Shape.FOREIGN
        value = _varint(file)
        if value is None or (wire == 2 and value > size - file.tell()):
            return Shape.CUT_OFF
        seen.add(number)
        if wire == 2:
            file.seek(value, os.SEEK_CUR)
    return Shape.WHOLE if seen >= _GRAPH_AND_OPSET else Shape.CUT_OFF


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
