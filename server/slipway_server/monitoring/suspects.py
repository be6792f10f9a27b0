"""Rows that may be a search for another answer, counted off the path of requests.

A request is remembered, and nothing else; rows are compared when counts are flushed, a bounded number each
time, so that the cost does not grow with what is asked. Evidence, no proof: nothing is refused for it. What
it sees, and what it cannot, ``docs/security.md`` has.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from slipway.names import Metric
from slipway_server.call.call import Call, sender_of
from slipway_server.metrics.ledger import Page
from slipway_server.monitoring.nearness import Nearness
from slipway_server.monitoring.reference import Scale
from slipway_server.protocol.tensors import Array, TensorSpec

log = logging.getLogger(__name__)

#: Detectors as the spec has them: a row near an earlier one, and such a row with another answer.
NEARBY, TURNED = "Nearby", "Turned"
#: Rows that are compared from one flush to the next, which is a quarter of a second: of what comes later
#: within it nothing is remembered.
ROWS_AT_ONCE = 150
#: Of a request of more rows only some are compared.
MOST_OF_A_REQUEST = 64
#: Whoever had so many rows turned within a minute is named in the log; so many at a time are.
TOLD_FROM, _TOLD_AT_ONCE = 50, 5
_MINUTE = 60.0
_LONGEST_NAME, _MOST_SENDERS = 100, 4096
_HASH = 0xFFFF_FFFF_FFFF_FFFF

#: Who asked for how many rows, all rows, the arrays by input, the outputs' names, and their raw answers.
_Batch = tuple[Sequence[tuple[str, int]], int, Mapping[str, Any], Sequence[str], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of one input by which rows are compared, and what makes deviations of them."""

    tensor: str
    places: list[int]
    means: Array
    deviations: Array


class SuspectCounter:
    """Counts rows that are a small step from an earlier one of whoever sent them; any thread may call."""

    def __init__(
        self,
        scales: Sequence[Scale],
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        detectors: Sequence[str],
        page: Page,
        of: Mapping[str, str],
    ) -> None:
        """Every series is there from now on, at 0, but for what cannot be counted of this model."""
        self._columns = list(_columns(scales, inputs))
        width = sum(len(each.places) for each in self._columns)
        self._nearness = Nearness(width) if width else None
        self._output = _classes_of(outputs)
        self._compared = page.slot(Metric.COMPARED_ROWS, of) if width else None
        can = {NEARBY: width > 0, TURNED: width > 0 and self._output is not None}
        self._slots = {
            each: page.slot(Metric.SUSPECT_INPUTS, {**of, "detector": each.lower()})
            for each in detectors
            if can[each]
        }
        #: What was asked for and cannot be counted of this model.
        self.lacks = [each for each in detectors if not can[each]]
        self._page = page
        self._pending: deque[_Batch] = deque()
        self._room = ROWS_AT_ONCE
        self._lock = threading.Lock()
        self._turned: Counter[str] = Counter()
        self._since = time.monotonic()

    def add(
        self, calls: Sequence[Call], inputs: Mapping[str, Any], names: Sequence[str], answers: Sequence[Any]
    ) -> None:
        """Remember a batch; ``inputs`` and ``answers`` are of all calls together, in their order."""
        if self._room <= 0:
            return
        asked = [(sender_of(call) or call.peer(), call.rows) for call in calls]
        rows = 0
        for _, count in asked:
            rows += count
            self._room -= min(count, MOST_OF_A_REQUEST)
        if rows:
            self._pending.append((asked, rows, inputs, names, answers))

    def flush(self) -> None:
        """Compare what is remembered; there is room for more from now on."""
        with self._lock:
            batches = []
            while self._pending:
                batches.append(self._pending.popleft())
            self._room = ROWS_AT_ONCE
            try:
                self._look([each for each in batches if self._is_whole(each)])
                self._tell(time.monotonic())
            except Exception:
                log.exception("rows could not be compared with earlier ones")

    def turned_lately(self) -> Mapping[str, int]:
        """Rows that a small step turned since the last minute began, by who sent them."""
        self.flush()
        return dict(self._turned)

    def _is_whole(self, batch: _Batch) -> bool:
        """Whether each input has a row for each that was asked for: a model may take others."""
        _, rows, inputs, _, _ = batch
        return all(len(inputs.get(each.tensor, ())) == rows for each in self._columns)

    def _look(self, batches: Sequence[_Batch]) -> None:
        if not batches or self._nearness is None:
            return
        asked = [pair for batch in batches for pair in batch[0]]
        owners, places = _chosen([rows for _, rows in asked])
        parts = []
        for each in self._columns:
            whole = _joined([batch[2][each.tensor] for batch in batches])
            values = whole.reshape(len(whole), -1)[places][:, each.places]
            parts.append((values - each.means) / each.deviations)
        rows = np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
        hashes = np.array([hash(sender) & _HASH for sender, _ in asked], np.uint64)
        near, turned = self._nearness.look(rows, hashes[owners], self._answers(batches)[places])
        for detector, found in ((NEARBY, near), (TURNED, turned)):
            slot = self._slots.get(detector)
            if slot is not None:
                self._page.values[slot] += int(found.sum())
        if self._compared is not None:
            self._page.values[self._compared] += len(rows)
        if TURNED in self._slots:
            for owner in owners[turned].tolist():
                sender = asked[owner][0][:_LONGEST_NAME]
                if sender in self._turned or len(self._turned) < _MOST_SENDERS:
                    self._turned[sender] += 1

    def _answers(self, batches: Sequence[_Batch]) -> Array:
        """A hash of each row's class; 0 where it is not known."""
        sizes = [batch[1] for batch in batches]
        found = np.zeros(sum(sizes), np.uint64)
        if self._output is not None:
            given = [self._answer(batch) for batch in batches]
            there = [each for each in given if each is not None]
            if there:
                found[np.repeat([each is not None for each in given], sizes)] = _codes(_joined(there))
        return found

    def _answer(self, batch: _Batch) -> Array | None:
        """The classes, where they were asked for and each row has one."""
        _, rows, _, names, answers = batch
        if self._output not in names:
            return None
        answer = np.asarray(answers[names.index(self._output)])
        return answer if len(answer) == rows else None

    def _tell(self, now: float) -> None:
        if now - self._since < _MINUTE:
            return
        for sender, rows in self._turned.most_common(_TOLD_AT_ONCE):
            if rows >= TOLD_FROM:
                log.warning(
                    "a small step turned the answers of many rows, as in a search for another answer",
                    extra={"sender": sender, "rows": rows, "seconds": round(now - self._since)},
                )
        self._turned.clear()
        self._since = now


