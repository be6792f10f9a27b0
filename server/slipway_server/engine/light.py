"""The quick reading of requests as nearly all clients write them: every input once, as numbers.

What is read here is well-formed beyond doubt. For anything else the answer is ``False``, and the ordinary
decoder takes over, which accepts it as well or says what is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import orjson

from slipway_server.call.call import Call
from slipway_server.engine.outputs import OutputBook, Outputs
from slipway_server.protocol.numbers import LARGE_JSON_BYTES
from slipway_server.protocol.tensors import Datatype, InferRequest, TensorSpec

_LETTERS = {
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}
_DATA = b'"data":'
_MAX_REMEMBERED = 256
_MAX_JSON_PART = 1024
#: Larger ones are left to the ordinary decoder, whose runs give their memory back.
_MAX_BODY = 16 * 1024 * 1024
_UNSURE = (KeyError, TypeError, IndexError, ValueError, AttributeError, OverflowError, struct.error)


@dataclass(frozen=True, slots=True)
class _Input:
    position: int
    datatype: str
    trailing: list[int]
    width: int
    letter: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """A JSON part seen before: where the inputs lie in the bytes after it, in the model's order."""

    size: int
    slices: tuple[tuple[int, int], ...]
    rows: int
    id: str | None
    outputs: Outputs


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the only input's ``data`` in a JSON body seen before."""

    tail: bytes
    pack: Callable[..., bytes]
    rows: int
    outputs: Outputs


class LightDecoder:
    """Fills a call's inputs, rows, id and outputs; for models whose inputs are numbers with free rows."""

    def __init__(self, inputs: Mapping[str, TensorSpec], book: OutputBook) -> None:
        self._inputs: dict[str, _Input] = {}
        for position, spec in enumerate(inputs.values()):
            letter = _LETTERS.get(spec.datatype)
            if letter is None or not spec.is_batched or spec.shape is None:
                self._inputs.clear()
                break
            trailing = list(spec.shape[1:])
            self._inputs[spec.name] = _Input(position, str(spec.datatype), trailing, prod(trailing), letter)
        self._count = len(self._inputs)
        #: From here on numbers are read without an object for each; that pays by the numbers of one input.
        self._large = LARGE_JSON_BYTES * self._count
        self._book = book
        self._layouts: dict[bytes, _Layout] = {}
        self._frames: dict[bytes, _Frame] = {}
        self._structs: dict[tuple[int, str], struct.Struct] = {}

    @property
    def reads(self) -> bool:
        """Whether there are requests that it understands."""
        return self._count > 0

    def read(self, call: Call) -> bool:
        """Whether the call's body was understood; if not, the call is as it was."""
        if not self._count:
            return False
        if call.header_length is not None:
            return self._read_binary(call, call.header_length)
        if len(call.body) >= self._large:
            return False
        try:
            return self._read_json(call, call.body)
        except _UNSURE:
            return False

    def _read_json(self, call: Call, body: bytes) -> bool:
        start = body.find(_DATA) + len(_DATA)
        frame = self._frames.get(body[:start])
        if frame is not None and body.endswith(frame.tail):
            text = body[start : len(body) - len(frame.tail)]
            data = orjson.loads(text)
            if type(data) is list and type(data[0]) is not list:
                # ``struct`` would take true and false for 1 and 0; no number has their letters.
                if text.find(b"t") >= 0 or text.find(b"f") >= 0:
                    return False
                call.inputs, call.rows, call.outputs = (frame.pack(*data),), frame.rows, frame.outputs
                return True
        if body.find(b"true") >= 0 or body.find(b"false") >= 0:
            return False
        document = orjson.loads(body)
        given = document["inputs"]
        extra, name, outputs = len(document) - 1, None, self._book.default
        if extra:
            if "id" in document:
                name = document["id"]
                if type(name) is not str:
                    return False
                extra -= 1
            if "outputs" in document:
                outputs = self._book.find(document["outputs"])
                extra -= 1
            if extra:
                return False
        if len(given) != self._count:
            return False
        parts: list[bytes] = [b""] * self._count
        rows, flat = 0, True
        for tensor in given:
            spec = self._inputs[tensor["name"]]
            shape, data = tensor["shape"], tensor["data"]
            if len(tensor) != 4 or tensor["datatype"] != spec.datatype or shape[1:] != spec.trailing:
                return False
            for size in shape:
                if type(size) is not int:
                    return False
            count = shape[0] * spec.width
            if type(data[0]) is list:
                flat = False
                if len(spec.trailing) != 1 or len(data) != shape[0]:
                    return False
                for row in data:
                    if type(row) is not list or len(row) != spec.width:
                        return False
                data = list(chain.from_iterable(data))
            if len(data) != count or count < 1 or parts[spec.position]:
                return False
            parts[spec.position] = self._struct(count, spec.letter).pack(*data)
            if rows not in (0, shape[0]):
                return False
            rows = shape[0]
        call.inputs, call.rows, call.id, call.outputs = parts, rows, name, outputs
        if flat and self._count == 1 and name is None and len(_DATA) <= start <= _MAX_JSON_PART:
            self._remember_frame(body, start, document, rows, outputs)
        return True

    def _remember_frame(
        self, body: bytes, start: int, document: dict[str, Any], rows: int, outputs: Outputs
    ) -> None:
        """Remember what stands around ``data``, if the same there means the same whatever the data is."""
        tail = body[body.find(b"]", start) + 1 :]
        if len(tail) > _MAX_JSON_PART:
            return
        (tensor,) = document["inputs"]
        # A value of JSON may stand wherever another one does; so it is enough to try it with one.
        tensor["data"] = None
        try:
            if orjson.loads(b"%bnull%b" % (body[:start], tail)) != document:
                return
        except orjson.JSONDecodeError:
            return
        spec = self._inputs[tensor["name"]]
        count = rows * spec.width
        if len(self._frames) >= _MAX_REMEMBERED:
            self._frames.clear()
        self._frames[body[:start]] = _Frame(tail, self._struct(count, spec.letter).pack, rows, outputs)

    def _read_binary(self, call: Call, header_length: int) -> bool:
        layout = self._layouts.get(call.body[:header_length])
        if layout is None or len(call.body) != layout.size:
            return False
        view = memoryview(call.body)
        call.inputs = [view[start:stop] for start, stop in layout.slices]
        call.rows, call.id, call.outputs = layout.rows, layout.id, layout.outputs
        return True

    def remember(self, call: Call, request: InferRequest, outputs: Outputs) -> None:
        """Keep the layout of a binary request that the ordinary decoder accepted."""
        size = call.header_length
        if size is None or size > _MAX_JSON_PART or not self._count or len(call.body) > _MAX_BODY:
            return
        if request.timeout_microseconds is not None:
            return
        total = size + sum(array.nbytes for array in request.inputs.values())
        if total != len(call.body):
            return  # some input came as JSON
        slices: dict[str, tuple[int, int]] = {}
        start = size
        for name, array in request.inputs.items():
            slices[name] = (start, start + array.nbytes)
            start += array.nbytes
        if len(self._layouts) >= _MAX_REMEMBERED:
            self._layouts.clear()
        self._layouts[call.body[:size]] = _Layout(
            total, tuple(slices[name] for name in self._inputs), request.rows, request.id, outputs
        )

    def _struct(self, count: int, letter: str) -> struct.Struct:
        known = self._structs.get((count, letter))
        if known is None:
            if len(self._structs) >= _MAX_REMEMBERED:
                self._structs.clear()
            known = self._structs[count, letter] = struct.Struct(f"<{count}{letter}")
        return known
