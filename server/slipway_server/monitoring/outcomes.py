"""What the model said of each row, as feedback speaks of it: a class by name, or a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_server.protocol.tensors import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One for each row."""

    texts: list[str]
    is_class: bool


class OutcomeReader:
    """Finds the output that counts: the first with one class a row, else with one number, else the likeliest
    class of a table of scores, whose name is its column.

    A client that asks for other outputs alone gets no outcome.
    """

    def __init__(self, outputs: Mapping[str, TensorSpec]) -> None:
        self._outputs = sorted(outputs.values(), key=lambda spec: spec.datatype.is_float)

    @property
    def tells_classes(self) -> bool:
        """Whether an outcome is a class, where a client asks for all outputs."""
        narrow = [spec for spec in self._outputs if spec.shape in ((-1,), (-1, 1))]
        return not narrow or not narrow[0].datatype.is_float

    def read(self, names: Sequence[str], answers: Sequence[Any], rows: int) -> Outcomes | None:
        """Of a batch: the model's raw answers for the outputs in ``names``, of so many rows."""
        given = dict(zip(names, answers, strict=True))
        for spec in self._outputs:
            answer = given.get(spec.name)
            if answer is None or isinstance(answer, list):
                continue
            array = np.asarray(answer)
            if array.ndim and len(array) == rows and array.size == rows:
                return Outcomes(_texts(array), not spec.datatype.is_float)
        for spec in self._outputs:
            answer = given.get(spec.name)
            if isinstance(answer, list) and len(answer) == rows:
                return Outcomes([text_of(max(row, key=row.__getitem__)) for row in answer], True)
            if answer is None or not spec.datatype.is_float or not np.size(answer):
                continue
            if np.ndim(answer) == 2 and len(answer) == rows:
                return Outcomes([str(column) for column in np.argmax(answer, axis=1).tolist()], True)
        return None


def text_of(value: object) -> str:
    """A class or a group as it is named: ``1`` for 1, 1.0 and true."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _texts(array: Array) -> list[str]:
    values = array.reshape(-1).tolist()
    if array.dtype.kind == "f":
        return [repr(value) for value in values]
    return [text_of(value) for value in values]
