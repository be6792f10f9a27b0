"""How old the data is that the model is asked about, off the path of requests.

What holds a time is remembered as it came, with when it came; ages are counted together, some hundred rows at
a time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from slipway.names import ASKED, Metric
from slipway_server.call.call import Call
from slipway_server.errors import listing
from slipway_server.metrics.ledger import Page, bound_name
from slipway_server.protocol.tensors import Array, Datatype, TensorSpec
from slipway_server.settings import Freshness

log = logging.getLogger(__name__)

#: Upper bounds in seconds, beside the limit itself. The last lies beyond every limit, so that the median of
#: stale data, which is never told beyond it, is.
BOUNDS = (60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800, 2_592_000, 315_360_000)
#: Why a row has no age.
UNKNOWN = ("missing", "invalid", "future")
#: Clocks may differ by so much: data of such a future has the age 0.
_SKEW_SECONDS = 300.0
#: No time is so many seconds from 1970; milliseconds are.
_MOST_SECONDS = 1e12
_ROWS_AT_ONCE = 512
_HOLD_A_TIME = (
    Datatype.FP64,
    Datatype.FP32,
    Datatype.INT64,
    Datatype.UINT64,
    Datatype.INT32,
    Datatype.UINT32,
    Datatype.BYTES,
)


class FreshnessError(Exception):
    """The model takes no such input, or one that can hold no time; the message says so."""


class AgeCounter:
    """Counts rows by the age of their data; any thread may call."""

    def __init__(
        self,
        config: Freshness,
        specs: Mapping[str, TensorSpec],
        page: Page,
        model: str,
        version: str,
        cohorts: int = 0,
    ) -> None:
        """Every series is there from now on, at 0. Raises :class:`FreshnessError`.

        With ``cohorts`` rows are counted once more, by the cohort of whoever asked.
        """
        if config.source == "Tensor":
            _check(config, specs)
        #: The parameter that holds the time, or nothing.
        self.parameter = config.name if config.source == "Parameter" else ""
        self._tensor = config.name if config.source == "Tensor" else ""
        self._header = config.name.lower().encode() if config.source == "Header" else b""
        self._column = config.column
        self._bounds = sorted({*map(float, BOUNDS), float(config.maxAgeSeconds)})
        of = {"model": model, "model_version": version}
        self._page, self._of, self._cohorts = page, of, cohorts
        self._buckets = [
            page.slot(f"{Metric.DATA_AGE}_bucket", {**of, "le": bound_name(bound)})
            for bound in (*self._bounds, math.inf)
        ]
        self._sum = page.slot(f"{Metric.DATA_AGE}_sum", of)
        self._unknown = {
            reason: page.slot(Metric.DATA_AGE_UNKNOWN, {**of, "reason": reason}) for reason in UNKNOWN
        }
        self._pending: deque[tuple[float, Any, int, int]] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def add(self, calls: Sequence[Call], inputs: Mapping[str, Any]) -> None:
        """Remember a batch; ``inputs`` are of all calls together, in their order."""
        now = time.time()
        if self._tensor:
            array = inputs[self._tensor]
            if array.size and self._cohorts and len(array) == sum(call.rows for call in calls):
                start = 0
                for call in calls:
                    stop = start + call.rows
                    self._pending.append((now, array[start:stop], call.rows, call.cohort()))
                    start = stop
                self._rows += start
            elif array.size:
                self._pending.append((now, array, len(array), calls[0].cohort() if self._cohorts else 0))
                self._rows += len(array)
        elif self._header:
            for call in calls:
                self._pending.append((now, call.header(self._header), call.rows, self._cohort(call)))
                self._rows += call.rows
        else:
            for call in calls:
                given = None if call.request is None else call.request.parameters.get(self.parameter)
                self._pending.append((now, given, call.rows, self._cohort(call)))
                self._rows += call.rows
        if self._rows >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Count what is remembered."""
        with self._lock:
            self._rows = 0
            by_cohort: dict[int, _Found] = {}
            while self._pending:
                now, given, rows, cohort = self._pending.popleft()
                found = by_cohort.get(cohort)
                if found is None:
                    found = by_cohort[cohort] = _Found(self._bounds)
                kind = type(given)
                if kind is np.ndarray:
                    table = given.reshape(rows, -1)
                    if table.shape[1] <= self._column:
                        # Where the model leaves the number of columns to the request.
                        found.add(now, None, rows)
                    elif table.dtype.kind in "iuf":
                        found.add_table(now, table[:, self._column])
                    else:
                        found.add_each(now, table[:, self._column].tolist())
                elif kind is list:
                    found.add_each(now, given if len(given) == rows else ["not one a row"] * rows)
                else:
                    found.add(now, given, rows)
            for cohort, found in by_cohort.items():
                for slot, count in zip(self._buckets, found.buckets, strict=True):
                    # Not cumulative here: whoever reads adds them up.
                    self._add(slot, count)
                self._add(self._sum, found.seconds)
                for reason, count in found.unknown.items():
                    self._add(self._unknown[reason], count)
                if self._cohorts:
                    self._add_cohort(f"{ASKED}{cohort % self._cohorts}", found.buckets)

    def _cohort(self, call: Call) -> int:
        return call.cohort() if self._cohorts else 0

    def _add_cohort(self, cohort: str, buckets: Sequence[int]) -> None:
        for bound, count in zip((*self._bounds, math.inf), buckets, strict=True):
            if count:
                labels = {**self._of, "le": bound_name(bound), "cohort": cohort}
                self._page.add(Metric.COHORT_DATA_AGE, labels, count)

    def _add(self, slot: int | None, amount: float) -> None:
        if slot is not None and amount:
            self._page.values[slot] += amount


