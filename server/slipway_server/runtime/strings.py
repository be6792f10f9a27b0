"""The bytes of a string tensor that is not UTF-8, which onnxruntime's Python side cannot give.

It gives the address of the tensor, which is an array of C++ strings: of each a pointer, a length and 16 bytes
of its own. That this is so is tried once, on strings that are known.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort

from slipway_server.protocol.tensors import Array

_STRING_BYTES = 32
_KNOWN = ["", "short", "a string that is longer than its own sixteen bytes", "\0ä"]
#: An ONNX model without inputs whose output is these strings.
_MODEL = (
    b'\x08\x08:q\n\x10\n\x01a\x12\x01b"\x08Identity\x12\x01g*I\x08\x04\x10\x082\x002\x05sho'
    b"rt22a string that is longer than its o"
    b"wn sixteen bytes2\x03\x00\xc3\xa4B\x01ab\x0f\n\x01b\x12\n\n\x08\x08\x08\x12\x04\n"
    b"\x02\x08\x04B\x04\n\x00\x10\x11"
)


def decoded(value: Any) -> Array | None:
    """The strings of an ``OrtValue`` as ``str``, as ``bytes`` where they are no UTF-8.

    ``None`` where it cannot be told how they lie in memory.
    """
    if not _is_known():
        return None
    shape = value.shape()
    array = np.empty(int(np.prod(shape)), dtype=object)
    array[:] = [_text(each) for each in _strings(value.data_ptr(), array.size)]
    return array.reshape(shape)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _strings(address: int, count: int) -> Iterator[bytes]:
    if not count:
        return
    words = np.frombuffer(ctypes.string_at(address, count * _STRING_BYTES), np.uint64).reshape(count, 4)
    for pointer, length, *_ in words.tolist():
        yield ctypes.string_at(pointer, length)


@cache
def _is_known() -> bool:
    session = ort.InferenceSession(_MODEL, providers=["CPUExecutionProvider"])
    (value,) = session.run_with_ort_values(["b"], {})
    address, count = value.data_ptr(), len(_KNOWN)
    words = np.frombuffer(ctypes.string_at(address, count * _STRING_BYTES), np.uint64).reshape(count, 4)
    # Lengths first: a pointer is followed only where the lengths are right.
    if words[:, 1].tolist() != [len(text.encode()) for text in _KNOWN]:
        return False
    short = words[:2, 0].tolist()
    if short != [address + 16, address + _STRING_BYTES + 16]:
        return False
    return [each.decode() for each in _strings(address, count)] == _KNOWN
