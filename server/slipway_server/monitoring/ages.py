"""How old the data is that the model is asked about, off the path of requests.

What holds a time is remembered as it came, with when it came; ages are counted together, some hundred rows at
a time.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from slipway.names import Metric
from slipway_server.errors import listing
from slipway_server.metrics.ledger import Page, bound_name
from slipway_server.protocol.tensors import Array, Datatype, TensorSpec
from slipway_server.runtime.call import Call
from slipway_server.settings import Freshness

log = logging.getLogger(__name__)

#: Upper bounds in seconds, beside the limit itself. The last lies beyond every limit, so that the median of
#: stale data, which is never told beyond it, is.
BOUNDS = (60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800, 2_592_000, 315_360_000)
#: Why a row has no age.
UNKNOWN = ("missing", "invalid", "future")
#: Clocks may differ by so much: data of such a future has the age 0.
_SKEW_SECONDS = 300.0
_ROWS_AT_ONCE = 512
_NUMBER = re.compile(r"[0-9]{1,12}([.][0-9]{1,9})?")
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
        self, config: Freshness, specs: Mapping[str, TensorSpec], page: Page, model: str, version: str
    ) -> None:
        """Every series is there from now on, at 0. Raises :class:`FreshnessError`."""
        if config.source == "Tensor":
            _check(config, specs)
        #: The parameter that holds the time, or nothing.
        self.parameter = config.name if config.source == "Parameter" else ""
        self._tensor = config.name if config.source == "Tensor" else ""
        self._header = config.name.lower().encode() if config.source == "Header" else b""
        self._column = config.column
        self._bounds = np.array(sorted({*BOUNDS, config.maxAgeSeconds}), np.float64)
        of = {"model": model, "model_version": version}
        self._page = page
        self._buckets = [
            page.slot(f"{Metric.DATA_AGE}_bucket", {**of, "le": bound_name(bound)})
            for bound in (*self._bounds.tolist(), math.inf)
        ]
        self._sum = page.slot(f"{Metric.DATA_AGE}_sum", of)
        self._unknown = {
            reason: page.slot(Metric.DATA_AGE_UNKNOWN, {**of, "reason": reason}) for reason in UNKNOWN
        }
        self._pending: deque[tuple[float, Any, int]] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def add(self, calls: Sequence[Call], inputs: Mapping[str, Any]) -> None:
        """Remember a batch; ``inputs`` are of all calls together, in their order."""
        now = time.time()
        if self._tensor:
            array = inputs[self._tensor]
            self._pending.append((now, array, len(array)))
            self._rows += len(array)
        else:
            for call in calls:
                self._pending.append((now, self._given(call), call.rows))
                self._rows += call.rows
        if self._rows >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Count what is remembered."""
        with self._lock:
            self._rows = 0
            ages: list[Array] = []
            unknown: Counter[str] = Counter()
            while self._pending:
                now, given, rows = self._pending.popleft()
                for times, count in self._times(given, rows):
                    age, reasons = _ages(now, times)
                    ages.append(np.repeat(age, count) if count > 1 else age)
                    for reason, found in reasons.items():
                        unknown[reason] += found * count
            if ages:
                self._count(np.concatenate(ages))
            for reason, found in unknown.items():
                self._add(self._unknown[reason], found)

    def _given(self, call: Call) -> Any:
        if self._header:
            return call.header(self._header)
        return None if call.request is None else call.request.parameters.get(self.parameter)

    def _times(self, given: Any, rows: int) -> list[tuple[Sequence[Any] | Array, int]]:
        """Times and for how many rows each of them holds."""
        if isinstance(given, np.ndarray):
            return [(given.reshape(rows, -1)[:, self._column], 1)]
        if isinstance(given, list):
            return [(given if len(given) == rows else ["invalid"] * rows, 1)]
        return [([given], rows)]

    def _count(self, ages: Array) -> None:
        found = np.bincount(np.searchsorted(self._bounds, ages), minlength=len(self._buckets))
        for slot, count in zip(self._buckets, found.tolist(), strict=True):
            # Not cumulative here: whoever reads adds them up.
            self._add(slot, count)
        self._add(self._sum, float(ages.sum()))

    def _add(self, slot: int | None, amount: float) -> None:
        if slot is not None and amount:
            self._page.values[slot] += amount


def seconds_of(given: object) -> float | str:
    """A time in seconds since 1970, or why there is none: ``missing`` or ``invalid``."""
    if given is None or given in ("", b""):
        return "missing"
    if isinstance(given, bool):
        return "invalid"
    if isinstance(given, int | float):
        return "missing" if math.isnan(given) else float(given) if math.isfinite(given) else "invalid"
    if isinstance(given, bytes):
        given = given.decode("utf-8", "replace")
    if not isinstance(given, str):
        return "invalid"
    text = given.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        # Without a time zone nobody knows when that was.
        return "invalid" if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError):
        return "invalid"


def _ages(now: float, times: Sequence[Any] | Array) -> tuple[Array, Counter[str]]:
    """The ages that are known, in seconds, and why the others are not."""
    unknown: Counter[str] = Counter()
    if isinstance(times, np.ndarray) and times.dtype.kind in "iuf":
        seconds = times.astype(np.float64)
        there = np.isfinite(seconds)
        unknown["missing"] = int(np.isnan(seconds).sum())
        unknown["invalid"] = len(seconds) - int(there.sum()) - unknown["missing"]
        seconds = seconds[there]
    else:
        read = [seconds_of(each) for each in times]
        unknown.update(each for each in read if isinstance(each, str))
        seconds = np.array([each for each in read if not isinstance(each, str)], np.float64)
    ages = now - seconds
    future = ages < -_SKEW_SECONDS
    unknown["future"] += int(future.sum())
    return np.maximum(ages[~future], 0.0), unknown


def _check(config: Freshness, specs: Mapping[str, TensorSpec]) -> None:
    spec = specs.get(config.name)
    if spec is None:
        raise FreshnessError(
            f"the model has no input {config.name!r}; its inputs are {listing(sorted(specs))}"
        )
    if spec.datatype not in _HOLD_A_TIME or not spec.is_batched:
        raise FreshnessError(
            f"the input {config.name!r} is {spec.datatype} and can hold no time for each row; "
            f"use one that is {listing(_HOLD_A_TIME)}"
        )
    width = math.prod((spec.shape or ())[1:])
    if 0 <= width <= config.column:
        raise FreshnessError(
            f"the input {config.name!r} has no column {config.column}: a row has {width}, counted from 0"
        )