class _Found:
    """What one flush has found."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        self.unknown = dict.fromkeys(UNKNOWN, 0)

    def add(self, now: float, given: Any, rows: int = 1) -> None:
        """One time that so many rows have; numpy would take longer than all of this."""
        then = seconds_of(given)
        if type(then) is str:
            self.unknown[then] += rows
            return
        age = now - then  # type: ignore[operator]
        if age < 0.0:
            if age < -_SKEW_SECONDS:
                self.unknown["future"] += rows
                return
            age = 0.0
        self.buckets[bisect_left(self._bounds, age)] += rows
        self.seconds += age * rows

    def add_each(self, now: float, times: Sequence[Any]) -> None:
        for each in times:
            self.add(now, each)

    def add_table(self, now: float, times: Array) -> None:
        """Numbers, one a row."""
        there = np.abs(times.astype(np.float64)) < _MOST_SECONDS
        missing = int(np.isnan(times).sum())
        ages = now - times[there].astype(np.float64)
        future = ages < -_SKEW_SECONDS
        self.unknown["missing"] += missing
        self.unknown["invalid"] += len(times) - int(there.sum()) - missing
        self.unknown["future"] += int(future.sum())
        ages = np.maximum(ages[~future], 0.0)
        places = np.searchsorted(self._bounds, ages)
        for bucket, count in enumerate(np.bincount(places, minlength=len(self.buckets)).tolist()):
            self.buckets[bucket] += count
        self.seconds += float(ages.sum())


def seconds_of(given: Any) -> float | str:
    """A time in seconds since 1970, or why there is none: ``missing`` or ``invalid``."""
    if given is None or given is True or given is False:
        return "missing" if given is None else "invalid"
    try:
        # Of text too, and before anything else: this is what nearly all are.
        seconds = float(given)
    except (ValueError, TypeError, OverflowError):
        return _moment_of(given)
    if abs(seconds) < _MOST_SECONDS:
        return seconds
    return "missing" if seconds != seconds else "invalid"


def _moment_of(given: Any) -> float | str:
    if isinstance(given, bytes):
        given = given.decode("utf-8", "replace")
    if not isinstance(given, str):
        return "invalid"
    if not given.strip():
        return "missing"
    try:
        moment = datetime.fromisoformat(given.strip())
        # Without a time zone nobody knows when that was.
        return "invalid" if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return "invalid"


def _check(config: Freshness, specs: Mapping[str, TensorSpec]) -> None:
    spec = specs.get(config.name)
    if spec is None:
        raise FreshnessError(
            f"the model has no input {config.name!r}; its inputs are {listing(sorted(specs))}"
        )
    if spec.datatype not in _HOLD_A_TIME or not spec.is_batched or spec.raw:
        raise FreshnessError(
            f"the input {config.name!r} is {spec.datatype} and can hold no time for each row; "
            f"use one that is {listing(_HOLD_A_TIME)}"
        )
    width = math.prod((spec.shape or ())[1:])
    if 0 <= width <= config.column:
        raise FreshnessError(
            f"the input {config.name!r} has no column {config.column}: a row has {width}, counted from 0"
        )
