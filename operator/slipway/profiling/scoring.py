"""What the model answers: on all rows, on one made-up row, and with a column shuffled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from slipway.names import EXTENSION_OPERATORS
from slipway.profile import Example, ProfileError, Tensor
from slipway.profiling.columns import Column, Progress

Array = npt.NDArray[Any]

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
_BATCH_ROWS = 8192
#: Rows that each column is shuffled on, to see how much it matters.
_SHUFFLED_ROWS = 1000
#: How far a row of probabilities may be from 1 together.
_PROBABILITY_SLACK = 1e-3


@dataclass(frozen=True)
class Input:
    """An input tensor of the model; ``width`` is the values of one row."""

    name: str
    datatype: str
    width: int

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """None for text."""
        return None if self.datatype == "BYTES" else np.dtype(_DTYPES[self.datatype])


@dataclass(frozen=True)
class Place:
    """Where a column goes: a position in a row of an input tensor."""

    input: Input
    position: int
    column: str


@dataclass
class Answers:
    """Of all rows, by output: one value a row, or the confidence where the output is probabilities."""

    values: dict[str, Array] = field(default_factory=dict)
    confidence: dict[str, Array] = field(default_factory=dict)


class Scorer:
    """A model on disk, and how rows become its inputs."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`ProfileError` for a model that cannot be loaded or takes no rows."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if any(domain in str(error) for domain in EXTENSION_OPERATORS):
                raise ProfileError(
                    f"{path} takes pictures or texts as they are, which are no columns to count: serve it "
                    "without a profile. Errors and latency are watched as ever, and with labels that come "
                    "back (spec.monitoring.performance) how often it is right"
                ) from None
            raise ProfileError(f"{path} cannot be loaded: {str(error)[:300]}") from None
        self.inputs = [_input(node) for node in self._session.get_inputs()]
        self._output_types = {node.name: node.type for node in self._session.get_outputs()}
        self.output_names = list(self._output_types)

    def places(self, columns: Sequence[str], put_aside: Sequence[str], called: str) -> list[Place]:
        """Which column of the data goes where; ``put_aside`` are taken only where the model needs them.

        Raises :class:`ProfileError` where that is not clear.
        """
        if len(self.inputs) > 1 or self.inputs[0].name in columns:
            wide = [each.name for each in self.inputs if each.width != 1]
            if wide:
                raise ProfileError(
                    f"the model has {len(self.inputs)} inputs, and {wide[0]!r} takes several values a row: "
                    "export it with one input for each column, or one input for all"
                )
            lost = [each.name for each in self.inputs if each.name not in columns]
            if lost:
                raise ProfileError(
                    f"the model's input {lost[0]!r} is no column of {called}; "
                    f"it has {', '.join(columns[:30])}"
                )
            return [Place(each, 0, each.name) for each in self.inputs]
        only = self.inputs[0]
        for names in (list(columns), [name for name in columns if name not in put_aside]):
            if len(names) == only.width:
                return [Place(only, position, name) for position, name in enumerate(names)]
        raise ProfileError(
            f"the model's input {only.name!r} takes {only.width} values a row, but {called} has "
            f"{len(columns)} columns for it: name those in --labels, --sensitive and --ignore that it does "
            "not take"
        )

    def batch(
        self, places: Sequence[Place], columns: Mapping[str, Column], start: int, stop: int
    ) -> dict[str, Array]:
        """Rows from ``start`` to ``stop`` as the model's inputs."""
        inputs: dict[str, Array] = {}
        for each in self.inputs:
            dtype = np.dtype(object) if each.dtype is None else each.dtype
            table = np.empty((stop - start, each.width), dtype)
            for place in places:
                if place.input is each:
                    table[:, place.position] = columns[place.column].rows(start, stop)
            inputs[each.name] = table
        return inputs

    def score(
        self, places: Sequence[Place], columns: Mapping[str, Column], rows: int, progress: Progress
    ) -> Answers:
        """The answers to all rows."""
        parts: list[Answers] = []
        for start in range(0, rows, _BATCH_ROWS):
            stop = min(rows, start + _BATCH_ROWS)
            parts.append(self.answers(self.batch(places, columns, start, stop)))
            progress(stop - start)
        whole = Answers()
        for name in parts[0].values:
            whole.values[name] = np.concatenate([part.values[name] for part in parts])
        for name in [name for name in parts[0].confidence if all(name in part.confidence for part in parts)]:
            whole.confidence[name] = np.concatenate([part.confidence[name] for part in parts])
        return whole

    def answers(self, inputs: Mapping[str, Array]) -> Answers:
        """Of one batch."""
        rows = len(next(iter(inputs.values())))
        found = Answers()
        for name, answer in zip(self.output_names, self.run(inputs), strict=True):
            table = np.asarray(answer)
            if table.ndim < 1 or len(table) != rows:
                continue
            table = table.reshape(rows, -1)
            if table.shape[1] == 1:
                found.values[name] = table[:, 0]
            elif table.dtype.kind == "f" and _are_probabilities(table):
                found.confidence[name] = table.max(axis=1)
        return found

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """All outputs; probabilities by class (ZipMap) as a table with one column for each class."""
        try:
            answers = self._session.run(self.output_names, dict(inputs))
        except Exception as error:
            raise ProfileError(f"the model refuses rows of the data: {str(error)[:300]}") from None
        return [
            np.array([list(row.values()) for row in answer], np.float32)
            if isinstance(answer, list) and answer and isinstance(answer[0], dict)
            else np.asarray(answer)
            for answer in answers
        ]

    def importances(self, places: Sequence[Place], columns: Mapping[str, Column], rows: int) -> list[float]:
        """For each place, how much the answer changes where its column is shuffled: the mean over rows of
        the change of a score or the confidence, or the share of rows that get another class."""
        count = min(rows, _SHUFFLED_ROWS)
        inputs = self.batch(places, columns, 0, count)
        before, random = self.answers(inputs), np.random.default_rng(0)
        found = []
        for place in places:
            table = inputs[place.input.name]
            kept = table[:, place.position].copy()
            table[:, place.position] = random.permutation(kept)
            found.append(_change(before, self.answers(inputs)))
            table[:, place.position] = kept
        return found

    def example(self, places: Sequence[Place], middles: Mapping[str, Any]) -> Example:
        """A row of each column's middle value, and the answer to it."""
        inputs: dict[str, Array] = {}
        for each in self.inputs:
            dtype = np.dtype(object) if each.dtype is None else each.dtype
            mine = [place for place in places if place.input is each]
            row = [middles[place.column] for place in sorted(mine, key=lambda one: one.position)]
            inputs[each.name] = np.array([row], dtype)
        kinds = {each.name: each.datatype for each in self.inputs}
        given = tuple(_tensor(name, kinds[name], array) for name, array in inputs.items())
        outputs = tuple(
            _tensor(name, _DATATYPES.get(self._output_types[name], "FP32"), answer)
            for name, answer in zip(self.output_names, self.run(inputs), strict=True)
        )
        return Example(inputs=given, outputs=outputs)


