"""Which outputs a request wants, and the answers to many such requests written at once.

The bytes are the same as :func:`slipway_server.protocol.encode.encode` writes for each request alone; numbers
of a whole batch are turned into text by one call and cut into rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from slipway_server.protocol.decode import decode_outputs
from slipway_server.protocol.encode import encode
from slipway_server.protocol.tensors import Array, InferRequest, OutputChoice, Tensor

if TYPE_CHECKING:
    from slipway_server.call.call import Call
    from slipway_server.runtime.model import Model

#: So many different wishes are remembered; clients have a handful.
_MAX_REMEMBERED = 256
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class OutputBook:
    """Finds the :class:`Outputs` of a request; equal wishes get the same object."""

    def __init__(self, model: Model, name: str, version: str) -> None:
        self._model = model
        self._names = (name, version)
        self._by_text: dict[bytes, Outputs] = {}
        self._by_choices: dict[tuple[OutputChoice, ...], Outputs] = {}
        self.default = self.of(decode_outputs({}, model.output_names))

    def of(self, choices: tuple[OutputChoice, ...]) -> Outputs:
        known = self._by_choices.get(choices)
        if known is None:
            if len(self._by_choices) >= _MAX_REMEMBERED:
                self._by_choices.clear()
                self._by_text.clear()
            known = self._by_choices[choices] = Outputs(choices, self._model, *self._names)
        return known

    def find(self, given: object) -> Outputs:
        """By a request's member ``outputs``; raises :class:`RequestError` as the ordinary decoder does."""
        text = orjson.dumps(given)
        known = self._by_text.get(text)
        if known is None:
            known = self.of(
                decode_outputs({"outputs": given}, self._model.output_names, self._model.unsupported)
            )
            # The same wishes can be written in any number of ways.
            if len(self._by_text) >= _MAX_REMEMBERED:
                self._by_text.clear()
            if len(text) <= 1024:
                self._by_text[text] = known
        return known


