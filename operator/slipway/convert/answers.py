"""What a model answers, and how far two models' answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.conversion import Compared
from slipway.convert.errors import ConvertError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """Of some rows.

    Attributes:
        labels: one a row, of a model that tells classes apart.
        numbers: (rows, …): probabilities by class, scores or values.
        are_probabilities: their differences are absolute.
        margins: (rows, …): what decided about the label, where that is no answer.
        scales: (rows, …), as numbers: what differences are relative to where it exceeds 1; the numbers
            themselves where it is None.
        labels_at: the place of the network's output that has the labels.
    """

    labels: Array | None
    numbers: Array | None
    are_probabilities: bool = False
    margins: Array | None = None
    scales: Array | None = None
    labels_at: int | None = None

    def __len__(self) -> int:
        return len(self.labels if self.labels is not None else self.numbers)  # type: ignore[arg-type]

    def rows(self, start: int, stop: int) -> Answers:
        part = slice(start, stop)
        return Answers(
            None if self.labels is None else self.labels[part],
            None if self.numbers is None else self.numbers[part],
            self.are_probabilities,
            None if self.margins is None else self.margins[part],
            None if self.scales is None else self.scales[part],
            self.labels_at,
        )


@dataclass(frozen=True)
class Differences:
    """Row by row.

    Attributes:
        labels: whether they differ.
        numbers: by how much they differ, 0 or more; infinite where only one is a finite number.
        beyond: whether that is more than the tolerance allows.
    """

    labels: Array
    numbers: Array
    beyond: Array

    def summed_up(self, refused: int) -> Compared:
        largest = float(self.numbers.max(initial=0.0))
        return Compared(
            rows=len(self.labels),
            labelsDiffer=int(self.labels.sum()),
            largestDifference=largest if np.isfinite(largest) else None,
            beyond=int(self.beyond.sum()),
            refused=refused,
        )


def answers_of(outputs: Sequence[Array], rows: int) -> Answers:
    """Of a network: the first output with one whole number a row has the labels, all others are numbers.

    What adds up to a number near 0 may have been large: differences are relative to the largest number of the
    same output and row.

    Raises:
        ConvertError: for an output that does not have the rows first.
    """
    labels, labels_at, numbers, scales = None, None, [], []
    for at, output in enumerate(outputs):
        if not output.ndim or len(output) != rows:
            raise ConvertError(
                f"output {at} of the model has the shape {list(output.shape)} for {rows} rows: convert a "
                "model whose outputs have the rows as their first dimension"
            )
        if labels is None and output.size == rows and output.dtype.kind in "iub":
            labels, labels_at = output.reshape(rows), at
        else:
            table = output.reshape(rows, -1)
            sizes = np.abs(np.where(np.isfinite(table), table, 0).astype(np.float64))
            largest = sizes.max(axis=1, initial=1.0, keepdims=True)
            numbers.append(table)
            scales.append(np.broadcast_to(largest, table.shape))
    if not numbers:
        return Answers(labels, None, labels_at=labels_at)
    return Answers(
        labels,
        np.concatenate(numbers, axis=1),
        margins=numbers[0] / scales[0],
        scales=np.concatenate(scales, axis=1),
        labels_at=labels_at,
    )


def differences(original: Answers, converted: Answers, tolerance: float) -> Differences:
    """Of the same rows. A label that differs is beyond the tolerance, unless the original's own numbers
    are a tie within it, and the converted model's agree with them."""
    rows = len(original)
    numbers = np.zeros(rows)
    if original.numbers is not None and converted.numbers is not None:
        scales = 1.0 if original.are_probabilities else original.scales
        numbers = _distance(original.numbers, converted.numbers, scales)
    labels = np.zeros(rows, bool)
    if original.labels is not None and converted.labels is not None:
        labels = np.array(
            [not _same(*pair) for pair in zip(original.labels, converted.labels, strict=True)], bool
        )
    margins = original.numbers if original.margins is None else original.margins
    ties = np.zeros(rows, bool) if margins is None else _are_ties(margins, tolerance)
    return Differences(labels, numbers, (numbers > tolerance) | (labels & ~ties))


def _distance(original: Array, converted: Array, scales: Array | float | None) -> Array:
    with np.errstate(all="ignore"):
        # What the output's datatype cannot tell apart is no difference.
        expected = original.astype(converted.dtype).astype(np.float64)
        found = converted.astype(np.float64)
        apart = np.abs(found - expected)
        apart = apart / np.maximum(1.0, np.abs(expected) if scales is None else scales)
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    apart = np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))
    largest: Array = apart.reshape(len(apart), -1).max(axis=1, initial=0.0)
    return largest


def _are_ties(numbers: Array, tolerance: float) -> Array:
    table = np.sort(numbers.reshape(len(numbers), -1), axis=1)
    with np.errstate(all="ignore"):
        ties: Array = (
            np.abs(table[:, 0]) <= tolerance
            if table.shape[1] == 1
            else table[:, -1] - table[:, -2] <= 2 * tolerance
        )
    return ties


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return str(one) == str(other)
    return bool(float(one) == float(other))
