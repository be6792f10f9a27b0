"""Rows where a converted model goes wrong, if it does: close to thresholds, missing, unknown, and extreme.

Numbers are those that 32 bits can hold, since no others reach a model that takes FP32; around the thresholds
of one that takes FP64, they are also those of 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from slipway.conversion import Rows
from slipway.convert.answers import Answers
from slipway.convert.boosters import thresholds
from slipway.convert.layout import Column, Layout
from slipway.convert.numbers import OF_32_BITS, OF_64_BITS, Numbers
from slipway.convert.originals import Original

Array = npt.NDArray[Any]

#: Columns that are looked at, rows that each is changed in, and values of a column that answers are sought
#: between.
_MOST_COLUMNS, _BASES, _VALUES = 100, 8, 48
#: A network with more columns takes pictures or tokens: few of them are looked at, and no thresholds sought.
_WIDE, _MOST_OF_WIDE = 200, 8
#: Thresholds that are sought; each takes 32 rows to find.
_MOST_THRESHOLDS = 300
_UNKNOWN_TEXT = "slipway: unknown"
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)
_SMALL = (_SMALLEST, -_SMALLEST, 1e-45, 0.0, -0.0)
_EXTREMES = (_LARGEST, -_LARGEST, np.inf, -np.inf)
#: How far outside the data's range a value is, in spans of that range.
_SPANS = (1, 1000)


def edges(original: Original, frame: pd.DataFrame, layout: Layout) -> Iterator[tuple[Rows, pd.DataFrame]]:
    """Frames of rows, each of one kind and of one change: an original can refuse some and take others."""
    random = np.random.default_rng(0)
    bases = frame.iloc[random.permutation(len(frame))[:_BASES]].reset_index(drop=True)
    is_wide = bool(layout.inputs) and len(layout.columns) > _WIDE
    most = _MOST_OF_WIDE if is_wide else _MOST_COLUMNS
    chosen = sorted(random.permutation(len(layout.columns))[:most])
    columns = [layout.columns[each] for each in chosen]
    reals = [column for column in columns if column.is_real]
    if reals and not is_wide:
        for rows in _thresholds(original, frame, bases, layout, reals, random):
            yield Rows.THRESHOLDS, rows
        yield Rows.THRESHOLDS, _listed(original, bases, layout, random)
    for column in columns:
        for value in _missing(column):
            yield Rows.MISSING, _with(bases, column.name, value)
        for value in _unknown(column, frame[column.name]):
            yield Rows.UNKNOWN, _with(bases, column.name, value)
        for value in _outside(frame[column.name]) if column.is_real else ():
            yield Rows.OUTSIDE, _with(bases, column.name, value)
        for value in _EXTREMES if column.is_real else ():
            yield Rows.EXTREMES, _with(bases, column.name, value)


def _with(bases: pd.DataFrame, name: str, value: Any) -> pd.DataFrame:
    changed = bases.copy()
    if isinstance(value, float) and changed[name].dtype != np.float64:
        changed[name] = changed[name].astype(np.float64)
    changed[name] = pd.Series([value] * len(bases), dtype=changed[name].dtype)
    return changed


def _missing(column: Column) -> Iterator[Any]:
    if column.is_real:
        yield np.nan
    elif column.is_text:
        yield None


def _unknown(column: Column, values: pd.Series) -> Iterator[Any]:
    if column.is_text:
        yield _UNKNOWN_TEXT
        yield ""
        there = values.dropna()
        if len(there):
            yield str(there.iloc[0]).swapcase()
    elif column.datatype in ("INT64", "INT32"):
        yield int(values.max()) + 1
        yield int(values.min()) - 1


def _outside(values: pd.Series) -> Iterator[float]:
    """The smallest numbers, and values that no row has, as a client's other unit brings them."""
    yield from _SMALL
    there = values.to_numpy(np.float64, na_value=np.nan)
    there = there[np.isfinite(there)]
    if not len(there):
        return
    low, high = float(there.min()), float(there.max())
    span = high - low or max(abs(high), 1.0)
    for spans in _SPANS:
        for value in (low - spans * span, high + spans * span):
            if abs(value) <= _LARGEST:
                yield float(np.float32(value))


def _thresholds(
    original: Original,
    frame: pd.DataFrame,
    bases: pd.DataFrame,
    layout: Layout,
    columns: list[Column],
    random: np.random.Generator,
) -> Iterator[pd.DataFrame]:
    """Rows on both sides of places where the original's answer jumps, and one step further.

    They are found by halving, so it does not matter what the model is made of. Where an answer changes
    smoothly, the places are arbitrary ones.
    """
    starts = [pair for column in columns for pair in _changes(original, frame, bases, column)]
    picked = [starts[each] for each in random.permutation(len(starts))[:_MOST_THRESHOLDS]]
    if not picked:
        return
    rows = bases.iloc[[base for _, base, _, _ in picked]].reset_index(drop=True)
    of = np.array([name for name, _, _, _ in picked], object)
    low, high = (np.array([pair[which] for pair in picked], np.int64) for which in (2, 3))
    numbers = OF_32_BITS
    low, high = _halved(original, rows, of, numbers, low, high)
    yield _around(rows, of, numbers, low, high)
    if layout.is_double:
        low, high = (OF_64_BITS.places(numbers.at(side)) for side in (low, high))
        low, high = _halved(original, rows, of, OF_64_BITS, low, high)
        yield _around(rows, of, OF_64_BITS, low, high)


