"""From a table to requests of the Open Inference Protocol, and from the answers to arrays.

Protocol: https://github.com/kserve/open-inference-protocol, REST, JSON tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway.notebook.errors import PredictionError

#: A request of more rows gets no feedback tokens.
MOST_ROWS = 1_000
#: Numbers in one request: about 4 MiB of JSON, of the 8 MiB that a model server takes.
MOST_VALUES = 200_000

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Input:
    """An input as the model's metadata has it.

    Attributes:
        shape: -1 where a dimension is free.
        columns: names of the values of a row, as ``spec.inputs`` has them; none if it has not.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Values of a row; -1 where that is free."""
        rest = self.shape[1:]
        return -1 if -1 in rest else math.prod(rest)


def inputs_of(metadata: Mapping[str, Any], columns: Mapping[str, Sequence[str]]) -> tuple[Input, ...]:
    """Inputs of a model.

    Args:
        metadata: the answer to ``GET /v2/models/NAME``.
        columns: names of the values of a row, by input.
    """
    return tuple(
        Input(one["name"], one["datatype"], tuple(one["shape"]), tuple(columns.get(one["name"], ())))
        for one in metadata["inputs"]
        if not one.get("optional")
    )


def requests_of(
    table: Any, inputs: Sequence[Input], parameters: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Requests that carry a table's rows in their order.

    Args:
        table: a frame of pandas or polars, a mapping from names to columns, or an array of rows where the
            model has one input.
        inputs: of the model.
        parameters: of the request; a sequence has one value for each row.

    Raises:
        PredictionError: where the table does not fit the inputs, or a parameter the rows; it names them.
    """
    tensors = [_tensor(one, table, inputs) for one in inputs]
    rows = {one.name: len(values) for one, values in zip(inputs, tensors, strict=True)}
    if len(set(rows.values())) > 1:
        raise PredictionError(f"the columns are not of one length: {rows}")
    total = next(iter(rows.values()), 0)
    by_row = {name: _listed(value) for name, value in (parameters or {}).items()}
    for name, values in by_row.items():
        if values is not None and len(values) != total:
            raise PredictionError(f"parameter {name!r} has {len(values)} values for {total} rows")
    widest = sum(values[:1].size for values in tensors) or 1
    step = min(MOST_ROWS, max(1, MOST_VALUES // widest))
    for start in range(0, total, step):
        request: dict[str, Any] = {
            "inputs": [
                _encoded(one, values[start : start + step])
                for one, values in zip(inputs, tensors, strict=True)
            ]
        }
        if parameters:
            request["parameters"] = {
                name: parameters[name] if values is None else values[start : start + step]
                for name, values in by_row.items()
            }
        yield request


def _listed(value: Any) -> list[Any] | None:
    """One value for each row, or None for what holds for all of them."""
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        return None
    return list(np.asarray(value).tolist())


def _tensor(wanted: Input, table: Any, inputs: Sequence[Input]) -> Array:
    """Rows of one input, of the number of dimensions that it has."""
    columns = _columns(table)
    if columns is None:
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise PredictionError(
                f"the model has {len(inputs)} inputs; give a table with the columns {names}"
            )
        values = np.asarray(table)
    elif wanted.name in columns:
        values = np.asarray(columns[wanted.name])
        if values.dtype == object and len(values) and isinstance(values[0], list | tuple | np.ndarray):
            values = np.stack([np.asarray(one) for one in values])
    elif len(inputs) == 1 or wanted.columns:
        values = _stacked(wanted, columns)
    else:
        raise PredictionError(f"the table has no column {wanted.name!r}; it has {_named(columns)}")
    return _shaped(wanted, values)


def _columns(table: Any) -> dict[str, Any] | None:
    """Columns by name, or None for rows without names."""
    if isinstance(table, Mapping):
        return {str(name): column for name, column in table.items()}
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        return {str(name): table[name] for name in table.columns}
    return None


def _stacked(wanted: Input, columns: Mapping[str, Any]) -> Array:
    """The columns of a table next to each other: by the names that the spec has, else in their order."""
    names = wanted.columns[: wanted.width] if wanted.width >= 0 else wanted.columns
    if names:
        missing = [name for name in names if name not in columns]
        if missing:
            raise PredictionError(
                f"input {wanted.name!r} has the columns {_named(names)}; the table lacks {_named(missing)}"
            )
    if not names or len(names) < wanted.width:
        # Names at the end may be left out of the spec: then the table has to be the input, column by column.
        if wanted.width not in (-1, len(columns)):
            raise PredictionError(
                f"input {wanted.name!r} takes {wanted.width} values a row and the table has {len(columns)} "
                "columns; give those alone, in the model's order, or name them in spec.inputs"
            )
        names = tuple(columns)
    return np.column_stack([np.asarray(columns[name]) for name in names])


def _shaped(wanted: Input, values: Array) -> Array:
    """A column for ``[N, 1]`` and a table of one column for ``[N]`` are what they mean."""
    dimensions = len(wanted.shape)
    if dimensions == 2 and values.ndim == 1:
        values = values[:, np.newaxis]
    elif dimensions == 1 and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    fits = values.ndim == dimensions and all(
        wide in (-1, given) for wide, given in zip(wanted.shape, values.shape, strict=True)
    )
    if not fits:
        raise PredictionError(
            f"input {wanted.name!r} is of shape {list(wanted.shape)} and the rows are of {list(values.shape)}"
        )
    return values


def _encoded(one: Input, values: Array) -> dict[str, Any]:
    data = [_plain(one, value) for value in values.ravel().tolist()]
    return {"name": one.name, "datatype": one.datatype, "shape": list(values.shape), "data": data}


def _plain(one: Input, value: Any) -> Any:
    """A value as JSON has it: null for what is missing, and whole numbers where the input is of those."""
    if one.datatype == "BYTES":
        return value if isinstance(value, str) else str(value)
    if value is None or value != value:
        return None
    if one.datatype.startswith(("INT", "UINT")) and isinstance(value, float) and value.is_integer():
        return int(value)
    if one.datatype.startswith("FP") and not isinstance(value, bool | int | float):
        try:
            return float(value)  # such as a Decimal
        except (TypeError, ValueError):
            raise PredictionError(f"input {one.name!r} takes numbers, and one value is {value!r}") from None
    return value


def _named(names: Any) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