class Outputs:
    """Chosen outputs in a request's order, and how their answers are written."""

    def __init__(self, choices: tuple[OutputChoice, ...], model: Model, name: str, version: str) -> None:
        self.choices = choices
        self.names = [choice.name for choice in choices]
        self.binary = any(choice.binary for choice in choices)
        self._model = model
        self._of = (name, version)
        plain = all(model.is_plain(each) for each in self.names)
        self._plain = plain and not self.binary
        self._blobs = plain and all(choice.binary for choice in choices)
        self._dtypes = [model.outputs[each].datatype.dtype for each in self.names]
        self._start = orjson.dumps({"model_name": name, "model_version": version})[:-1]
        self._kinds = [str(model.outputs[each].datatype) for each in self.names]
        self._templates: dict[tuple[tuple[int, ...], ...], bytes] = {}
        self._blob_heads: dict[tuple[tuple[int, ...], ...], bytes] = {}

    def write(self, calls: Sequence[Call], answers: Sequence[Any]) -> None:
        """Set each call's content from the answers to all of them, whose rows come in the calls' order."""
        quick = all(call.codec is None for call in calls)
        if quick and self._plain and self._write_rows(calls, answers):
            return
        if quick and self._blobs and self._write_blobs(calls, answers):
            return
        tensors = [self._model.tensor(*pair) for pair in zip(self.names, answers, strict=True)]
        start = 0
        for call in calls:
            stop = start + call.rows
            mine = tensors if len(calls) == 1 else [_rows_of(tensor, start, stop) for tensor in tensors]
            request = InferRequest(call.id, {}, self.choices, call.rows)
            if call.codec is not None:
                call.content, call.header_length = call.codec.encode(call.request or request, mine)
            else:
                call.content, call.header_length = encode(request, *self._of, mine)
            start = stop

    def _write_row(self, call: Call, answer: Array) -> bool:
        """As :meth:`_write_rows`, for one call and one output."""
        shape = answer.shape
        if not shape or shape[0] != 1 or not answer.size:
            return False
        text = orjson.dumps(answer.reshape(-1), option=_NUMPY)
        if text.find(b"null") >= 0:
            return False
        template = self._templates.get((shape[1:],)) or self._template((shape[1:],))
        call.content = template % (b"" if call.id is None else _id(call), text[1:-1])
        call.header_length = None
        return True

    def _write_rows(self, calls: Sequence[Call], answers: Sequence[Array]) -> bool:
        """The quick way, where every call has one row; ``False`` for what it cannot do."""
        if len(calls) == len(answers) == 1:
            return self._write_row(calls[0], answers[0])
        total = len(calls)
        columns: list[list[bytes]] = []
        for answer in answers:
            if answer.ndim == 0 or len(answer) != total or not answer.size:
                return False
            text = orjson.dumps(answer.reshape(total, -1), option=_NUMPY)
            if text.find(b"null") >= 0:
                return False
            columns.append(text[2:-2].split(b"],["))
        template = self._template(tuple(answer.shape[1:] for answer in answers))
        if len(columns) == 1:
            for call, data in zip(calls, columns[0], strict=True):
                call.content = template % (_id(call), data)
                call.header_length = None
        else:
            for call, *parts in zip(calls, *columns, strict=True):
                call.content = template % (_id(call), *parts)
                call.header_length = None
        return True

    def _write_blobs(self, calls: Sequence[Call], answers: Sequence[Array]) -> bool:
        """The quick way, where all outputs are binary; ``False`` for what it cannot do."""
        total = sum(call.rows for call in calls)
        for answer, dtype in zip(answers, self._dtypes, strict=True):
            if answer.ndim == 0 or len(answer) != total or answer.dtype != dtype:
                return False
        blobs = [(answer.tobytes(), answer.nbytes // total) for answer in answers]
        trailing = tuple(answer.shape[1:] for answer in answers)
        start = 0
        for call in calls:
            stop = start + call.rows
            head = self._blob_head(call.rows, trailing) % _id(call)
            call.content = b"".join([head, *(blob[start * row : stop * row] for blob, row in blobs)])
            call.header_length = len(head)
            start = stop
        return True

    def _blob_head(self, rows: int, trailing: tuple[tuple[int, ...], ...]) -> bytes:
        key = ((rows,), *trailing)
        head = self._blob_heads.get(key)
        if head is None:
            outputs = [
                {
                    "name": name,
                    "datatype": kind,
                    "shape": (rows, *shape),
                    "parameters": {"binary_data_size": rows * prod(shape) * dtype.itemsize},
                }
                for name, kind, shape, dtype in zip(
                    self.names, self._kinds, trailing, self._dtypes, strict=True
                )
            ]
            tail = orjson.dumps({"outputs": outputs})[1:].replace(b"%", b"%%")
            head = self._start.replace(b"%", b"%%") + b"%b," + tail
            if len(self._blob_heads) >= _MAX_REMEMBERED:
                self._blob_heads.clear()
            self._blob_heads[key] = head
        return head

    def _template(self, trailing: tuple[tuple[int, ...], ...]) -> bytes:
        template = self._templates.get(trailing)
        if template is None:
            outputs = []
            for name, kind, shape in zip(self.names, self._kinds, trailing, strict=True):
                output: Mapping[str, Any] = {"name": name, "datatype": kind, "shape": (1, *shape), "data": ()}
                outputs.append(orjson.dumps(output).replace(b"%", b"%%")[:-2] + b"%b]}")
            start = self._start.replace(b"%", b"%%")
            template = start + b'%b,"outputs":[' + b",".join(outputs) + b"]}"
            if len(self._templates) >= _MAX_REMEMBERED:
                self._templates.clear()
            self._templates[trailing] = template
        return template


def _id(call: Call) -> bytes:
    return b"" if call.id is None else b'"id":'.join((b",", orjson.dumps(call.id)))


def _rows_of(tensor: Tensor, start: int, stop: int) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, np.asarray(tensor.array)[start:stop], tensor.parameters)
