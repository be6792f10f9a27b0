"""What a model gains from batches, measured once when it is loaded, and whether batches change its answers.

Rows of different requests run in one call only where every answer has the same bits as onnxruntime's answer
to the request alone. That is tried on random rows in batches of many sizes; a model that differs anywhere, or
whose shapes leave open what a row is, runs each request on its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway_server.protocol.tensors import Array, Datatype, TensorSpec
from slipway_server.runtime.model import Model, ModelInputError, Run

log = logging.getLogger(__name__)

#: The most rows that requests share a call for; a larger request runs alone.
MAX_ROWS = 128
#: Sizes at which a batch is compared with single rows: where kernels change their way of working.
_SIZES = (2, 3, 5, 8, 13, 16, 21, 32, 33, 64, 100, MAX_ROWS)
_CURVE = (1, 8, 32)
#: A row in a batch must cost less than this part of a row alone to be worth waiting for others.
_GAIN = 0.8
#: A call of one row that takes longer belongs on a thread of its own, so that the event loop stays free.
INLINE_SECONDS = 0.001
#: The same for a whole batch, of which there is one where there would be many single calls.
INLINE_BATCH_SECONDS = 0.005
#: No model is measured for longer than about this; probing must not keep a large one from getting ready.
_PATIENCE_SECONDS = 2.0
#: Operators by which the values of a request decide how long it takes, as ``NodeProto.op_type`` holds them.
_OPEN_ENDED = tuple(b"\x22%c%b" % (len(name), name) for name in (b"Loop", b"Scan", b"If", b"SequenceMap"))
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """How to run a model.

    ``batches``: rows of several requests may share one call of ``max_rows`` at most. ``inline``: a call is so
    short that it may run on the event loop. ``curve`` has the seconds of one call by its rows. ``untried``:
    the model refuses made-up rows, so that it has to be measured with a client's.
    """

    batches: bool = False
    inline: bool = False
    max_rows: int = 1
    curve: Mapping[int, float] | None = None
    untried: bool = False

    @property
    def row_seconds(self) -> float:
        """About what one more row costs."""
        return 0.0 if not self.curve else min(seconds / rows for rows, seconds in self.curve.items())


def measure(model: Model, path: Path, max_rows: int = MAX_ROWS) -> Profile:
    """The profile of a model that is warm; runs it for two seconds or so at most.

    Requests share calls of ``max_rows`` rows at most; with 1 they share none, and batches are not tried.
    """
    began = time.perf_counter()
    open_ended = _has_open_ended_operators(path)
    try:
        found = _measure(model, open_ended, {}, max_rows)
    except Exception as error:
        # It may rightly refuse values that nobody ever sends; then each request runs alone, on a thread.
        log.debug("the model could not be measured", extra={"error": str(error)[:300]})
        refused = isinstance(error, ModelInputError) and _takes_rows(model.inputs.values())
        found = Profile(max_rows=max_rows, untried=refused and not open_ended and max_rows > 1)
    log.debug("measured", extra={"profile": found, "seconds": time.perf_counter() - began})
    return found


def measure_with(model: Model, rows: Mapping[str, Array], max_rows: int = MAX_ROWS) -> Profile:
    """As :func:`measure` for an ``untried`` model: ``rows`` are some that it takes, of some of its inputs."""
    try:
        return _measure(model, False, rows, max_rows)
    except Exception as error:
        log.debug("the model could not be measured", extra={"error": str(error)[:300]})
        return Profile()


def _measure(model: Model, open_ended: bool, given: Mapping[str, Array], max_rows: int) -> Profile:
    if not _takes_rows(model.inputs.values()):
        alone = _seconds(model, model.zeros())
        return Profile(inline=alone < INLINE_SECONDS and not open_ended, curve={1: alone})
    rows = _random_rows(model.inputs.values())
    for name, values in given.items():
        rows[name] = values[np.arange(MAX_ROWS) % len(values)]
    curve = {1: _seconds(model, _cut(rows, 0, 1))}
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    for size in sorted({min(size, max_rows) for size in _CURVE[1:]}):
        if size * curve[1] < _PATIENCE_SECONDS / 4:
            curve[size] = _seconds(model, _cut(rows, 0, size))
    last = max(curve)
    gains = last > 1 and curve[last] / last < _GAIN * curve[1]
    if open_ended or not gains or not _same_bits(model, rows, max_rows, deadline):
        return Profile(inline=curve[1] < INLINE_SECONDS and not open_ended, curve=curve)
    return Profile(True, curve[last] < INLINE_BATCH_SECONDS, max_rows, curve)


def _takes_rows(specs: Iterable[TensorSpec]) -> bool:
    """Whether the first dimension of every input, and no other one, is free."""
    return all(spec.shape is not None and spec.is_batched and -1 not in spec.shape[1:] for spec in specs)


def _has_open_ended_operators(path: Path) -> bool:
    # A false alarm, from a weight that happens to look so, costs a thread hop and nothing else.
    tail = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if any(mark in tail + piece for mark in _OPEN_ENDED):
                return True
            tail = piece[-16:]
    return False


def _random_rows(specs: Iterable[TensorSpec]) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {spec.name: _random(spec, random) for spec in specs}


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = (MAX_ROWS, *(spec.shape or ())[1:])
    if spec.datatype is Datatype.BYTES:
        return random.choice(np.array(["", "a", "b", "unknown"], dtype=object), shape)
    if spec.datatype is Datatype.BOOL:
        return random.random(shape) < 0.5
    if spec.datatype.is_float:
        # Of many magnitudes: sums that come in another order then differ in their bits.
        wide = random.normal(size=shape) * 10.0 ** random.integers(-2, 3, shape)
        return wide.astype(spec.datatype.dtype)
    return random.integers(0, 4, shape).astype(spec.datatype.dtype)


def _cut(rows: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in rows.items()}


def _seconds(model: Model, inputs: Mapping[str, Array]) -> float:
    """Seconds of one call: the least of a few, since the machine may be busy with other things."""
    names, least, spent = list(model.output_names), float("inf"), 0.0
    for _ in range(12):
        began = time.perf_counter()
        model.run_raw(inputs, names, Run())
        seconds = time.perf_counter() - began
        least, spent = min(least, seconds), spent + seconds
        if spent > _PATIENCE_SECONDS / 40:
            break
    return least


def _same_bits(model: Model, rows: Mapping[str, Array], max_rows: int, deadline: float) -> bool:
    """Whether each row gets the same bits in batches of all sizes as alone."""
    names = list(model.output_names)
    single = [_answers(model, _cut(rows, row, row + 1), names) for row in range(MAX_ROWS)]
    for size in (*(size for size in _SIZES if size < max_rows), max_rows):
        if time.perf_counter() > deadline:
            return False
        start = (size * 7) % (MAX_ROWS - size + 1)
        answers = _answers(model, _cut(rows, start, start + size), names)
        for position, whole in enumerate(answers):
            if whole.ndim == 0 or len(whole) != size:
                return False
            for row in range(size):
                alone = single[start + row][position]
                if alone.shape != (1, *whole.shape[1:]) or not _equal(alone[0:1], whole[row : row + 1]):
                    return False
    return True


def _answers(model: Model, inputs: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    answers = model.run_raw(inputs, names, Run())
    return [model.tensor(name, answer).array for name, answer in zip(names, answers, strict=True)]


def _equal(one: Array, other: Array) -> bool:
    if one.dtype.hasobject:
        return bool(np.array_equal(one, other))
    return bool(one.tobytes() == other.tobytes())
