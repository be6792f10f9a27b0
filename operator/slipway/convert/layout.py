"""Which columns a model takes, and by which tensors its ONNX takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from slipway.convert.errors import ConvertError

Array = npt.NDArray[Any]

#: The tensor that takes all columns.
ALL = "X"
_DTYPES = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT64": np.int64,
    "INT32": np.int32,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}


@dataclass(frozen=True)
class Column:
    """A column, and the datatype of the tensor that takes it."""

    name: str
    datatype: str

    @property
    def is_real(self) -> bool:
        return self.datatype in ("FP32", "FP64")

    @property
    def is_text(self) -> bool:
        return self.datatype == "BYTES"


@dataclass(frozen=True)
class Tensor:
    """An input of a network, and the shape of a row in it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The columns in the model's order: all in the tensor ``X``, or each in one of its name.

    A network has ``inputs``, each of which takes the next columns, as many as a row of it has numbers.
    """

    columns: tuple[Column, ...]
    together: bool
    inputs: tuple[Tensor, ...] = ()

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def is_double(self) -> bool:
        """Whether real numbers have 64 bits."""
        return any(column.datatype == "FP64" for column in self.columns)

    def tensors(self, frame: pd.DataFrame) -> dict[str, Array]:
        """Rows as a client of the server sends them: rounded to the datatype, and missing text empty."""
        if self.inputs:
            return self._shaped(frame)
        given = {column.name: _tensor(frame[column.name], column.datatype) for column in self.columns}
        if not self.together:
            return given
        return {ALL: np.concatenate(list(given.values()), axis=1)}

    def _shaped(self, frame: pd.DataFrame) -> dict[str, Array]:
        found, at = {}, 0
        for each in self.inputs:
            part = frame[self.names[at : at + prod(each.shape)]]
            found[each.name] = _block(part, each.datatype).reshape(len(frame), *each.shape)
            at += prod(each.shape)
        return found


def layout_of(frame: pd.DataFrame, names: Sequence[str], *, by_name: bool, double: bool) -> Layout:
    """``by_name``: the model addresses columns one by one; ``double``: real numbers have 64 bits.

    Raises:
        ConvertError: for a column that is neither numbers nor text.
    """
    columns = [Column(name, _datatype(frame[name], double)) for name in names]
    texts = {column.is_text for column in columns}
    if by_name or len(texts) > 1:
        return Layout(tuple(columns), together=False)
    if texts == {True}:
        return Layout(tuple(columns), together=len(columns) > 1)
    real = "FP64" if double else "FP32"
    return Layout(tuple(Column(name, real) for name in names), together=True)


def _datatype(values: pd.Series, double: bool) -> str:
    kinds = pd.api.types
    if kinds.is_bool_dtype(values.dtype):
        return "BOOL"
    if kinds.is_integer_dtype(values.dtype) and not values.isna().any():
        return "INT64"
    if kinds.is_numeric_dtype(values.dtype):
        return "FP64" if double else "FP32"
    there = values.dropna()
    if there.map(type).eq(str).all():
        return "BYTES"
    raise ConvertError(
        f"column {values.name!r} holds {type(there.iloc[0]).__name__}: a model that is served takes "
        "numbers and text; turn it into one of them, in training too, or name it in --ignore"
    )


def _tensor(values: pd.Series, datatype: str) -> Array:
    column: Array
    if datatype == "BYTES":
        column = np.array([value if isinstance(value, str) else "" for value in values], object)
    elif datatype in ("FP32", "FP64"):
        # By way of 64 bits, since that is how clients' numbers reach the model.
        with np.errstate(over="ignore"):
            column = values.to_numpy(np.float64, na_value=np.nan).astype(_DTYPES[datatype])
    else:
        column = values.to_numpy(_DTYPES[datatype])
    return column.reshape(-1, 1)


def _block(part: pd.DataFrame, datatype: str) -> Array:
    """All columns of an input at once: a picture has very many. Raises :class:`ConvertError`."""
    is_real = datatype in ("FP32", "FP64")
    fits = pd.api.types.is_numeric_dtype if is_real else pd.api.types.is_integer_dtype
    wrong = next(
        (name for name, dtype in part.dtypes.items() if not (fits(dtype) or dtype == np.bool_)), None
    )
    if wrong is not None:
        kind = "numbers" if is_real else "whole numbers, none of them missing"
        raise ConvertError(f"column {wrong!r} holds {part[wrong].dtype}, and the model takes {kind} there")
    with np.errstate(over="ignore"):
        wide = part.to_numpy(np.float64, na_value=np.nan) if is_real else part.to_numpy(np.int64)
        values: Array = wide.astype(_DTYPES[datatype])
        return values
