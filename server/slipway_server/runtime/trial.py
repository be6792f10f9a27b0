"""Tries a model on empty tensors when it is loaded.

Operators are free to crash on a tensor without elements, and some of onnxruntime's do, or never return; no
request should be the one that finds out. So the model is run on empty tensors in a child process, which may
die of it, and only what it survived is taken from clients. An error is no death: a client is told of it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from slipway_server.protocol.tensors import Array
from slipway_server.runtime.empties import Empties, Pattern, pattern_of
from slipway_server.runtime.forked import fork
from slipway_server.runtime.model import Model

log = logging.getLogger(__name__)

#: So many combinations of empty dimensions are tried, for so many seconds altogether.
_MOST_TRIED = 16
_PATIENCE_SECONDS = 2.0
#: A case that takes longer hangs.
_CASE_SECONDS = 3.0


class Trial:
    """Runs a model on empty tensors in a child process, beside whatever is done until :meth:`result`.

    Only on the CPU, which outlives a fork; and while no other thread runs the model, whose locks a child
    would find locked for good.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cases = list(islice(_cases(model), _MOST_TRIED if model.is_on_cpu else 0))
        self._deadline = time.perf_counter() + _PATIENCE_SECONDS
        self._child = _fork(model, self._cases) if self._cases else None

    def result(self) -> Empties:
        """What it survived, once all is tried, or took too long."""
        survived: list[Pattern] = []
        cases, child = self._cases, self._child
        while child is not None:
            count = child.wait()
            survived += [pattern_of(inputs, self._model.taken) for inputs in cases[:count]]
            if count == len(cases):
                break
            shapes = {name: list(array.shape) for name, array in cases[count].items()}
            log.info("the model does not survive empty tensors", extra={"shapes": shapes})
            cases = cases[count + 1 :]
            late = time.perf_counter() > self._deadline
            child = _fork(self._model, cases) if cases and not late else None
        return Empties(self._model.taken, survived)


def _cases(model: Model) -> Iterator[dict[str, Array]]:
    """Inputs with some dimensions of 0, the likely ones first.

    Dimensions of one name have one size; so have first dimensions without a name, which count rows.
    """
    groups: dict[object, list[tuple[str, int]]] = {}
    for name, shape in model.symbols.items():
        for axis, size in enumerate(shape or (None,)):
            if not isinstance(size, int):
                groups.setdefault(size or ("rows" if axis == 0 else (name, axis)), []).append((name, axis))
    rows = tuple(key for key, places in groups.items() if any(axis == 0 for _, axis in places))
    if rows:
        yield _emptied(model, [place for key in rows for place in groups[key]])
    for size in range(1, len(groups) + 1):
        for keys in combinations(groups, size):
            if keys != rows:
                yield _emptied(model, [place for key in keys for place in groups[key]])


def _emptied(model: Model, places: Sequence[tuple[str, int]]) -> dict[str, Array]:
    inputs = model.zeros()
    for name in {name for name, _ in places}:
        shape = list(inputs[name].shape) or [0]
        for _, axis in (place for place in places if place[0] == name):
            shape[axis] = 0
        inputs[name] = np.empty(shape, inputs[name].dtype)
    return inputs


@dataclass(frozen=True, slots=True)
class _Child:
    """Writes a byte for each case that it survived."""

    pid: int
    survived: int

    def wait(self) -> int:
        """How many cases it survived, in their order."""
        with open(self.survived, "rb") as pipe:
            count = len(pipe.read())
        os.waitpid(self.pid, 0)
        return count


def _fork(model: Model, cases: Sequence[Mapping[str, Array]]) -> _Child | None:
    def try_each(pipe: int) -> None:
        model.guard = None
        for inputs in cases:
            signal.setitimer(signal.ITIMER_REAL, _CASE_SECONDS)
            with suppress(Exception):
                model.run_all(inputs)
            os.write(pipe, b".")

    child = fork(try_each)
    return None if child is None else _Child(*child)
