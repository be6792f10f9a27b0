"""From the series that a model server exports to what is judged."""

from __future__ import annotations

import math

from slipway.core.monitoring import series
from slipway.core.monitoring.performance import PerformanceMetric, measure
from slipway.names import Metric

MODEL = {"model": "fraud", "model_version": "7"}


def values(*samples: tuple[str, dict[str, str], float]) -> series.Values:
    return series.add_up((metric, {**MODEL, **labels}, value) for metric, labels, value in samples)


FEATURES = values(
    *(
        (Metric.FEATURE_VALUES, {"feature": "age", "bin": name}, count)
        for name, count in (("(-inf,30]", 6.0), ("(30,+inf)", 4.0), ("missing", 2.0), ("other", 1.0))
    ),
    (Metric.VIOLATIONS, {"feature": "age", "rule": "range"}, 3.0),
)
GAUGES = values(
    (Metric.FEATURE_REFERENCE_RATIO, {"feature": "age", "bin": "(-inf,30]"}, 0.5),
    (Metric.FEATURE_REFERENCE_RATIO, {"feature": "age", "bin": "(30,+inf)"}, 0.5),
    (Metric.FEATURE_REFERENCE_RATIO, {"feature": "age", "bin": "other"}, 0.1),
    (Metric.FEATURE_REFERENCE_ROWS, {"feature": "age"}, 1000.0),
    (Metric.FEATURE_REFERENCE_RATIO, {"feature": "pay", "bin": "0"}, 1.0),
)


def test_where_a_series_comes_from_is_no_part_of_its_name() -> None:
    one = series.series("x_total", {"bin": "0", "pod": "a", "namespace": "risk", **MODEL})
    assert one == ("x_total", (("bin", "0"),))


def test_samples_that_differ_by_version_alone_add_up() -> None:
    samples = [("x_total", {"model_version": version}, 2.0) for version in ("6", "7")]
    assert series.add_up(samples) == {("x_total", ()): 4.0}


def test_a_window_has_the_bins_and_not_what_lies_in_none() -> None:
    assert series.feature_windows(FEATURES) == {"age": {"(-inf,30]": 6, "(30,+inf)": 4}}


def test_a_reference_needs_to_tell_how_many_rows_it_is_of() -> None:
    found = series.references(GAUGES)
    assert set(found) == {"age"}
    assert (found["age"].rows, dict(found["age"].shares)) == (1000, {"(-inf,30]": 0.5, "(30,+inf)": 0.5})


def test_quality_has_all_values_and_what_is_wrong_with_them() -> None:
    [age] = series.feature_quality(FEATURES, GAUGES)
    assert (age.rows, age.missing, age.unknown, age.reference_unknown) == (13, 2, 1, 0.1)
    assert age.violations == {"range": 3}


def test_feedback_has_confusion_rows_and_delays() -> None:
    found = series.feedback(
        values(
            (Metric.FEEDBACK_LABELS, {"outcome": "1", "label": "0", "correct": "false"}, 2.0),
            (Metric.ROWS, {}, 50.0),
            (f"{Metric.FEEDBACK_DELAY}_bucket", {"le": "60.0"}, 1.0),
            (f"{Metric.FEEDBACK_DELAY}_bucket", {"le": "+Inf"}, 2.0),
        )
    )
    assert (found.confusion, found.rows) == ({("1", "0"): 2}, 50)
    assert found.delays == {60.0: 1, math.inf: 2}


def test_confidence_goes_by_bin() -> None:
    assert series.confidences(values((Metric.CONFIDENCE, {"bin": "3"}, 9.0))) == {"3": 9}
    assert series.held_out_accuracy(values((Metric.REFERENCE_ACCURACY, {"bin": "3"}, 0.8))) == {"3": 0.8}


def test_a_declared_group_that_nobody_belonged_to_got_nothing() -> None:
    counts = values(
        (Metric.GROUP_PREDICTIONS, {"attribute": "sex", "group": "f", "outcome": "favorable"}, 3.0),
        (Metric.GROUP_PREDICTIONS, {"attribute": "sex", "group": "f", "outcome": "unfavorable"}, 5.0),
        (Metric.GROUP_PREDICTIONS, {"attribute": "age", "group": "f", "outcome": "favorable"}, 9.0),
        (
            Metric.GROUP_FEEDBACK,
            {"attribute": "sex", "group": "f", "outcome": "favorable", "label": "unfavorable"},
            2.0,
        ),
    )
    sex = series.attribute(counts, "sex", "m", ("f", "m"))
    assert sex.groups["f"].selection.value == 3 / 8
    assert sex.groups["f"].false_positives.rows == 2
    assert sex.groups["m"].selection.rows == 0


def test_two_classes_that_are_both_unknown_are_not_taken_for_a_right_answer() -> None:
    other = {"outcome": "other", "label": "other"}
    for order in (("true", "false"), ("false", "true")):
        counted = {"true": 30.0, "false": 70.0}
        found = series.feedback(
            values(*((Metric.FEEDBACK_LABELS, {**other, "correct": it}, counted[it]) for it in order))
        )
        share = measure(found.confusion, PerformanceMetric.ACCURACY)
        assert (share.hits, share.rows) == (30, 100)
