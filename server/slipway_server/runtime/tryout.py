"""Measures a model with rows of its clients, where it refuses every row that one could make up.

An encoder that knows no other categories than those it was trained with is such a model. What a client sent
and the model took stands in for whatever is no float; floats are made up all the same, so that sums are tried
with many values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np

from slipway_server.protocol.tensors import Array
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import MAX_ROWS, Profile, measure_with

#: So many requests, and where the model takes no floats so many different rows, are waited for.
_REQUESTS = 16
_DIFFERENT_ROWS = 16
_MAX_BYTES = 64 * 1024


class Tryout:
    """Collects rows; tells once, from a thread of its own, what was found."""

    def __init__(self, model: Model, max_rows: int, found: Callable[[Profile], None]) -> None:
        """``max_rows`` bounds the rows of a call that requests share."""
        self._model = model
        self._max_rows = max_rows
        self._found = found
        self._names = [name for name, spec in model.inputs.items() if not spec.datatype.is_float]
        self._needed = 1 if len(self._names) < len(model.inputs) else _DIFFERENT_ROWS
        self._rows: dict[str, list[Array]] = {}
        self._requests = 0
        self._lock = threading.Lock()
        self._over = not self._names

    def add(self, inputs: Mapping[str, Array]) -> None:
        """Inputs that the model took; from any thread."""
        if self._over or sum(inputs[name].nbytes for name in self._names) > _MAX_BYTES:
            return
        with self._lock:
            if self._over:
                return
            self._requests += 1
            for row in range(min(MAX_ROWS, len(inputs[self._names[0]]))):
                parts = [inputs[name][row : row + 1] for name in self._names]
                if len(self._rows) < MAX_ROWS:
                    self._rows[repr([part.tolist() for part in parts])] = [part.copy() for part in parts]
            if self._requests >= _REQUESTS and len(self._rows) >= self._needed:
                self._over = True
                threading.Thread(target=self._measure, name="tryout", daemon=True).start()

    def _measure(self) -> None:
        columns = zip(*self._rows.values(), strict=True)
        rows = {name: np.concatenate(column) for name, column in zip(self._names, columns, strict=True)}
        self._rows.clear()
        self._found(measure_with(self._model, rows, self._max_rows))
