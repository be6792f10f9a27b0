"""Counts what models are asked and what they answer, in the bins of the profile, off the path of requests.

A batch that was answered is remembered as it is, which costs next to nothing; batches are counted together,
some hundred rows at a time, by a few calls of numpy. Counts are exact whole numbers.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from slipway.bins import MISSING, OTHER
from slipway_server.monitoring.reference import DROPPED, Bins, Reference, Watched
from slipway_server.monitoring.rules import Broken, Checker, refusal
from slipway_server.protocol.tensors import Array, TensorSpec

if TYPE_CHECKING:
    from slipway_server.errors import RequestError

log = logging.getLogger(__name__)

#: So many rows are counted at once, on whatever thread brought the last of them.
_ROWS_AT_ONCE = 512
#: A larger table is counted in pieces, which keeps what numpy makes of it in the processor's cache.
_PIECE_ROWS = 4096

_NOTHING = np.empty((0, 0))

_Batch = tuple[Mapping[str, Any], Sequence[str], Sequence[Any], Sequence[int], Sequence[int]]


class Monitor(Protocol):
    """Told of every batch that the model answered."""

    #: How many cohorts of callers it counts by; 0 where it does not.
    cohorts: int

    def add(
        self,
        inputs: Mapping[str, Array],
        names: Sequence[str],
        answers: Sequence[Any],
        rows: Sequence[int],
        cohorts: Sequence[int] = (),
    ) -> None: ...

    def flush(self) -> None: ...

    def refusals(self, inputs: Mapping[str, Array]) -> bool: ...

    def refuse(self, inputs: Mapping[str, Array], cohort: int = 0) -> RequestError | None: ...


class BinCounter:
    """A :class:`Monitor` that counts into ``counts``, one whole number for each slot of the reference.

    With cohorts so many numbers follow once for each of them, where what is judged is counted again.
    """

    def __init__(
        self,
        reference: Reference,
        specs: Mapping[str, TensorSpec],
        counts: memoryview[int],
        cohorts: int = 0,
    ) -> None:
        """Features that the model does not take as the profile says are not counted, which is logged."""
        self._counts = np.frombuffer(counts, np.int64)
        self.cohorts = cohorts
        self._slots = len(self._counts) // (1 + cohorts)
        self._reference = reference
        self._tables = _tables(reference.features, specs)
        self._outputs = [(each.tensor, _column(each.bins)) for each in reference.predictions]
        sure = reference.confidence
        self._confidence = None if sure is None else (sure.tensor, _Intervals([sure], np.dtype("<f4")))
        self._checker = Checker(reference.rules, specs) if reference.rules else None
        ruled = {each.column.tensor for each in reference.rules}
        self._inputs = sorted(ruled | {name for name, _ in self._tables})
        self._pending: deque[_Batch] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def add(
        self,
        inputs: Mapping[str, Array],
        names: Sequence[str],
        answers: Sequence[Any],
        rows: Sequence[int],
        cohorts: Sequence[int] = (),
    ) -> None:
        """Remember a batch: arrays by input, the model's raw answers for the outputs in ``names``, and the
        rows of each request, and of which cohort its caller is, if any is counted by."""
        if not any(rows):
            return
        self._pending.append((inputs, names, answers, rows, cohorts))
        self._rows += sum(rows)
        if self._rows >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Count what is remembered."""
        with self._lock:
            batches, self._rows = [], 0
            while self._pending:
                batches.append(self._pending.popleft())
            if not batches:
                return
            try:
                found = self._count(batches)
            except Exception:
                log.exception("rows could not be counted")
                self._drop("failed", sum(sum(batch[3]) for batch in batches))
                return
            self._counts += found

    def refusals(self, inputs: Mapping[str, Array]) -> bool:
        """Whether values break a rule, and requests that do are to be refused."""
        return self._reference.reject and self._checker is not None and bool(self._checker.broken(inputs))

    def refuse(self, inputs: Mapping[str, Array], cohort: int = 0) -> RequestError | None:
        """What the client is told whose inputs break a rule, which is counted; None where they do not."""
        found = [] if self._checker is None else self._checker.broken(inputs)
        if not found or not self._reference.reject:
            return None
        with self._lock:
            for each in found:
                slot, rows = each.of.slots[each.rule], int(each.rows.sum())
                self._counts[slot] += rows
                if self.cohorts:
                    self._counts[slot + self._slots * (1 + cohort % self.cohorts)] += rows
        return refusal(found, inputs)

    def _drop(self, reason: str, rows: int) -> None:
        self._counts[self._reference.dropped + DROPPED.index(reason)] += rows

    def _count(self, batches: Sequence[_Batch]) -> Array:
        found = np.zeros(len(self._counts), np.int64)
        wholes: dict[str, Array] = {}
        for name in self._inputs:
            parts = [batch[0][name] for batch in batches if batch[0][name].size]
            if parts:
                whole = _joined(parts)
                wholes[name] = whole.reshape(len(whole), -1)
        # Where each row is counted, as an offset of slots; nowhere but at the start without cohorts.
        offsets = self._offsets(batches)
        for name, table in self._tables:
            whole = wholes.get(name, _NOTHING)
            where = offsets if offsets is not None and len(offsets) == len(whole) else None
            for start in range(0, len(whole), _PIECE_ROWS):
                stop = start + _PIECE_ROWS
                table.count(whole[start:stop], found, None if where is None else where[start:stop])
        if self._checker is not None and not self._reference.reject:
            broken = self._checker.broken(wholes)
            for each in broken:
                slot = each.of.slots[each.rule]
                if offsets is not None and len(offsets) == len(each.rows):
                    np.add.at(found, slot + offsets[each.rows], 1)
                else:
                    found[slot] += int(each.rows.sum())
            if broken:
                found[self._reference.reported] += _requests(broken, batches)
        if self.cohorts:
            found[: self._slots] += found[self._slots :].reshape(self.cohorts, -1).sum(axis=0)
        unasked = 0
        for name, column in self._outputs:
            answers, lost = _answers(name, batches)
            unasked = max(unasked, lost)
            if answers:
                column.count(_joined(answers).reshape(-1, 1), found)
        if self._confidence is not None:
            name, sure = self._confidence
            answers, lost = _answers(name, batches)
            unasked = max(unasked, lost)
            if answers:
                values = _highest(answers)
                there = ~np.isnan(values)
                sure.count(values[there][:, None], found)
                found[self._reference.dropped + DROPPED.index("not_a_number")] += len(values) - int(
                    there.sum()
                )
        found[self._reference.dropped + DROPPED.index("output_not_requested")] += unasked
        return found

    def _offsets(self, batches: Sequence[_Batch]) -> Array | None:
        if not self.cohorts:
            return None
        cohorts = [cohort for batch in batches for cohort in batch[4]]
        sizes = [size for batch in batches for size in batch[3]]
        return np.repeat(self._slots * (1 + np.array(cohorts, np.int64) % self.cohorts), sizes)


