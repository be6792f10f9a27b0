"""Rows of a table that are moved, and how far their columns may be."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway.contract import Attack, AuditTask, Inputs, Smoothing
from slipway_server.audit.answering import Answering
from slipway_server.audit.table import AuditError, Table, numbers
from slipway_server.protocol.tensors import Array

#: The same rows and the same noise for whichever model, and whenever.
SEED = 20_190_208


@dataclass(frozen=True)
class Movable:
    """A column of numbers that differ between rows.

    Attributes:
        name: of the column.
        number: its place in a row of the table.
        deviation: standard deviation over the table.
        minimum: what it may not fall below.
        maximum: what it may not exceed.
        is_whole: whether its values have no fraction.
    """

    name: str
    number: int
    deviation: float
    minimum: float = -np.inf
    maximum: float = np.inf
    is_whole: bool = False

    def value(self, row: Sequence[str]) -> float:
        """In a row of the table; NaN where its cell is empty."""
        return numbers([row[self.number]], self.name)[0]

    def moved(self, row: Sequence[str], by: Array) -> Array:
        """Values of copies of a row, each moved by so many deviations; NaN where its cell is empty."""
        values = self.value(row) + by * self.deviation
        return np.clip(np.rint(values) if self.is_whole else values, self.minimum, self.maximum)


@dataclass(frozen=True)
class Drawn:
    """Rows of a table by their number; of columns of numbers the standard deviation and the ends."""

    rows: tuple[tuple[int, list[str]], ...]
    deviations: Mapping[int, float]
    ranges: Mapping[int, tuple[float, float]]


def draw(table: Table, rows: int, columns: Mapping[int, str]) -> Drawn:
    """So many rows by chance, always the same, and deviations of columns over the whole table.

    Args:
        table: is read once.
        rows: all of them where the table has fewer.
        columns: names of columns of numbers by their place.

    Raises:
        AuditError: where a cell is no number, or there is no row.
    """
    chance = np.random.default_rng(SEED)
    kept: list[tuple[float, int, list[str]]] = []
    spreads = {number: _Spread() for number in columns}
    count = 0
    for piece in table.pieces():
        keys = chance.random(len(piece)).tolist()
        found = [(key, count + place, row) for place, (key, row) in enumerate(zip(keys, piece, strict=True))]
        kept = heapq.nsmallest(rows, kept + found)
        count += len(piece)
        for number, name in columns.items():
            spreads[number].add(np.array(numbers([row[number] for row in piece], name)))
    if not kept:
        raise AuditError("the table has no rows")
    in_order = sorted((number, row) for _, number, row in kept)
    return Drawn(
        tuple(in_order),
        {number: found.deviation for number, found in spreads.items()},
        {number: (found.least, found.most) for number, found in spreads.items()},
    )


class _Spread:
    """Mean and variance in one pass, piece by piece (Chan et al., 1979); what is missing does not count."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self.least, self.most = np.inf, -np.inf

    def add(self, values: Array) -> None:
        values = values[np.isfinite(values)]
        if not len(values):
            return
        count, mean = self._count + len(values), float(values.mean())
        apart = mean - self._mean
        self._squares += float(((values - mean) ** 2).sum()) + apart**2 * self._count * len(values) / count
        self._mean += apart * len(values) / count
        self._count = count
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self._squares / self._count)) if self._count else 0.0


def movable(
    table: Table, drawn: Drawn, columns: Mapping[int, str], inputs: Inputs | None, fixed: Sequence[str]
) -> list[Movable]:
    """Columns that may be moved, within what ``spec.inputs`` says of those names.

    Raises:
        AuditError: where there is none, or the table has none of the name of a fixed one.
    """
    kept = {table.place(name) for name in fixed}
    bounds = {each.name: each for each in inputs.columns} if inputs is not None else {}
    found = []
    for number, name in columns.items():
        said, deviation = bounds.get(name), drawn.deviations[number]
        if number in kept or not deviation > 0.0:
            continue
        if said is None:
            found.append(Movable(name, number, deviation))
        elif said.type != "String" and not said.enum:
            least = -np.inf if said.minimum is None else said.minimum
            most = np.inf if said.maximum is None else said.maximum
            found.append(Movable(name, number, deviation, least, most, said.type == "Integer"))
    if not found:
        raise AuditError(
            "no column can be moved: it needs one of numbers that differ, that is not among fixedColumns, "
            "and for which spec.inputs lists no values"
        )
    return found


@dataclass(frozen=True)
class Subjects:
    """What rows are moved of, and who answers them.

    Attributes:
        table: that the rows are of.
        label: place of the column with the truth.
        models: the one that is audited and, where there is one, the one to compare with.
        drawn: the rows.
        moves: the columns that may be moved.
    """

    table: Table
    label: int
    models: tuple[Answering, ...]
    drawn: Drawn
    moves: tuple[Movable, ...]


def subjects(task: AuditTask, asked: Smoothing | Attack, model: Path, baseline: Path, data: Path) -> Subjects:
    """Load the models, draw the rows, and find what may be moved.

    Args:
        task: which models and which table.
        asked: how many rows, and which columns stay.
        model: directory of the model.
        baseline: likewise of the one to compare with, where the task names one.
        data: directory of the table.

    Raises:
        AuditError: where the table or the model does not fit the task.
        LoadError: where a model cannot be loaded.
    """
    table = Table(data / task.file, task.dataDigest)
    label = table.place(task.label)
    models = [Answering(model, task.digest, task, table)]
    if task.baseline is not None:
        models.append(Answering(baseline, task.baseline, task, table))
    columns = {number: name for each in models for number, name in each.reader.numbers.items()}
    drawn = draw(table, asked.rows, columns)
    moves = movable(table, drawn, columns, task.inputs, asked.fixedColumns)
    return Subjects(table, label, tuple(models), drawn, tuple(moves))
