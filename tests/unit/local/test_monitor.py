"""What a server on this machine counts is held against the limits as an operator does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring.verdict import Verdict
from slipway.local.monitor import Monitor

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
BINS = ("0", "1", "2", "3")


class Server:
    """What it shows: a feature, whose four bins the reference fills evenly."""

    def __init__(self, **monitoring: Any) -> None:
        spec = {"model": {"uri": "mlflow://fraud/7"}, "monitoring": monitoring or None}
        self.monitor = Monitor(ModelDeploymentSpec.model_validate(spec), "7", START)
        self.now = START
        self.counts = dict.fromkeys(BINS, 0)

    def asked(self, *rows: int, seconds: float = 5) -> list[Verdict]:
        """So many more rows in each bin; what is printed of them."""
        for bin_, count in zip(BINS, rows, strict=True):
            self.counts[bin_] += count
        self.now += timedelta(seconds=seconds)
        own = 'model="fraud",model_version="7",feature="amount"'
        lines = [f"slipway_feature_reference_rows{{{own}}} 4000"]
        for bin_, count in self.counts.items():
            lines.append(f'slipway_feature_reference_ratio{{{own},bin="{bin_}"}} 0.25')
            lines.append(f'slipway_feature_values_total{{{own},bin="{bin_}"}} {count}')
        return self.monitor.judge("\n".join([*lines, ""]), self.now)


def told(verdicts: list[Verdict]) -> list[str]:
    return [f"{one.condition} {one.status} {one.reason}" for one in verdicts]


def test_drift_is_told_once_and_when_it_is_over() -> None:
    server = Server(drift={"windowSeconds": 60, "minimumRows": 1000})
    assert server.asked(300, 300, 300, 300) == []
    assert told(server.asked(0, 0, 0, 0)) == ["Drift False NoDrift", "DataQuality True DataIsGood"]
    assert server.asked(0, 0, 0, 4000) == []
    assert told(server.asked(0, 0, 0, 0)) == ["Drift True FeaturesDrifted"]
    assert server.asked(0, 0, 0, 10) == []
    # What is older than the window counts no more.
    for _ in range(30):
        last = server.asked(30, 30, 30, 30)
        if last:
            break
    assert told(last) == ["Drift False NoDrift"]


def test_too_few_rows_are_nothing_to_tell() -> None:
    server = Server()
    for _ in range(5):
        assert server.asked(0, 0, 0, 10) == []