class _Table(Protocol):
    def count(self, table: Array, found: Array, offsets: Array | None = None) -> None:
        """Add the counts of a table [rows, columns] to the slots in ``found``; with ``offsets`` those of each
        row so far behind."""


class _Intervals:
    """Columns of one tensor of numbers, counted by a comparison of all of them with each edge in turn."""

    def __init__(self, features: Sequence[Watched], dtype: np.dtype[Any]) -> None:
        self._columns = [each.column for each in features]
        kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
        most = max(len(each.bins.edges or ()) for each in features)
        self._edges = np.full((most, len(features), 1), np.inf, kind)
        for position, each in enumerate(features):
            edges = each.bins.edges or ()
            self._edges[: len(edges), position, 0] = edges
        self._first = np.array([[each.bins.first] for each in features], np.int64)
        missing = [each.bins.slot(MISSING) for each in features]
        self._missing = np.array([[-1 if slot is None else slot] for slot in missing], np.int64)

    def count(self, table: Array, found: Array, offsets: Array | None = None) -> None:
        # One row a column: numpy is quick along the last dimension.
        values = np.ascontiguousarray(table.T[self._columns])
        places = np.zeros(values.shape, np.uint8)
        for edge in self._edges:
            places += values > edge
        slots = places + self._first
        if values.dtype.kind == "f":
            nothing = np.isnan(values)
            if nothing.any():
                slots = np.where(nothing, self._missing, slots)
        if offsets is not None:
            slots = slots + offsets
        found += np.bincount(slots.reshape(-1), minlength=len(found))


