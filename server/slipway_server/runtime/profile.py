"""What a model gains from batches, measured once when it is loaded, and whether batches change its answers.

Rows of different requests run in one call only where every answer has the same bits as onnxruntime's answer
to the request alone. Two things say so. The graph has to prove that no row depends on another
(:mod:`slipway_server.batching`): that holds for all values, of which no trial could try more than a few. What
it cannot say is whether a kernel adds up in another order when it is given more rows; that depends on their
number alone, so it is tried, in batches of many sizes and with values of the whole range of each type. (That
a kernel computes the last entries of a tensor otherwise than the rest is known to the proof.) A
model that fails either, or whose shapes leave open what a row is, runs each request on its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipway_server.batching.analysis import Verdict, judge
from slipway_server.protocol.tensors import Array, TensorSpec
from slipway_server.runtime.forked import said_by_child
from slipway_server.runtime.model import Model, ModelInputError
from slipway_server.runtime.rows import COUNT, cut, made_up
from slipway_server.runtime.run import Run

log = logging.getLogger(__name__)

#: The most rows that requests share a call for; a larger request runs alone.
MAX_ROWS = COUNT
#: Sizes at which a batch is compared with single rows: where kernels change their way of working, and every
#: number of rows that may be left over when they take up to 16 at once.
_SIZES = (*range(2, 18), 21, 32, 33, 64, 100, MAX_ROWS)
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


_ON = "on: rows are proved independent, and a trial of batches gave the same bits as single rows"
_UNTRIED = "not yet: rows are proved independent, but the model refuses made-up rows; requests will show"


@dataclass(frozen=True, slots=True)
class Profile:
    """How to run a model.

    ``batches``: rows of several requests may share one call of ``max_rows`` at most. ``inline``: a call is so
    short that it may run on the event loop. ``curve`` has the seconds of one call by its rows. ``untried``:
    the model refuses made-up rows, so that it has to be measured with a client's. ``why`` says what was
    decided about batches, and why.
    """

    batches: bool = False
    inline: bool = False
    max_rows: int = 1
    curve: Mapping[int, float] | None = None
    untried: bool = False
    why: str = "no model was measured"

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
    verdict = _judge(model, path, max_rows)
    try:
        found = _measure(model, open_ended, {}, max_rows, verdict)
    except Exception as error:
        # It may rightly refuse values that nobody ever sends; then each request runs alone, on a thread.
        log.debug("the model could not be measured", extra={"error": str(error)[:300]})
        refused = isinstance(error, ModelInputError) and verdict.apart and not open_ended
        why = verdict.why or (_UNTRIED if refused else "off: the model could not be measured")
        found = Profile(max_rows=max_rows, untried=refused, why=why)
    log.debug("measured", extra={"profile": found, "seconds": time.perf_counter() - began})
    return found


def measure_with(model: Model, rows: Mapping[str, Array], max_rows: int = MAX_ROWS) -> Profile:
    """As :func:`measure` for an ``untried`` model: ``rows`` are some that it takes, of some of its inputs."""
    try:
        return _measure(model, False, rows, max_rows, Verdict(True))
    except Exception as error:
        log.debug("the model could not be measured", extra={"error": str(error)[:300]})
        return Profile(why="off: the model could not be measured")


def _judge(model: Model, path: Path, max_rows: int) -> Verdict:
    if max_rows < 2:
        return Verdict(False, "off: switched off, or one row at most")
    if not _takes_rows(model.inputs.values()):
        return Verdict(False, "off: the inputs' shapes leave open what a row is")
    shapes = {name: spec.shape or () for name, spec in model.inputs.items()}
    verdict = judge(path, shapes, model.threads)
    return (
        verdict if verdict.apart else Verdict(False, f"off: rows are not proved independent: {verdict.why}")
    )


def _measure(
    model: Model, open_ended: bool, given: Mapping[str, Array], max_rows: int, verdict: Verdict
) -> Profile:
    if not _takes_rows(model.inputs.values()):
        alone = _seconds(model, model.zeros())
        inline = alone < INLINE_SECONDS and not open_ended
        return Profile(inline=inline, curve={1: alone}, why=verdict.why)
    rows = made_up(model.inputs.values())
    for name, spec in model.inputs.items():
        if spec.raw:
            rows[name][:] = model.blank(name)
    for name, values in given.items():
        rows[name] = values[np.arange(MAX_ROWS) % len(values)]
    curve = {1: _seconds(model, cut(rows, 0, 1))}
    for size in sorted({min(size, max_rows) for size in _CURVE[1:]}):
        if size * curve[1] < _PATIENCE_SECONDS / 4:
            curve[size] = _seconds(model, cut(rows, 0, size))
    last = max(curve)
    gains = last > 1 and curve[last] / last < _GAIN * curve[1]
    why = verdict.why
    if verdict.apart:
        why = _tried(model, rows, max_rows, given) if gains else "off: a batch takes no less time"
    if why:
        inline = curve[1] < INLINE_SECONDS and not open_ended
        return Profile(inline=inline, curve=curve, why=why)
    inline = curve[last] < INLINE_BATCH_SECONDS and not open_ended
    return Profile(True, inline, max_rows, curve, why=_ON)


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


def _tried(model: Model, rows: Mapping[str, Array], max_rows: int, given: Mapping[str, Array]) -> str:
    """Why batches are off, found by trying them; empty where each row got the same bits as alone.

    Values of the whole range of each type are tried too. Some kernels die of such, so a child does that:
    on the CPU, and before requests are taken. Where rows are ``given`` they stand in for made-up ones, and
    requests are taken already: then a model that may die runs elsewhere anyway.
    """
    odd = {**made_up(model.inputs.values(), wild=True), **{name: rows[name] for name in given}}
    if not given and model.is_on_cpu:

        def compare() -> str:
            model.guard = None
            return _difference(model, odd, max_rows) or "same"

        said = said_by_child(compare, 2 * _PATIENCE_SECONDS)
        if said is not None:
            return "" if said == "same" else f"off: a trial of batches {said}"
    found = _difference(model, rows, max_rows)
    if not found and given and len(given) < len(model.inputs) and (model.guard or not model.doubts):
        found = _difference(model, odd, max_rows)
    return f"off: a trial of batches {found}" if found else ""


def _difference(model: Model, rows: Mapping[str, Array], max_rows: int) -> str:
    """Where batches give other bits than single rows, or why that is not known; empty where they do not."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    names = list(model.output_names)
    single: list[list[Array]] = []
    taken: list[int] = []
    for row in range(MAX_ROWS):
        try:
            single.append(_answers(model, cut(rows, row, row + 1), names))
        except ModelInputError:
            # A client's would be refused as well.
            continue
        taken.append(row)
        if time.perf_counter() > deadline:
            return "took too long"
    if not taken:
        return "found no row that the model takes"
    places = np.arange(MAX_ROWS) % len(taken)
    pool = {name: array[np.array(taken)[places]] for name, array in rows.items()}
    try:
        alone = [np.concatenate(column) for column in zip(*single, strict=True)]
    except ValueError:
        return "found answers whose shape depends on the values"
    if any(len(column) != len(taken) for column in alone):
        return "found answers that are not one entry for each row"
    alone = [column[places] for column in alone]
    for size in (*(size for size in _SIZES if size < max_rows), max_rows):
        if time.perf_counter() > deadline:
            return "took too long"
        start = (size * 7) % (MAX_ROWS - size + 1)
        try:
            answers = _answers(model, cut(pool, start, start + size), names)
        except ModelInputError:
            return f"failed with {size} rows that the model takes one by one"
        for name, whole, column in zip(names, answers, alone, strict=True):
            if not _equal(whole, column[start : start + size]):
                return f"gave output {name!r} other bits with {size} rows than alone"
    return ""


def _answers(model: Model, inputs: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
    answers = model.run_raw(inputs, names, Run())
    found = [model.tensor(name, answer).array for name, answer in zip(names, answers, strict=True)]
    # Without an axis there is nothing to tell rows by, and nothing to join.
    return [array.reshape(-1) if array.ndim == 0 else array for array in found]


def _equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return bool(np.array_equal(one, other))
    return bool(one.tobytes() == other.tobytes())
