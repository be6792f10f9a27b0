"""What a window's bins say of drift, in figures and in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slipway.api.reasons import Reason
from slipway.core.monitoring.drift import (
    DriftLimits,
    ReferenceBins,
    Severity,
    compare,
    critical_value,
    judge_drift,
    reference_of,
    yesterday,
)
from slipway.core.monitoring.verdict import Status
from slipway.core.monitoring.windows import Mark

EVEN = ReferenceBins({f"{position:02}": 0.05 for position in range(20)}, 10_000)
LIMITS = DriftLimits()


def even(rows: float) -> dict[str, float]:
    return dict.fromkeys(EVEN.shares, rows / 20)


def moved(rows: float) -> dict[str, float]:
    """Half of the rows of the upper bins lie in the lower ones."""
    return {name: rows / 20 * (1.5 if int(name) < 10 else 0.5) for name in EVEN.shares}


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 5000)), min_size=2, max_size=30))
def test_the_figures_are_numpys_and_scipys(drawn: list[tuple[int, int]]) -> None:
    counts = np.array([count for count, _ in drawn], dtype=float)
    expected = np.array([count for _, count in drawn], dtype=float)
    limits = DriftLimits(minimum_rows=1, minimum_reference_rows=1)
    if not counts.sum():
        counts[0] = 1.0
    shares, wanted = (counts + 0.5) / (counts + 0.5).sum(), expected / expected.sum()
    psi = float(((shares - wanted) * np.log(shares / wanted)).sum())
    scale = 1 / counts.sum() + 1 / expected.sum()
    names = [str(position) for position in range(len(drawn))]
    reference = ReferenceBins(dict(zip(names, wanted.tolist(), strict=True)), expected.sum())
    found = compare("x", dict(zip(names, counts.tolist(), strict=True)), reference, limits, 30)
    assert found.psi == pytest.approx(psi, rel=1e-9, abs=1e-14)
    assert found.noise == pytest.approx((len(drawn) - 1) * scale, rel=1e-9)
    quantile = stats.chi2.isf(0.001 / 30, len(drawn) - 1)
    assert found.critical_psi == pytest.approx(quantile * scale, rel=1e-9)
    assert found.chance == pytest.approx(stats.chi2.sf(psi / scale, len(drawn) - 1), rel=1e-6, abs=1e-300)


def test_psi_is_close_to_the_chi_square_of_the_two_samples() -> None:
    """Which is what its critical value rests on."""
    random = np.random.default_rng(5)
    one, other = random.multinomial(2_000, [0.05] * 20), random.multinomial(10_000, [0.05] * 20)
    oracle = stats.chi2_contingency(np.stack([one, other]), correction=False)
    reference = reference_of({str(bin_): float(count) for bin_, count in enumerate(other)})
    found = compare("x", {str(bin_): float(count) for bin_, count in enumerate(one)}, reference, LIMITS, 1)
    assert found.psi / (found.noise / 19) == pytest.approx(oracle.statistic, rel=0.05)
    assert found.chance == pytest.approx(oracle.pvalue, rel=0.3)


def test_a_quantile_of_the_reference_is_what_it_was_measured_to_be() -> None:
    assert critical_value(19, 0.001, 20) == pytest.approx(52.81, abs=0.005)


def test_a_feature_that_moved_is_named_with_how_far() -> None:
    verdict, features = judge_drift(
        {"age": moved(2000), "income": even(2000)}, {"age": EVEN, "income": EVEN}, LIMITS
    )
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.TRUE, Reason.FEATURES_DRIFTED, True)
    assert [one.feature for one in features] == ["age", "income"]
    assert features[0].severity is Severity.CRITICAL
    assert verdict.message == (
        "1 of 2 features moved; age: PSI 0.26 beyond noise, more than 0.25, over 2,000 rows"
    )


def test_no_drift_says_which_feature_is_furthest() -> None:
    verdict, _ = judge_drift({"age": even(2000), "pay": even(3000)}, {"age": EVEN, "pay": EVEN}, LIMITS)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.FALSE, Reason.NO_DRIFT, False)
    assert verdict.message == (
        "2 features as before; furthest is pay: PSI -0.00823 beyond noise, 0.05 allowed, over 3,000 rows"
    )


def test_below_the_minimum_nothing_is_said_even_if_all_has_moved() -> None:
    verdict, features = judge_drift({"age": moved(999)}, {"age": EVEN}, LIMITS)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.UNKNOWN, Reason.TOO_FEW_ROWS, False)
    assert "age has 999 rows of the 1,000 needed" in verdict.message
    assert features[0].severity is None


def test_a_reference_of_few_rows_says_nothing() -> None:
    verdict, _ = judge_drift({"age": moved(5000)}, {"age": ReferenceBins(EVEN.shares, 200)}, LIMITS)
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, Reason.TOO_FEW_ROWS)
    assert "its reference 200 of 1,000" in verdict.message


def test_without_a_profile_nothing_is_said() -> None:
    verdict, features = judge_drift({"age": even(5000)}, {}, LIMITS)
    assert (verdict.status, verdict.reason, features) == (Status.UNKNOWN, Reason.NO_REFERENCE, ())


def test_a_feature_that_moved_counts_although_another_waits_for_rows() -> None:
    verdict, _ = judge_drift({"age": moved(2000), "pay": even(3)}, {"age": EVEN, "pay": EVEN}, LIMITS)
    assert verdict.status is Status.TRUE


def test_a_feature_of_one_bin_cannot_move() -> None:
    verdict, _ = judge_drift({"flag": {"0": 5000}}, {"flag": ReferenceBins({"0": 1.0}, 5000)}, LIMITS)
    assert verdict.status is Status.FALSE


def test_a_window_of_another_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="x: bin 99 is not in the reference"):
        compare("x", {"99": 1.0}, EVEN, LIMITS, 1)


def test_a_share_of_0_in_the_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="smooth it"):
        ReferenceBins({"0": 0.0, "1": 1.0}, 10)


def test_a_window_serves_as_a_reference_although_a_bin_is_empty() -> None:
    reference = reference_of({"0": 0.0, "1": 999.0})
    assert reference.rows == 999
    assert reference.shares == {"0": 0.5 / 1000, "1": 999.5 / 1000}
    assert math.isfinite(compare("x", {"0": 500.0, "1": 500.0}, reference, LIMITS, 1).psi)


def test_many_drifted_features_fit_into_a_condition() -> None:
    names = [f"{'long' * 40}{position}" for position in range(50)]
    verdict, _ = judge_drift(dict.fromkeys(names, moved(2000)), dict.fromkeys(names, EVEN), LIMITS)
    assert len(verdict.message) <= 1024
    assert verdict.message.startswith("50 of 50 features moved; longlong")
    assert verdict.message.endswith("more")


def test_yesterday_is_the_same_hour_a_day_ago() -> None:
    marks = tuple(Mark(hour * 3600.0, {"x": float(hour * hour)}) for hour in range(50))
    assert yesterday(marks, 49 * 3600.0, 3600.0) == ({"x": 97}, {"x": 49})
    assert yesterday(marks[-20:], 49 * 3600.0, 3600.0) is None
