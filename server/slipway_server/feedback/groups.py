"""Which group of each sensitive attribute a row belongs to.

Groups are those that the resource names; anything else is ``other``. No value of a request leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from slipway_server.monitoring.outcomes import text_of
from slipway_server.settings import SensitiveAttribute

OTHER = "other"
Groups = tuple[tuple[str, str], ...]


class GroupReader:
    """Reads the attributes of rows from inputs of the model, or from parameters or headers of the request."""

    def __init__(self, attributes: Sequence[SensitiveAttribute]) -> None:
        self._attributes = attributes
        self._names = [frozenset(each.groups) for each in attributes]
        self._headers = [each.header.lower().encode() for each in attributes]
        #: Parameters that say something of the rows of their request.
        self.parameters = frozenset(each.parameter for each in attributes if each.parameter)

    def read(
        self,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        header: Callable[[bytes], bytes | None],
        start: int,
        rows: int,
    ) -> list[Groups]:
        """For each of ``rows`` rows from ``start`` on, the pairs of attribute and group.

        A parameter holds one value for all rows of its request, or a list with one for each; a header, which
        ``header`` gives by its name in lower case, holds one for all.
        """
        columns: list[list[str]] = []
        for each, names, asked in zip(self._attributes, self._names, self._headers, strict=True):
            values: Sequence[Any]
            if asked:
                values = [(header(asked) or b"").decode("utf-8", "replace").strip()] * rows
            elif each.parameter:
                values = _values(parameters.get(each.parameter), rows)
            else:
                values = _column(inputs.get(each.tensor), each.column, start, rows)
            texts = map(text_of, values)
            columns.append([text if text in names else OTHER for text in texts])
        names_of = [each.name for each in self._attributes]
        return [tuple(zip(names_of, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(given: object, rows: int) -> list[Any]:
    if isinstance(given, list):
        return given if len(given) == rows else [None] * rows
    return [given] * rows


def _column(array: Any, column: int, start: int, rows: int) -> list[Any]:
    if array is None or len(array) < start + rows:
        return [None] * rows
    table = np.asarray(array[start : start + rows]).reshape(rows, -1)
    return table[:, column].tolist() if column < table.shape[1] else [None] * rows
