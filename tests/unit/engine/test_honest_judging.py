"""How often the operator's own path from scrapes to status alarms, when it should and when it should not."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import Series, series
from slipway.engine.observers import monitoring
from slipway.engine.observers.watched import WANTED
from slipway.infra.pods import by_version
from slipway.names import Metric
from tests.unit.judged import KEY, VERSION, Judged

FEATURES = [f"f{position:02}" for position in range(30)]
BINS = [f"{position:02}" for position in range(20)]
CALM = np.full(20, 0.05)
#: Half a deviation more of a standard normal, in bins that were even.
SHIFTED: NDArray[np.float64] = np.diff(
    stats.norm.cdf(np.concatenate([[-np.inf], stats.norm.ppf(np.arange(1, 20) / 20) - 0.5, [np.inf]]))
)


class Stream:
    """Rows of 30 features on two pods, of which one restarts now and then."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        reference = self.random.multinomial(10_000, CALM, size=30)
        self.gauges: dict[Series, float] = {}
        for feature, counts in zip(FEATURES, reference, strict=True):
            for bin_, count in zip(BINS, counts, strict=True):
                key = series(Metric.FEATURE_REFERENCE_RATIO, {"feature": feature, "bin": bin_})
                self.gauges[key] = (count + 0.5) / 10_010
            self.gauges[series(Metric.FEATURE_REFERENCE_ROWS, {"feature": feature})] = 10_000.0
        self.counted = {pod: np.zeros((30, 20)) for pod in ("a", "b")}
        spec = {"monitoring": {"drift": {"windowSeconds": 60}}}
        self.judged = Judged(spec, {pod: self._shown(pod) for pod in self.counted})

    async def look(self, shares: NDArray[np.float64] = CALM) -> None:
        """250 rows in fifteen seconds, so that a window has 1,000; the 18th feature has these shares."""
        for pod in self.counted:
            rows = self.random.multinomial(125, CALM, size=30)
            rows[17] = self.random.multinomial(125, shares)
            self.counted[pod] += rows
            self.judged.shown[pod] = self._shown(pod)
        await self.judged.look(15)
        if self.random.random() < 0.1:
            self.counted["b"][:] = 0.0

    def _shown(self, pod: str) -> dict[Series, float]:
        counts = {
            series(Metric.FEATURE_VALUES, {"feature": feature, "bin": bin_}): float(value)
            for feature, values in zip(FEATURES, self.counted[pod], strict=True)
            for bin_, value in zip(BINS, values, strict=True)
        }
        return {**self.gauges, **counts}


async def test_inputs_that_do_not_move_never_turn_drift_true_and_are_hardly_ever_written() -> None:
    alarms = writes = 0
    for seed in range(2):
        stream = Stream(seed)
        for _ in range(100):
            await stream.look()
            alarms += stream.judged.status("Drift") == "True"
        assert stream.judged.status("Drift") == "False"
        writes += stream.judged.changes
    assert alarms == 0
    # In 25 minutes each: nothing is known yet, there is no drift, and a figure that moved now and then.
    assert writes <= 10


async def test_half_a_deviation_in_one_of_thirty_features_is_said_two_looks_after_1500_rows_at_most() -> None:
    found = 0
    for seed in range(10, 20):
        stream = Stream(seed)
        for _ in range(6):
            await stream.look()
        for _ in range(7):
            await stream.look(SHIFTED)
        found += stream.judged.status("Drift") == "True"
    assert found == 10


async def test_pods_that_show_ever_new_series_add_no_more_than_a_model_server_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitoring, "MOST_SERIES_OF_NAMESPACE", 500)
    judged = Judged({"monitoring": {"drift": {}}}, {"a": {}})
    for look in range(10):
        judged.shown["a"] = {
            series(Metric.FEATURE_VALUES, {"feature": f"{look}-{number}", "bin": "b"}): 1.0
            for number in range(200)
        }
        await judged.look(15)
    watched = judged.judge._watched[KEY]
    assert len(watched.names) == 500
    assert watched.tally is not None
    assert len(watched.tally.totals) <= 500
    assert len(watched.input_names) <= 500


async def test_many_pods_that_show_many_names_hold_little_memory() -> None:
    def shown(pod: int) -> dict[Series, float]:
        return {
            series(Metric.FEATURE_VALUES, {"feature": f"{pod}-{number}", "bin": "b"}): 1.0
            for number in range(2000)
        }

    pods = 16
    judged = Judged({"monitoring": {"drift": {}}}, {f"p{pod}": {} for pod in range(pods)})

    async def read(target: Endpoint) -> Any:
        return {VERSION: shown(int(target.host[1:]))}

    judged.judge._read = read
    tracemalloc.start()
    try:
        for _ in range(2):
            await judged.look(15)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The names of one pod are 1 MB, of which 4 pods' have room; all of them would be 16.
    assert held < 10 * 1024 * 1024
    assert peak < 14 * 1024 * 1024


async def test_a_monitored_model_of_thirty_features_holds_little_memory() -> None:
    """Twenty marks of an hour, the names of its series and what was found."""
    models, counted = 3, 0
    judged = [Judged({"monitoring": {"drift": {"windowSeconds": 3600}}}, {"a": {}}) for _ in range(models)]

    def page(model: int) -> str:
        lines = []
        for feature in (f"feature_{model}_{number}" for number in range(30)):
            where = f'model="m",model_version="{VERSION}",feature="{feature}"'
            lines += [f"{Metric.FEATURE_REFERENCE_ROWS}{{{where}}} 10000"]
            for bin_ in (*(f"{number:02}" for number in range(10)), "missing", "other"):
                lines += [f'{Metric.FEATURE_VALUES}{{{where},bin="{bin_}"}} {counted}']
                lines += [f'{Metric.FEATURE_REFERENCE_RATIO}{{{where},bin="{bin_}"}} 0.08']
        return "\n".join(lines)

    def reader(model: int) -> Any:
        async def read(_: Endpoint) -> Any:
            return by_version(page(model), WANTED)

        return read

    for number, one in enumerate(judged):
        one.judge._read = reader(number)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(25):
            counted += 900
            for one in judged:
                await one.look(180)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    watched = judged[0].judge._watched[KEY]
    assert (len(watched.names), len(watched.inputs)) == (360, 21)
    assert grown / models < 58_000, f"{grown / models:.0f} bytes"
