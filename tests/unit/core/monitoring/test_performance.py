"""Accuracy by the labels that came, against scikit-learn's; and a guess where none came."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from slipway.api.reasons import Reason
from slipway.core.monitoring.performance import (
    Confusion,
    Feedback,
    Objective,
    PerformanceMetric,
    coverage,
    estimate_accuracy,
    judge_performance,
    measure,
    quantile,
)
from slipway.core.monitoring.verdict import Status

NO_DELAYS = {math.inf: 0.0}
ACCURACY = Objective(PerformanceMetric.ACCURACY, 0.82)
pairs = st.tuples(st.sampled_from("abc"), st.sampled_from("abc"))


def of(right: float, wrong: float) -> Confusion:
    return {("a", "a"): right * 0.5, ("b", "b"): right * 0.5, ("a", "b"): wrong}


@given(st.lists(pairs, min_size=1, max_size=200))
def test_the_metrics_are_scikit_learns(drawn: list[tuple[str, str]]) -> None:
    predicted, truth = [one for one, _ in drawn], [other for _, other in drawn]
    confusion = Counter(drawn)
    accuracy = measure(confusion, PerformanceMetric.ACCURACY).value
    assert accuracy == pytest.approx(metrics.accuracy_score(truth, predicted), rel=1e-9)
    precision = measure(confusion, PerformanceMetric.PRECISION, "b").value
    recall = measure(confusion, PerformanceMetric.RECALL, "b").value
    options = {"labels": ["b"], "average": "micro", "zero_division": np.nan}
    assert precision == pytest.approx(
        metrics.precision_score(truth, predicted, **options), rel=1e-9, nan_ok=True
    )
    assert recall == pytest.approx(metrics.recall_score(truth, predicted, **options), rel=1e-9, nan_ok=True)


def test_an_objective_that_is_met_says_how_many_labels_came_and_when() -> None:
    feedback = Feedback(of(900, 100), 20_000, {3600.0: 0.0, 86_400.0: 600.0, math.inf: 1000.0})
    verdict, _ = judge_performance(feedback, [ACCURACY])
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.TRUE, Reason.OBJECTIVES_MET, False)
    assert verdict.message == (
        "Accuracy 90% of 1,000 labels (88% to 91.7%), at least 82%; "
        "labels for 5% of the rows; half within 20.2 h"
    )


def test_an_objective_is_missed_once_the_whole_interval_lies_below() -> None:
    verdict, _ = judge_performance(Feedback(of(780, 220), 1000, NO_DELAYS), [ACCURACY])
    assert (verdict.status, verdict.reason, verdict.is_breach) == (
        Status.FALSE,
        Reason.OBJECTIVE_MISSED,
        True,
    )
    assert verdict.message == (
        "Accuracy 78% of 1,000 labels (75.3% to 80.5%), below 82%; labels for 100% of the rows"
    )


def test_a_value_below_the_objective_may_be_chance() -> None:
    verdict, _ = judge_performance(Feedback(of(240, 60), 300, NO_DELAYS), [ACCURACY])
    assert (verdict.status, verdict.reason, verdict.is_breach) == (
        Status.UNKNOWN,
        Reason.INCONCLUSIVE,
        False,
    )
    assert verdict.message == (
        "Accuracy 80% of 300 labels (75.1% to 84.1%), not clearly below 82%; labels for 100% of the rows"
    )


def test_too_few_labels_say_nothing_however_bad() -> None:
    verdict, _ = judge_performance(Feedback(of(0, 299), 299, NO_DELAYS), [ACCURACY])
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, Reason.TOO_FEW_LABELS)
    assert verdict.message.startswith("Accuracy has 299 labels of the 300 needed")


def test_an_objective_that_is_missed_is_said_although_another_waits() -> None:
    waiting = Objective(PerformanceMetric.RECALL, 0.5, outcome="c")
    verdict, _ = judge_performance(Feedback(of(500, 500), 1000, NO_DELAYS), [waiting, ACCURACY])
    assert (verdict.status, verdict.reason) == (Status.FALSE, Reason.OBJECTIVE_MISSED)


def test_no_objective_says_nothing() -> None:
    verdict, _ = judge_performance(Feedback({}, 0, {}), [])
    assert (verdict.status, verdict.message) == (Status.UNKNOWN, "no objective is set")


def test_coverage_of_no_rows_is_no_number() -> None:
    assert math.isnan(coverage(Feedback({}, 0, {})))
    assert coverage(Feedback(of(5, 5), 40, {})) == 0.25


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 10.0), (0.25, 5.0), (0.75, 55.0), (0.95, 100.0), (0.0, 0.0)]
)
def test_a_quantile_lies_within_its_bucket(share: float, value: float) -> None:
    buckets = {10.0: 50.0, 100.0: 100.0 - 0.0, math.inf: 100.0}
    if share == 0.95:
        buckets = {10.0: 50.0, 100.0: 90.0, math.inf: 100.0}
    assert quantile(buckets, share) == pytest.approx(value)


def test_a_quantile_of_nothing_is_no_number() -> None:
    assert math.isnan(quantile({}, 0.5))
    assert math.isnan(quantile(NO_DELAYS, 0.5))


def test_without_labels_accuracy_is_what_held_out_rows_of_that_confidence_scored() -> None:
    found = estimate_accuracy({"0": 100.0, "1": 300.0, "9": 50.0}, {"0": 0.6, "1": 0.9})
    assert found is not None
    assert found.accuracy == pytest.approx((100 * 0.6 + 300 * 0.9) / 400)
    assert found.message == (
        "estimated without labels: accuracy 82.5% over 400 rows, if the same inputs still mean the same"
    )


def test_without_a_held_out_accuracy_nothing_is_estimated() -> None:
    assert estimate_accuracy({"0": 100.0}, {}) is None
    assert estimate_accuracy({"0": 0.0}, {"0": 0.5}) is None


def test_the_estimate_follows_a_shift_of_inputs_and_is_blind_to_a_change_of_meaning() -> None:
    """Which is why nothing is decided by it."""
    random = np.random.default_rng(7)

    def rows(mean: float, meaning: float) -> tuple[dict[str, float], dict[str, float], float]:
        inputs = random.normal(mean, 1.0, 40_000)
        score = 1 / (1 + np.exp(-2 * inputs))
        truth = random.random(40_000) < (score if meaning > 0 else 1 - score)
        right = (score > 0.5) == truth
        bins = np.minimum((np.maximum(score, 1 - score) * 20).astype(int), 19)
        counts = {str(bin_): float((bins == bin_).sum()) for bin_ in range(10, 20)}
        accuracy = {str(bin_): float(right[bins == bin_].mean()) for bin_ in range(10, 20)}
        return counts, accuracy, float(right.mean())

    _, held_out, usual = rows(0.0, 1.0)
    nearer, _, shifted = rows(1.0, 1.0)
    same, _, reversed_ = rows(0.0, -1.0)
    after_shift, after_reversal = estimate_accuracy(nearer, held_out), estimate_accuracy(same, held_out)
    assert after_shift is not None
    assert after_reversal is not None
    assert shifted > usual + 0.04
    assert after_shift.accuracy == pytest.approx(shifted, abs=0.01)
    assert reversed_ < 0.3
    assert after_reversal.accuracy == pytest.approx(usual, abs=0.01)
