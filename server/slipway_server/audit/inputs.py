"""Which column of a table goes where in a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slipway.contract import Inputs
from slipway.names import LARGEST_PROFILE, PROFILE_FILE
from slipway_server.audit.table import AuditError, Table, numbers
from slipway_server.protocol.tensors import Array, Datatype, TensorSpec

#: A column's name, the input that it goes into, and its place in a row of that.
Place = tuple[str, str, int]


@dataclass(frozen=True)
class _Input:
    """An input, and for each place in a row of it the column of the table: its name and number."""

    spec: TensorSpec
    columns: tuple[tuple[str, int], ...]


class InputReader:
    """Makes a model's inputs of rows of a table."""

    def __init__(self, table: Table, specs: Mapping[str, TensorSpec], places: Sequence[Place]) -> None:
        """Raises :class:`AuditError` where an input has a place that no column of the table goes to."""
        self._inputs = [_input(table, spec, places) for spec in specs.values()]

    def read(self, rows: Sequence[Sequence[str]]) -> dict[str, Array]:
        """The inputs of some rows. Raises :class:`AuditError` for a cell that the model cannot take."""
        return {each.spec.name: _filled(each, rows) for each in self._inputs}

    @property
    def numbers(self) -> dict[int, str]:
        """Columns of the table that go where the model takes numbers: names by their place in a row."""
        return {
            number: name
            for each in self._inputs
            if _takes_numbers(each.spec)
            for name, number in each.columns
        }

    def copies(self, row: Sequence[str], moved: Mapping[int, Array], count: int) -> dict[str, Array]:
        """The inputs of so many copies of a row, with values of their own in some columns of numbers."""
        found = {name: np.repeat(array, count, axis=0) for name, array in self.read([row]).items()}
        for each in self._inputs:
            if not _takes_numbers(each.spec):
                continue
            flat = found[each.spec.name].reshape(count, -1)
            for place, (_, number) in enumerate(each.columns):
                if number in moved:
                    flat[:, place] = _as(moved[number], flat.dtype)
        return found


def places_of(
    directory: Path, digest: str, inputs: Inputs | None, specs: Mapping[str, TensorSpec]
) -> list[Place]:
    """Where columns go: by the profile next to the model, else by ``spec.inputs``, else by inputs' names."""
    path = directory / PROFILE_FILE
    if path.is_file() and path.stat().st_size <= LARGEST_PROFILE:
        document = orjson.loads(path.read_bytes())
        if document.get("modelDigest") == digest:
            return [(each["name"], each["tensor"], each["column"]) for each in document["features"]]
    if inputs is not None:
        return [(each.name, each.tensor, each.column) for each in inputs.columns]
    return [(name, name, 0) for name in specs]


def _input(table: Table, spec: TensorSpec, places: Sequence[Place]) -> _Input:
    shape = spec.shape or ()
    width = prod(shape[1:])
    if not shape or shape[0] != -1 or width < 1:
        raise AuditError(f"the model's input {spec.name!r} does not take rows: its shape is {list(shape)}")
    named = {place: column for column, tensor, place in places if tensor == spec.name}
    missing = [place for place in range(width) if place not in named]
    if missing:
        raise AuditError(
            f"nothing says which column of the table is value {missing[0]} of the model's input "
            f"{spec.name!r}: name all its columns in spec.inputs, or make a profile with 'slipway profile'"
        )
    return _Input(spec, tuple((named[place], table.place(named[place])) for place in range(width)))


def _takes_numbers(spec: TensorSpec) -> bool:
    return spec.datatype not in (Datatype.BYTES, Datatype.BOOL)


def _as(values: Array, dtype: np.dtype[Any]) -> Array:
    """The nearest that the type has."""
    if dtype.kind == "f":
        return values
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max)


def _filled(each: _Input, rows: Sequence[Sequence[str]]) -> Array:
    dtype = np.dtype(each.spec.datatype.dtype)
    shape = [len(rows), *(each.spec.shape or ())[1:]]
    filled = np.empty([len(rows), len(each.columns)], dtype)
    for place, (name, number) in enumerate(each.columns):
        cells = [row[number] for row in rows]
        if each.spec.datatype is Datatype.BYTES:
            filled[:, place] = cells
            continue
        values = np.array(numbers(cells, name))
        if dtype.kind != "f" and not np.isfinite(values).all():
            raise AuditError(
                f"column {name!r} has empty cells, and the model takes whole numbers there: fill them"
            )
        filled[:, place] = values
    return filled.reshape(shape)
