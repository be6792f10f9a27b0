"""Intervals hold what they promise, counted out over every outcome there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slipway.core.monitoring.intervals import (
    Interval,
    Share,
    deviations,
    difference_interval,
    ratio_interval,
    share_interval,
)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("comparisons", [1, 2, 45])
def test_deviations_are_scipys(confidence: float, comparisons: int) -> None:
    oracle = stats.norm.isf((1 - confidence) / 2 / comparisons)
    assert deviations(confidence, comparisons) == pytest.approx(oracle, rel=1e-9)


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 50), (3, 50), (815, 1000), (1, 10**6)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_a_shares_interval_is_scipys(hits: int, rows: int, confidence: float) -> None:
    oracle = stats.binomtest(hits, rows).proportion_ci(confidence, method="wilson")
    found = share_interval(Share(hits, rows), deviations(confidence))
    assert found.low == pytest.approx(oracle.low, rel=1e-9, abs=1e-12)
    assert found.high == pytest.approx(oracle.high, rel=1e-9)


def test_a_ratios_interval_is_scipys_where_half_a_hit_does_not_matter() -> None:
    oracle = stats.contingency.relative_risk(180_000, 1_000_000, 300_000, 1_000_000).confidence_interval(0.95)
    found = ratio_interval(Share(180_000, 1_000_000), Share(300_000, 1_000_000), deviations(0.95))
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "rows", "other_rows"),
    [
        (0.3, 0.3, 100, 100),
        (0.1, 0.1, 100, 400),
        (0.18, 0.3, 100, 300),
        (0.02, 0.05, 150, 300),
        (0.9, 0.95, 100, 200),
    ],
)
def test_differences_and_ratios_hold_the_truth_as_often_as_they_say(
    first: float, second: float, rows: int, other_rows: int
) -> None:
    """The chance that the truth lies beyond one end, which is how often an alarm at the limit is false."""
    z = deviations(0.95)
    weights = np.outer(
        stats.binom.pmf(np.arange(rows + 1), rows, first),
        stats.binom.pmf(np.arange(other_rows + 1), other_rows, second),
    )
    likely = np.argwhere(weights > 1e-6)
    below = dict.fromkeys(("difference", "ratio"), 0.0)
    above = dict.fromkeys(("difference", "ratio"), 0.0)
    for hits, other_hits in likely:
        shares = Share(int(hits), rows), Share(int(other_hits), other_rows)
        found: dict[str, tuple[Interval, float]] = {
            "difference": (difference_interval(*shares, z), first - second),
            "ratio": (ratio_interval(*shares, z), first / second),
        }
        for name, (interval, truth) in found.items():
            below[name] += weights[hits, other_hits] * (interval.high < truth)
            above[name] += weights[hits, other_hits] * (interval.low > truth)
    # 2.5% at each end is meant. A ratio's upper end, below which a group counts as harmed, errs on the safe
    # side; its lower end does not quite hold for groups this small.
    assert below["ratio"] <= 0.025
    assert above["ratio"] <= 0.055
    assert max(below["difference"], above["difference"]) <= 0.03


def test_a_group_without_a_hit_still_has_an_interval() -> None:
    found = ratio_interval(Share(0, 200), Share(60, 200), deviations(0.95))
    assert 0.0 < found.low < found.high < 0.2


def test_no_rows_say_nothing() -> None:
    assert share_interval(Share(0, 0), 1.96) == Interval(0.0, 1.0)


@pytest.mark.parametrize(("hits", "rows"), [(-1, 5), (6, 5), (0, -1)])
def test_counts_that_contradict_each_other_are_refused(hits: int, rows: int) -> None:
    with pytest.raises(ValueError, match="no share"):
        Share(hits, rows)


def test_a_confidence_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        deviations(1.0)
    with pytest.raises(ValueError, match="at least 1"):
        deviations(0.5, 0)