def _input(node: Any) -> Input:
    datatype = _DATATYPES.get(node.type)
    sizes = list(node.shape)
    if datatype is None or not sizes or isinstance(sizes[0], int):
        raise ProfileError(f"the model's input {node.name!r} does not take rows: its shape is {sizes}")
    if any(not isinstance(size, int) for size in sizes[1:]):
        raise ProfileError(f"the model's input {node.name!r} leaves open how many values a row has: {sizes}")
    return Input(node.name, datatype, int(np.prod(sizes[1:], dtype=int)))


def _are_probabilities(table: Array) -> bool:
    # A row of which nothing is known says nothing of the output.
    table = table[~np.isnan(table).any(axis=1)]
    inside = bool((table >= 0).all() and (table <= 1 + _PROBABILITY_SLACK).all())
    return inside and bool((np.abs(table.sum(axis=1) - 1) <= _PROBABILITY_SLACK).all())


def _change(before: Answers, after: Answers) -> float:
    changes = [0.0]
    for name in before.confidence.keys() & after.confidence.keys():
        confidence = before.confidence[name]
        changes.append(float(np.mean(np.nan_to_num(np.abs(after.confidence[name] - confidence)))))
    for name, values in before.values.items():
        if values.dtype.kind == "f":
            changes.append(float(np.mean(np.nan_to_num(np.abs(after.values[name] - values)))))
        else:
            changes.append(float(np.mean(after.values[name] != values)))
    return max(0.0, *changes) if all(np.isfinite(changes)) else 0.0


def _tensor(name: str, datatype: str, array: Array) -> Tensor:
    data = tuple(
        None if isinstance(value, float) and not np.isfinite(value) else value
        for value in array.reshape(-1).tolist()
    )
    return Tensor(name=name, datatype=datatype, shape=array.shape, data=data)