class _Names:
    """One column of text or whole numbers, counted by name."""

    def __init__(self, bins: Bins, column: int = 0) -> None:
        self._column = column
        self._slots = {value: bins.first + position for position, value in enumerate(bins.categories)}
        self._other, self._missing = bins.slot(OTHER), bins.slot(MISSING)

    def count(self, table: Array, found: Array, offsets: Array | None = None) -> None:
        values = table[:, self._column].tolist()
        where = [0] * len(values) if offsets is None else offsets.tolist()
        for (value, offset), count in Counter(zip(values, where, strict=True)).items():
            slot = self._slots.get(value, self._missing if value == "" else self._other)
            if slot is not None:
                found[slot + offset] += count


def _tables(features: Sequence[Watched], specs: Mapping[str, TensorSpec]) -> list[tuple[str, _Table]]:
    numbers: dict[str, list[Watched]] = {}
    tables: list[tuple[str, _Table]] = []
    for each in features:
        spec = specs.get(each.tensor)
        if spec is None or not spec.is_batched or spec.datatype != each.datatype or spec.shape is None:
            log.warning("a feature of the profile is no input of the model", extra={"feature": each.name})
        elif each.bins.edges is None:
            tables.append((each.tensor, _Names(each.bins, each.column)))
        else:
            numbers.setdefault(each.tensor, []).append(each)
    for name, columns in numbers.items():
        tables.append((name, _Intervals(columns, specs[name].datatype.dtype)))
    return tables


def _column(bins: Bins) -> _Table:
    if bins.edges is None:
        return _Names(bins)
    return _Intervals([Watched("", "", 0, "", bins)], np.dtype("<f8"))


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _answers(name: str, batches: Sequence[_Batch]) -> tuple[list[Any], int]:
    """What was answered for an output, and how many rows did not ask for it."""
    answers, lost = [], 0
    for _, names, given, rows, _ in batches:
        if name not in names:
            lost += sum(rows)
            continue
        answer = given[names.index(name)]
        if isinstance(answer, list) or answer.size:
            answers.append(answer)
    return answers, lost


def _requests(broken: Sequence[Broken], batches: Sequence[_Batch]) -> int:
    """How many requests have a row that breaks anything."""
    sizes = np.array([size for batch in batches for size in batch[3]])
    ends = np.cumsum(sizes)
    rows = np.zeros(ends[-1], bool)
    for each in broken:
        # A model may take inputs of different lengths: then rows are no requests'.
        if len(each.rows) == len(rows):
            rows |= each.rows
    bad = np.concatenate([[0], np.cumsum(rows)])
    return int((bad[ends] > bad[ends - sizes]).sum())


def _highest_of(answer: Any) -> Array:
    if isinstance(answer, list):
        return np.array([max(row.values()) for row in answer], np.float32)
    return np.asarray(answer.reshape(len(answer), -1).max(axis=1))


def _highest(answers: Sequence[Any]) -> Array:
    """The highest probability of each row, from tables or from what onnxruntime gives for a ZipMap."""
    if any(isinstance(answer, list) for answer in answers):
        # A request that ran alone has its table already.
        return np.concatenate([_highest_of(answer) for answer in answers])
    table = _joined(answers)
    return np.asarray(table.reshape(len(table), -1).max(axis=1))
