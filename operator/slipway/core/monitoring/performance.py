"""How often a model was right, by the labels that came, and a guess for when none came.

Labels come late, and those that come first are not like the rest: a loan that fails does so before one that
is paid back counts as paid. So coverage and delay are part of every verdict's words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from slipway.api.reasons import Reason
from slipway.core.monitoring.intervals import Interval, Share, deviations, share_interval
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict, number, percent, say

#: Counts by what was predicted and what was true.
Confusion = Mapping[tuple[str, str], float]


class PerformanceMetric(StrEnum):
    """What an objective is about; see :func:`measure`."""

    ACCURACY = "Accuracy"
    PRECISION = "Precision"
    RECALL = "Recall"


@dataclass(frozen=True)
class Objective:
    """The least that is good enough.

    Attributes:
        metric: what is measured.
        minimum: between 0 and 1.
        minimum_labels: below, nothing is said.
        outcome: the class that Precision and Recall are about.
    """

    metric: PerformanceMetric
    minimum: float
    minimum_labels: int = 300
    outcome: str = ""


@dataclass(frozen=True)
class Feedback:
    """What came back.

    Attributes:
        confusion: counts by predicted outcome and label.
        rows: that were predicted in the same window.
        delays: labels by how long they took: upper bound in seconds → count up to it; the last is infinite.
    """

    confusion: Confusion
    rows: float
    delays: Mapping[float, float]


@dataclass(frozen=True)
class Measurement:
    """A metric's value, and where the true one lies."""

    objective: Objective
    share: Share
    interval: Interval


@dataclass(frozen=True)
class Estimate:
    """Accuracy as the model's own confidence lets expect it; see :func:`estimate_accuracy`."""

    accuracy: float
    rows: float
    message: str


def measure(confusion: Confusion, metric: PerformanceMetric, outcome: str = "") -> Share:
    """The rows that were right, of those that the metric asks about.

    Accuracy: of all. Precision: of those predicted as ``outcome``. Recall: of those that truly were.
    """
    if metric is PerformanceMetric.ACCURACY:
        asked = dict(confusion)
    else:
        side = 0 if metric is PerformanceMetric.PRECISION else 1
        asked = {pair: count for pair, count in confusion.items() if pair[side] == outcome}
    right = sum(count for (predicted, label), count in asked.items() if predicted == label)
    return Share(right, sum(asked.values()))


def judge_performance(
    feedback: Feedback, objectives: Sequence[Objective], confidence: float = 0.95
) -> tuple[Verdict, tuple[Measurement, ...]]:
    """The verdict over all objectives, and what each was judged on.

    An objective is missed only if the whole interval lies below it, and met if the measured value reaches it.
    """
    z = deviations(confidence, max(1, len(objectives)))
    measured = []
    for objective in objectives:
        share = measure(feedback.confusion, objective.metric, objective.outcome)
        measured.append(Measurement(objective, share, share_interval(share, z)))
    return _verdict(measured, feedback), tuple(measured)


def coverage(feedback: Feedback) -> float:
    """Labels per predicted row; not a number where nothing was predicted.

    Above 1 where labels of an earlier window's rows come in.
    """
    labels = sum(feedback.confusion.values())
    return labels / feedback.rows if feedback.rows else math.nan


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """Of a cumulative histogram, by linear interpolation within a bucket, as Prometheus does it.

    Source: https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile, for bounds
    above 0.

    Returns:
        In the unit of the bounds; the largest finite bound where it lies beyond, not a number without counts.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return math.nan
    rank = share * buckets[bounds[-1]]
    before, low = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - before) / (buckets[bound] - before)
        before, low = buckets[bound], bound
    return low


def estimate_accuracy(
    confidences: Mapping[str, float], held_out_accuracy: Mapping[str, float]
) -> Estimate | None:
    """Accuracy without labels: what held-out rows of the same confidence scored.

    It follows inputs that moved to where the model is less sure. It does not see a world in which the same
    inputs now mean something else, so nothing is decided by it. Source: confidence-based performance
    estimation, binned; https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html.

    Args:
        confidences: rows by bin of the top class's confidence.
        held_out_accuracy: share of held-out rows in that bin that were right; a bin without one is left out.

    Returns:
        None where no row is in a bin that has an accuracy.
    """
    known = confidences.keys() & held_out_accuracy.keys()
    rows = sum(confidences[name] for name in known)
    if not rows:
        return None
    accuracy = sum(confidences[name] * held_out_accuracy[name] for name in sorted(known)) / rows
    message = (
        f"estimated without labels: accuracy {percent(accuracy)} over {number(rows)} rows, "
        "if the same inputs still mean the same"
    )
    return Estimate(accuracy, rows, message)


def _verdict(measured: list[Measurement], feedback: Feedback) -> Verdict:
    told = _timing(feedback)
    missed = [one for one in measured if _enough(one) and one.interval.high < one.objective.minimum]
    if missed:
        parts = [_words(one, "below") for one in missed]
        return say(MonitoredCondition.PERFORMANCE, Status.FALSE, Reason.OBJECTIVE_MISSED, [*parts, *told])
    waiting = [one for one in measured if not _enough(one)]
    if waiting or not measured:
        parts = [
            f"{_name(one.objective)} has {number(one.share.rows)} labels of the "
            f"{number(one.objective.minimum_labels)} needed"
            for one in waiting
        ] or ["no objective is set"]
        return say(MonitoredCondition.PERFORMANCE, Status.UNKNOWN, Reason.TOO_FEW_LABELS, [*parts, *told])
    unclear = [one for one in measured if one.share.value < one.objective.minimum]
    if unclear:
        parts = [_words(one, "not clearly below") for one in unclear]
        return say(MonitoredCondition.PERFORMANCE, Status.UNKNOWN, Reason.INCONCLUSIVE, [*parts, *told])
    parts = [_words(one, "at least") for one in measured]
    return say(MonitoredCondition.PERFORMANCE, Status.TRUE, Reason.OBJECTIVES_MET, [*parts, *told])


def _enough(one: Measurement) -> bool:
    return one.share.rows >= max(1, one.objective.minimum_labels)


def _words(one: Measurement, relation: str) -> str:
    return (
        f"{_name(one.objective)} {percent(one.share.value)} of {number(one.share.rows)} labels "
        f"({percent(one.interval.low)} to {percent(one.interval.high)}), {relation} "
        f"{percent(one.objective.minimum)}"
    )


def _name(objective: Objective) -> str:
    return f"{objective.metric} of {objective.outcome}" if objective.outcome else str(objective.metric)


def _timing(feedback: Feedback) -> list[str]:
    covered, median = coverage(feedback), quantile(feedback.delays, 0.5)
    told = [] if math.isnan(covered) else [f"labels for {percent(covered)} of the rows"]
    return told if math.isnan(median) else [*told, f"half within {_duration(median)}"]


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"
