"""MLflow's scoring protocol: ``POST /invocations``.

A table (``dataframe_split``, ``dataframe_records``, or CSV) is answered with a list of records, tensors
(``instances``, ``inputs``) with an object of the outputs: as MLflow itself serves an ONNX model. In a table
``null`` is a missing number, NaN, as pandas has it. The columns of a table are the model's inputs by name or,
where it has one input, the columns of that in their order. ``params`` say something of the rows, as the
parameters of the Open Inference Protocol do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway_server.adapters.cells import CSV, read_csv
from slipway_server.adapters.nested import (
    columns_of,
    document_of,
    each_row,
    only_one,
    plain,
    refuse_binary,
    request_of,
    rows_of,
    tensor_of,
)
from slipway_server.errors import listing, schema_error, show
from slipway_server.protocol.decode import decode_shape
from slipway_server.protocol.encode import to_json
from slipway_server.protocol.tensors import Array, InferRequest, Tensor, TensorSpec
from slipway_server.protocol.values import from_json
from slipway_server.runtime.model import Model
from slipway_server.wire.head import JSON

#: Records that differ in their columns make a table that is larger than their text.
_MOST_CELLS = 4_000_000
_KINDS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CODES = {404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED", 500: "INTERNAL_ERROR"}
_CODES |= {503: "TEMPORARILY_UNAVAILABLE"}


class InvocationsCodec:
    """One request's way in and out."""

    def __init__(self, media_type: str = JSON) -> None:
        self._is_csv = media_type == CSV
        self._as_table = self._is_csv

    def decode(self, body: bytes, header_length: int | None, model: Model) -> InferRequest:
        """Raises :class:`RequestError` (400)."""
        if self._is_csv:
            refuse_binary(header_length)
            columns, rows = read_csv(body, lambda columns: _matched(columns, model.taken))
            return request_of(_table(columns, rows, model.taken), model)
        document = document_of(body, header_length, "one of " + listing(_KINDS))
        kinds = [kind for kind in _KINDS if kind in document]
        if len(kinds) != 1:
            raise schema_error(f"send exactly one of {listing(_KINDS)}, not {listing(kinds) or 'none'}")
        kind, value = kinds[0], document[kinds[0]]
        self._as_table = kind.startswith("dataframe")
        what = f"'{kind}'"
        if kind == "dataframe_split":
            arrays = _table(*_split(value, what), model.taken)
        elif kind == "dataframe_records":
            arrays = _table(*_records(value, what, model.taken), model.taken)
        elif kind == "instances":
            arrays = rows_of(value, model.taken, what)
        else:
            arrays = columns_of(value, model.taken, what)
        return request_of(arrays, model, document.get("params"))

    def encode(self, request: InferRequest, tensors: Sequence[Tensor]) -> tuple[bytes, None]:
        """Raises :class:`RequestError` (400) for a table where the model does not answer by rows."""
        answer: Any
        if self._as_table:
            columns = each_row([_narrow(tensor) for tensor in tensors], request.rows, "send 'inputs' instead")
            names = [tensor.name for tensor in tensors]
            answer = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        else:
            answer = {tensor.name: plain(tensor) for tensor in tensors}
        return to_json({"predictions": answer}, tensors), None

    def error(self, status: int, message: str) -> dict[str, str]:
        """What the protocol answers in place of an inference."""
        return {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": message}


def _narrow(tensor: Tensor) -> Tensor:
    """A column of a table is flat: ``[N, 1]`` becomes ``[N]``."""
    if tensor.array.ndim != 2 or tensor.array.shape[1] != 1:
        return tensor
    return Tensor(tensor.name, tensor.datatype, tensor.array[:, 0], tensor.parameters)


def _split(value: object, what: str) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns, which are their numbers where none are given, and the rows."""
    if not isinstance(value, dict) or type(value.get("columns", [])) is not list:
        raise schema_error(f"{what} must be an object with the lists 'columns' and 'data'")
    data = value.get("data")
    if type(data) is not list:
        raise schema_error(f"{what}: 'data' must be a list of rows, not {show(data)}")
    columns = value.get("columns")
    if columns is None:
        columns = list(range(len(data[0]) if data and type(data[0]) is list else 0))
    if not all(isinstance(name, str | int) for name in columns) or len(set(map(str, columns))) != len(
        columns
    ):
        raise schema_error(f"{what}: 'columns' must be names, each of them once")
    for position, row in enumerate(data):
        if type(row) is not list or len(row) != len(columns):
            raise schema_error(
                f"{what}: row {position} is {show(row)}; it must be a list of {len(columns)} values, "
                "one for each of the columns"
            )
    return [str(name) for name in columns], data


def _records(value: object, what: str, specs: Mapping[str, TensorSpec]) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns that the model knows, and the rows: what a row lacks is missing from it."""
    if type(value) is not list or not value or not isinstance(value[0], dict):
        raise schema_error(
            f"{what} must be a list with at least one object, not {show(value)}; "
            "only 'dataframe_split' has columns without rows"
        )
    names: dict[str, None] = {}
    for position, row in enumerate(value):
        if not isinstance(row, dict):
            raise schema_error(f"{what}: row {position} is {show(row)}; it must be an object, as row 0 is")
        names.update(dict.fromkeys(row))
    columns = [
        name for name, spec in zip(names, _matched(list(names), specs), strict=True) if spec is not None
    ]
    if len(columns) * len(value) > _MOST_CELLS:
        raise schema_error(
            f"{what}: {len(value)} rows of {len(columns)} columns are too many; send 'dataframe_split'"
        )
    return columns, [[row.get(name) for name in columns] for row in value]


def _are_one(columns: Sequence[str], specs: Mapping[str, TensorSpec]) -> bool:
    """Whether the columns are those of the model's only input, in their order."""
    only = only_one(specs)
    return only is not None and only.name not in columns


def _matched(columns: Sequence[str], specs: Mapping[str, TensorSpec]) -> list[TensorSpec | None]:
    """For each column the input that it belongs to; raises :class:`RequestError` (400)."""
    spec = only_one(specs)
    if spec is not None and _are_one(columns, specs):
        width = None if spec.shape is None or len(spec.shape) != 2 else spec.shape[1]
        if width not in (None, -1, len(columns)):
            raise schema_error(f"there are {len(columns)} columns; input {show(spec.name)} has {width}")
        return [spec] * len(columns)
    needed = [name for name, spec in specs.items() if not spec.optional]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise schema_error(f"missing column {listing(missing)}; the model needs {listing(needed)}")
    return [specs.get(name) for name in columns]


def _table(columns: list[str], rows: list[list[Any]], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    matched = _matched(columns, specs)
    spec = only_one(specs)
    if spec is not None and _are_one(columns, specs):
        where = f"input {show(spec.name)}"
        if not rows and matched and spec.shape is not None and len(spec.shape) == 2:
            shape = decode_shape([0, len(columns)], spec, where)
            return {spec.name: from_json([], spec.datatype, shape, where)}
        return {spec.name: tensor_of(rows, spec, where)}
    places = {name: columns.index(name) for name in specs if name in columns}
    return {
        name: tensor_of([row[places[name]] for row in rows], spec, f"column {show(name)}")
        for name, spec in specs.items()
        if name in places
    }
