"""Whether values keep the rules of their columns: range, whole numbers, known values, no gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_server.errors import RequestError, schema_error, show
from slipway_server.monitoring.reference import Rules
from slipway_server.protocol.tensors import Array, TensorSpec
from slipway_server.settings import InputColumn


class RulesError(Exception):
    """The rules are about something that the model does not take."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One rule of one column that some rows break: ``rows`` has a boolean for each row."""

    of: Rules
    rule: str
    rows: Array


class Checker:
    """The rules of all columns of all inputs."""

    def __init__(self, rules: Sequence[Rules], specs: Mapping[str, TensorSpec]) -> None:
        """Raises :class:`RulesError`."""
        by_tensor: dict[str, list[Rules]] = {}
        for each in rules:
            _check(each, specs)
            by_tensor.setdefault(each.column.tensor, []).append(each)
        self._tables: list[tuple[str, _Numbers | _Texts]] = []
        for name, mine in by_tensor.items():
            dtype = specs[name].datatype.dtype
            self._tables.append(
                (name, _Texts(mine) if dtype.hasobject else _Numbers(mine, dtype, _width(specs[name])))
            )

    def broken(self, inputs: Mapping[str, Array]) -> list[Broken]:
        """What is broken; nothing as a rule."""
        found: list[Broken] = []
        for name, table in self._tables:
            array = np.asarray(inputs.get(name, ()))
            if not array.size:
                continue
            rows = array.reshape(len(array), -1)
            if not table.is_clean(rows):
                found += table.broken(rows)
        return found


def refusal(found: Sequence[Broken], inputs: Mapping[str, Array]) -> RequestError:
    """What the client is told: the first value that breaks a rule, and how many others do."""
    first = min(found, key=lambda each: int(np.argmax(each.rows)))
    row, column = int(np.argmax(first.rows)), first.of.column
    array = np.asarray(inputs[column.tensor])
    value = array.reshape(len(array), -1)[row, column.column]
    shown = show(value if isinstance(value, str) else value.item())
    more = sum(int(each.rows.sum()) for each in found) - 1
    also = f"; {more} more value{'s' if more > 1 else ''} break rules" if more else ""
    return schema_error(
        f"input {show(column.tensor)}, row {row}, column {show(column.name)}: {shown} breaks the rule "
        f"'{first.rule}': {_wanted(first.rule, column)}{also}"
    )


def _wanted(rule: str, column: InputColumn) -> str:
    low, high = column.minimum, column.maximum
    match rule:
        case "missing":
            return "it must not be missing"
        case "integer":
            return "it must be a whole number"
        case "enum":
            return f"it must be one of {', '.join(column.enum[:20])}"
    if low is None or high is None:
        return f"it must be at most {high:g}" if low is None else f"it must be at least {low:g}"
    return f"it must be from {low:g} to {high:g}"


def _check(rules: Rules, specs: Mapping[str, TensorSpec]) -> None:
    column = rules.column
    spec = specs.get(column.tensor)
    if spec is None:
        raise RulesError(f"the model has no input {column.tensor!r}; it has {', '.join(map(repr, specs))}")
    if not spec.is_batched or spec.shape is None or -1 in spec.shape[1:]:
        raise RulesError(f"the model's input {column.tensor!r} has no rows of a fixed size")
    width = _width(spec)
    if column.column >= width:
        raise RulesError(
            f"column {column.name!r} is number {column.column + 1} of {column.tensor!r}, which has {width}"
        )
    if column.type != "String" and not all(map(_is_number, column.enum)):
        raise RulesError(
            f"column {column.name!r} is a {column.type}, but not all values of its enum are numbers"
        )
    if spec.raw:
        raise RulesError(
            f"column {column.name!r}: {column.tensor!r} holds bytes, of which nothing is checked"
        )
    if (column.type == "String") != spec.datatype.dtype.hasobject:
        raise RulesError(
            f"column {column.name!r} is a {column.type}, but {column.tensor!r} has {spec.datatype}"
        )


def _width(spec: TensorSpec) -> int:
    """Values of one row."""
    return int(np.prod((spec.shape or ())[1:], dtype=int))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class _Numbers:
    def __init__(self, rules: Sequence[Rules], dtype: np.dtype[Any], width: int) -> None:
        self._rules = rules
        self._columns = [each.column.column for each in rules]
        # In the served datatype, so that 0.1 is not above a maximum of 0.1.
        kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
        lows = [-np.inf if each.column.minimum is None else each.column.minimum for each in rules]
        highs = [np.inf if each.column.maximum is None else each.column.maximum for each in rules]
        self._lows, self._highs = np.array(lows, kind)[:, None], np.array(highs, kind)[:, None]
        self._all = self._columns == list(range(width))
        floating = dtype.kind == "f"
        self._full = self._at("missing") if floating else []
        self._whole = self._at("integer") if floating else []
        self._known = [
            (at, np.array([float(value) for value in rules[at].column.enum], kind)) for at in self._at("enum")
        ]

    def is_clean(self, table: Array) -> bool:
        """Whether nothing is broken, told quickly; where that is not sure, ``False``."""
        if self._known:
            return False
        values = table if self._all else table[:, self._columns]
        # False for NaN, too.
        inside = (values >= self._lows.T) & (values <= self._highs.T)
        if not inside.all():
            return False
        if self._whole:
            some = values[:, self._whole]
            return bool((some == np.rint(some)).all())
        return True

    def _at(self, rule: str) -> list[int]:
        return [position for position, each in enumerate(self._rules) if rule in each.slots]

    def broken(self, table: Array) -> Iterator[Broken]:
        values = table.T[self._columns]
        yield from self._rows("range", None, (values < self._lows) | (values > self._highs))
        if self._full:
            yield from self._rows("missing", self._full, np.isnan(values[self._full]))
        if self._whole:
            some = values[self._whole]
            yield from self._rows("integer", self._whole, np.isfinite(some) & (some != np.rint(some)))
        for at, known in self._known:
            other = ~np.isin(values[at], known)
            if values.dtype.kind == "f":
                other &= ~np.isnan(values[at])
            yield from self._rows("enum", [at], other[None])

    def _rows(self, rule: str, at: list[int] | None, bad: Array) -> Iterator[Broken]:
        if not bad.any():
            return
        for position in np.flatnonzero(bad.any(axis=1)).tolist():
            yield Broken(self._rules[position if at is None else at[position]], rule, bad[position])


class _Texts:
    def __init__(self, rules: Sequence[Rules]) -> None:
        self._rules = [(each, frozenset(each.column.enum)) for each in rules]

    def is_clean(self, table: Array) -> bool:
        """Never sure."""
        del table
        return False

    def broken(self, table: Array) -> Iterator[Broken]:
        for each, known in self._rules:
            values = table[:, each.column.column].tolist()
            if "missing" in each.slots and "" in values:
                yield Broken(each, "missing", np.array([value == "" for value in values]))
            if known and not known.issuperset(values):
                rows = np.array([value != "" and value not in known for value in values])
                if rows.any():
                    yield Broken(each, "enum", rows)