def _columns(scales: Sequence[Scale], inputs: Mapping[str, TensorSpec]) -> Iterator[_Columns]:
    for name in sorted({each.tensor for each in scales} & inputs.keys()):
        spec = inputs[name]
        if not spec.is_batched or spec.shape is None or -1 in spec.shape[1:] or spec.datatype.dtype.hasobject:
            continue
        width = int(np.prod(spec.shape[1:], dtype=int))
        found = [each for each in scales if each.tensor == name and each.column < width]
        yield _Columns(
            name,
            [each.column for each in found],
            np.array([each.mean for each in found], np.float32),
            np.array([each.deviation for each in found], np.float32),
        )


def _classes_of(outputs: Mapping[str, TensorSpec]) -> str | None:
    """The output with the class of each row, or else with a score for each class."""
    for spec in outputs.values():
        if not spec.datatype.is_float and spec.shape in ((-1,), (-1, 1)):
            return spec.name
    narrow = any(spec.shape in ((-1,), (-1, 1)) for spec in outputs.values())
    tables = (spec.name for spec in outputs.values() if spec.shape is not None and len(spec.shape) == 2)
    return None if narrow else next(tables, None)


def _codes(answers: Array) -> Array:
    """A number for each row, never 0; the same for the same class."""
    table = answers.reshape(len(answers), -1)
    if table.dtype.kind == "f":
        table = table.argmax(axis=1)
    if table.dtype.kind not in "iub":
        return np.array([hash(value) & _HASH | 1 for value in table.reshape(-1).tolist()], np.uint64)
    return table.reshape(-1).astype(np.int64).view(np.uint64) << np.uint64(1) | np.uint64(1)


def _chosen(sizes: Sequence[int]) -> tuple[Array, Any]:
    """Of requests of so many rows, those that are compared: whose each is, and where."""
    if max(sizes) <= MOST_OF_A_REQUEST:
        return np.repeat(np.arange(len(sizes)), sizes), slice(None)
    steps = [max(1, -(-size // MOST_OF_A_REQUEST)) for size in sizes]
    places = [
        # Nobody can tell which ones.
        np.arange(stop - size + random.randrange(step), stop, step)
        for size, step, stop in zip(sizes, steps, accumulate(sizes), strict=True)
    ]
    return np.repeat(np.arange(len(sizes)), [len(each) for each in places]), np.concatenate(places)


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
