"""An ONNX file's outline: its operators and their small values, without its weights.

protobuf parses it, once everything large has been left out: of a file of gigabytes a few pages are read.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from slipway_server.batching import onnx_outline_pb2 as pb

#: A field of more bytes is entered, where it may hold operators, or left out.
_LARGE_BYTES = 16 * 1024
#: So much of an outline is parsed at most.
MOST_BYTES = 32 * 1024 * 1024
_DEEPEST = 64
#: The fields on the way to operators, by message: number → message inside.
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "SparseTensor": {1: "Tensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 22: "SparseTensor"},
}
#: Lists of plain values of an attribute, one field each: millions of them in a forest. What follows is left
#: out too, which is no name: fields are written in the order of their numbers.
_LISTS = frozenset({7, 8, 9, 10, 11, 15, 23})
#: As the bytes of field 536870911, ``cut``: true.
_CUT = b"\xf8\xff\xff\xff\x0f\x01"
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


class OutlineError(Exception):
    """The file is no ONNX model in protobuf's form, or its outline is too large."""


def read(path: Path) -> pb.Model:
    """The outline of a file. Raises :class:`OutlineError`, and ``OSError``."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        outline = _shortened(whole, 0, len(whole), "Model", 0)
    if len(outline) > MOST_BYTES:
        raise OutlineError("its graph is too large")
    try:
        return pb.Model.FromString(outline)
    except Exception as error:  # protobuf has an error of its own for each of its builds
        raise OutlineError(str(error)) from error


def _shortened(data: mmap.mmap, at: int, end: int, message: str, depth: int) -> bytes:
    """A message without what is large in it."""
    if depth > _DEEPEST:
        raise OutlineError("its graphs are nested too deeply")
    inside = _INSIDE.get(message, {})
    lists = _LISTS if message == "Attribute" else frozenset()
    kept: list[bytes] = []
    # What lies side by side and is kept is copied at once.
    start = at
    cut = False
    while at < end:
        begins = at
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if number in lists:
            kept.append(data[start:begins])
            start, cut = end, True
            break
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _EIGHT:
            at += 8
        elif kind == _FOUR:
            at += 4
        elif kind == _LENGTH:
            length, at = _varint(data, at, end)
            stop = at + length
            if stop > end:
                raise OutlineError("it ends early")
            if length > _LARGE_BYTES:
                kept.append(data[start:begins])
                if number in inside:
                    short = _shortened(data, at, stop, inside[number], depth + 1)
                    kept += [_encoded(tag), _encoded(len(short)), short]
                else:
                    cut = True
                start = stop
            at = stop
        else:
            raise OutlineError("it is no protobuf message")
    kept.append(data[start:end])
    if cut and message in ("Attribute", "Tensor"):
        kept.append(_CUT)
    return b"".join(kept)


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise OutlineError("it ends early")


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