def _halved(
    original: Original, rows: pd.DataFrame, of: Array, numbers: Numbers, low: Array, high: Array
) -> tuple[Array, Array]:
    """Neighbouring places between those given, between which the answer changes most."""
    below, above = (original.answers(_placed(rows, of, numbers.at(side))) for side in (low, high))
    while (high - low).max() > 1:
        middle = low + (high - low) // 2
        between = original.answers(_placed(rows, of, numbers.at(middle)))
        to_left = _apart(below, between) >= _apart(between, above)
        low, high = np.where(to_left, low, middle), np.where(to_left, middle, high)
        below, above = _choose(to_left, below, between), _choose(to_left, between, above)
    return low, high


def _around(rows: pd.DataFrame, of: Array, numbers: Numbers, low: Array, high: Array) -> pd.DataFrame:
    sides = (numbers.beside(low, -1), low, high, numbers.beside(high, 1))
    return pd.concat([_placed(rows, of, numbers.at(side)) for side in sides], ignore_index=True)


def _listed(
    original: Original, bases: pd.DataFrame, layout: Layout, random: np.random.Generator
) -> pd.DataFrame:
    """Rows around the thresholds that a model's own library lists, also those that no search meets."""
    splits = sorted({*thresholds(original.model)})
    picked = [splits[at] for at in random.permutation(len(splits))[:_MOST_THRESHOLDS]]
    if not picked:
        return bases.iloc[:0]
    rows = bases.iloc[random.integers(0, len(bases), len(picked))].reset_index(drop=True)
    of = np.array([layout.columns[at].name for at, _ in picked], object)
    listed = np.clip([value for _, value in picked], -_LARGEST, _LARGEST)
    widths = (OF_32_BITS, OF_64_BITS) if layout.is_double else (OF_32_BITS,)
    steps = [
        (numbers, numbers.beside(numbers.places(listed), step)) for numbers in widths for step in (-1, 0, 1)
    ]
    return pd.concat([_placed(rows, of, numbers.at(order)) for numbers, order in steps], ignore_index=True)


def _changes(
    original: Original, frame: pd.DataFrame, bases: pd.DataFrame, column: Column
) -> Iterator[tuple[str, int, int, int]]:
    """Name, base row and the places of two values of the column between which the answer changes."""
    values = frame[column.name].to_numpy(np.float64, na_value=np.nan)
    with np.errstate(over="ignore"):
        order = np.unique(OF_32_BITS.places(values[np.isfinite(values.astype(np.float32))]))
    if len(order) < 2:
        return
    order = order[np.unique(np.linspace(0, len(order) - 1, _VALUES).round().astype(int))]
    rows = bases.iloc[np.repeat(np.arange(len(bases)), len(order))].reset_index(drop=True)
    of = np.full(len(rows), column.name, object)
    answers = original.answers(_placed(rows, of, OF_32_BITS.at(np.tile(order, len(bases)))))
    apart = _apart(answers.rows(0, len(rows) - 1), answers.rows(1, len(rows))) > 0
    for base in range(len(bases)):
        for value in range(len(order) - 1):
            if apart[base * len(order) + value]:
                yield column.name, base, int(order[value]), int(order[value + 1])


def _placed(rows: pd.DataFrame, of: Array, values: Array) -> pd.DataFrame:
    """The rows, each with a value in its column."""
    changed = rows.copy()
    for name in pd.unique(of):
        column = changed[name].to_numpy(np.float64, na_value=np.nan, copy=True)
        column[of == name] = values[of == name]
        changed[name] = column
    return changed


def _apart(one: Answers, other: Answers) -> Array:
    """How far answers are apart, row by row; another label counts most."""
    apart = np.zeros(len(one))
    if one.labels is not None and other.labels is not None:
        apart += 1e9 * (one.labels != other.labels)
    if one.numbers is not None and other.numbers is not None:
        with np.errstate(all="ignore"):
            apart += np.nan_to_num(np.abs(one.numbers - other.numbers)).reshape(len(one), -1).sum(axis=1)
    return apart


def _choose(left: Array, one: Answers, other: Answers) -> Answers:
    def choose(first: Array | None, second: Array | None) -> Array | None:
        if first is None or second is None:
            return None
        return np.where(left if first.ndim == 1 else left[:, None], first, second)

    return Answers(choose(one.labels, other.labels), choose(one.numbers, other.numbers))
