"""Tables in CSV (RFC 4180, UTF-8): a header row with the columns' names, then a row for each row.

Cells are read as pandas reads them for MLflow: an empty one, or ``NA``, ``NaN``, ``null`` and their like, is
a missing number; ``True`` and ``false`` are booleans; empty lines are none.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from slipway_server.errors import schema_error, show
from slipway_server.protocol.tensors import Datatype, TensorSpec

CSV = "text/csv"
#: As ``pandas.read_csv`` has them.
_MISSING = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
_MOST = {each: float(np.finfo(each.dtype).max) for each in (Datatype.FP16, Datatype.FP32, Datatype.FP64)}
_BOOLS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_PLAIN = b"0123456789+-.eE,\n"
#: As a whole number of JSON it has no sign.
_MINUS_ZERO = re.compile(rb"-0(?=[,\n]|\Z)")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)


def read_csv(
    body: bytes, match: Callable[[list[str]], Sequence[TensorSpec | None]]
) -> tuple[list[str], list[list[Any]]]:
    """The names of the columns, and the rows: of each cell its value, ``None`` for a missing number.

    ``match`` says which input a column belongs to; the cells of one that belongs to none are not looked at.
    Raises :class:`RequestError` (400), which names row and column of a bad cell.
    """
    lines = _lines(body)
    columns = next(lines, None)
    if columns is None:
        raise schema_error("the CSV is empty; it must begin with a row of the columns' names")
    if len(set(columns)) != len(columns):
        raise schema_error("the CSV's columns must be named, each of them once")
    specs = match(columns)
    quick = _quick(body, specs)
    if quick is not None:
        return columns, quick
    rows: list[list[Any]] = []
    for cells in lines:
        if len(cells) != len(columns):
            raise schema_error(
                f"row {len(rows)} of the CSV has {len(cells)} cells; there are {len(columns)} columns"
            )
        row: list[Any] = []
        for name, spec, text in zip(columns, specs, cells, strict=True):
            try:
                row.append(None if spec is None else _value(text, spec.datatype))
            except ValueError as error:
                raise schema_error(
                    f"row {len(rows)} of the CSV, column {show(name)}: {show(text)} {error}"
                ) from None
        rows.append(row)
    return columns, rows


def _quick(body: bytes, specs: Sequence[TensorSpec | None]) -> list[list[Any]] | None:
    """The rows of a table of plain numbers, read by orjson as JSON; None where that might not be the same.

    JSON is the stricter of the two: what it does not take is read cell by cell.
    """
    start = body.find(b"\n") + 1
    header = body[:start].removesuffix(b"\n").removesuffix(b"\r")
    if not header or b'"' in header or b"\r" in header:
        return None
    cells = body[start:].replace(b"\r\n", b"\n").strip(b"\n")
    if not cells or cells.translate(None, _PLAIN) or _MINUS_ZERO.search(cells):
        return None
    try:
        rows: list[list[Any]] = orjson.loads(b"[[" + cells.replace(b"\n", b"],[") + b"]]")
    except ValueError:
        return None
    if any(len(row) != len(specs) for row in rows):
        return None
    columns = ([row[place] for row in rows] for place in range(len(specs)))
    fit = all(
        spec is not None and _fits(column, spec.datatype) for spec, column in zip(specs, columns, strict=True)
    )
    return rows if fit else None


def _fits(column: list[Any], datatype: Datatype) -> bool:
    """Whether a data type holds all of these numbers."""
    numbers = np.array(column)
    if numbers.dtype.kind not in ("iuf" if datatype.is_float else "iu"):
        return False
    if datatype.is_float:
        return bool((np.abs(numbers.astype(np.float64)) <= _MOST[datatype]).all())
    if datatype in (Datatype.BYTES, Datatype.BOOL):
        return False
    limits = np.iinfo(datatype.dtype)
    return limits.min <= int(numbers.min()) and int(numbers.max()) <= limits.max


def _lines(body: bytes) -> Iterator[list[str]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise schema_error(f"the CSV is not UTF-8: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise schema_error(f"line {reader.line_num} is not CSV: {error}") from None
        if cells:
            yield cells


def _value(text: str, datatype: Datatype) -> Any:
    """Raises ``ValueError`` with what is wrong with a cell."""
    if datatype is Datatype.BYTES:
        return text
    if datatype is Datatype.BOOL:
        if text not in _BOOLS:
            raise ValueError("is neither true nor false")
        return _BOOLS[text]
    if datatype.is_float:
        return _float(text, datatype)
    if not _WHOLE.fullmatch(text) or len(text) > 40:
        raise ValueError(f"is not a whole number, which {datatype} takes")
    limits = np.iinfo(datatype.dtype)
    if not limits.min <= int(text) <= limits.max:
        raise ValueError(f"is beyond {datatype}, which goes from {limits.min} to {limits.max}")
    return int(text)


def _float(text: str, datatype: Datatype) -> float | None:
    if text in _MISSING:
        return None
    if not _NUMBER.fullmatch(text):
        raise ValueError("is not a number")
    value = float(text)
    most = _MOST[datatype]
    # What lies between the largest number and the next one that there would be is rounded to the first.
    with np.errstate(over="ignore"):
        if abs(value) > most and not np.isfinite(datatype.dtype.type(value)):
            raise ValueError(f"is beyond {datatype}, which goes up to {most:g}")
    return value
