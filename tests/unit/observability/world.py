"""A model's series over more than a day, from two replicas of which one restarts late."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from slipway.core.monitoring import drift, fairness, intervals, series
from slipway.core.monitoring.limits import Limit
from slipway.core.monitoring.series import Series
from slipway.core.monitoring.windows import Mark, begin, increase, remember
from slipway.names import Metric, OperatorMetric
from tests.unit.observability.promtool import STEP_MINUTES, Check

MODEL = {"namespace": "risk", "model": "fraud", "model_version": "7"}
LAST = 323
NOW = LAST * STEP_MINUTES
#: From here on rates are today's: 24 hours before the last step.
TODAY = LAST - 24 * 60 // STEP_MINUTES
RESTART = LAST - 6
LIMITS = {
    Limit.ACCURACY: 0.9,
    Limit.DISPARATE_IMPACT_RATIO: 0.8,
    Limit.DEMOGRAPHIC_PARITY_DIFFERENCE: 0.1,
    Limit.EQUALIZED_ODDS_DIFFERENCE: 0.1,
}
FAIRNESS = fairness.FairnessLimits(
    (
        fairness.FairnessLimit(fairness.FairnessMetric.DISPARATE_IMPACT_RATIO, 0.8),
        fairness.FairnessLimit(fairness.FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE, 0.1),
        fairness.FairnessLimit(fairness.FairnessMetric.EQUALIZED_ODDS_DIFFERENCE, 0.1),
    )
)


class World:
    """What the pods count, by step; and what both sides make of it."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(21)
        self.check = Check(("limits", "drift", "data-quality", "performance", "fairness"))
        self.pods: dict[str, dict[Series, list[float]]] = {"a": {}, "b": {}}
        self.gauges: dict[Series, float] = {}

    def count(self, metric: str, labels: Mapping[str, str], yesterday: int, today: int) -> None:
        """A counter that rises by so much a step, split among the pods."""
        first = int(self.random.integers(0, min(yesterday, today) + 1))
        for pod, rates in (("a", (first, first)), ("b", (yesterday - first, today - first))):
            values, value = [0.0], 0.0
            for step in range(1, LAST + 1):
                value = 0.0 if pod == "b" and step == RESTART else value
                value += rates[step > TODAY]
                values.append(value)
            self.pods[pod][series.series(metric, labels)] = values
            self.check.add(metric, {**MODEL, "pod": pod, **labels}, values)

    def gauge(self, metric: str, labels: Mapping[str, str], value: float) -> None:
        self.gauges[series.series(metric, labels)] = value
        for pod in self.pods:
            self.check.add(metric, {**MODEL, "pod": pod, **labels}, [value] * (LAST + 1))

    def told(self, metric: str, labels: Mapping[str, str], value: float) -> None:
        """By the operator."""
        place = {"namespace": "risk", "model": "fraud"}
        self.check.add(metric, {**place, **labels}, [value] * (LAST + 1))

    def window(self, hours: int, ago: int = 0) -> Mapping[Series, float]:
        """The core's increase of every series, from the raw scrapes."""
        end = 60.0 * NOW - 3600.0 * ago
        found = increase(self.marks, end - 3600.0 * hours, end)
        assert found is not None
        return found.counts

    @functools.cached_property
    def marks(self) -> tuple[Mark[Series], ...]:
        tally = begin(self.scrapes(0))
        marks: tuple[Mark[Series], ...] = (Mark(0.0, tally.totals),)
        for step in range(1, LAST + 1):
            tally = tally.add(self.scrapes(step))
            marks = remember(marks, Mark(60.0 * STEP_MINUTES * step, tally.totals), math.inf)
        return marks

    def scrapes(self, step: int) -> dict[str, dict[Series, float]]:
        return {
            pod: {name: values[step] for name, values in counted.items()}
            for pod, counted in self.pods.items()
        }


def make_world() -> World:
    """A day of a model that is drifted, incomplete, not good enough and unfair."""
    made = World()
    shares = {"age": np.full(20, 0.05), "city": np.array([0.5, 0.2, 0.2, 0.06, 0.04])}
    for feature, reference in shares.items():
        drawn = made.random.multinomial(4000, reference)
        tilted = reference * np.linspace(1.6, 0.4, len(reference)) if feature == "age" else reference
        today = np.round(900 * tilted).astype(int)
        for position, share in enumerate(reference):
            name = f"{position:02}"
            made.count(
                Metric.FEATURE_VALUES,
                {"feature": feature, "bin": name},
                int(drawn[position]),
                today[position],
            )
            made.gauge(Metric.FEATURE_REFERENCE_RATIO, {"feature": feature, "bin": name}, float(share))
        made.gauge(Metric.FEATURE_REFERENCE_ROWS, {"feature": feature}, 10_000)
        made.told(
            OperatorMetric.DRIFT_CRITICAL,
            {"model_version": "7", "feature": feature},
            drift.critical_value(len(reference) - 1, 0.001, 2),
        )
    for feature, missing, other in (("age", 90, 0), ("city", 10, 30)):
        made.count(Metric.FEATURE_VALUES, {"feature": feature, "bin": "missing"}, 3, missing)
        made.count(Metric.FEATURE_VALUES, {"feature": feature, "bin": "other"}, 3, other)
    made.count(Metric.VIOLATIONS, {"feature": "age", "rule": "range"}, 0, 40)
    made.count(Metric.VIOLATIONS, {"feature": "city", "rule": "enum"}, 0, 1)
    made.count(Metric.ROWS, {}, 900, 950)
    made.count(Metric.REQUESTS, {"code": "200"}, 90, 95)
    for name, confident, right in (("00", 200, 0.6), ("01", 300, 0.8), ("02", 400, 0.97)):
        made.count(Metric.CONFIDENCE, {"bin": name}, confident, confident)
        made.gauge(Metric.REFERENCE_ACCURACY, {"bin": name}, right)
    for outcome, label, count in (("0", "0", 4), ("1", "1", 3), ("0", "1", 1), ("1", "0", 1)):
        labels = {"outcome": outcome, "label": label, "correct": str(outcome == label).lower()}
        made.count(Metric.FEEDBACK_LABELS, labels, count, count)
    for bound, count in (("60.0", 1), ("3600.0", 5), ("86400.0", 8), ("+Inf", 9)):
        made.count(f"{Metric.FEEDBACK_DELAY}_bucket", {"le": bound}, count, count)
    groups = {
        ("sex", "m"): (8, 12, (5, 1, 3, 6)),
        ("sex", "f"): (4, 15, (2, 4, 1, 8)),
        ("age", "young"): (9, 11, (4, 2, 2, 5)),
        ("age", "middle"): (9, 12, (4, 3, 2, 7)),
        ("age", "old"): (0, 0, (0, 0, 0, 0)),
    }
    for (attribute, group), (favorable, unfavorable, cells) in groups.items():
        who = {"attribute": attribute, "group": group}
        for outcome, count in (("favorable", favorable), ("unfavorable", unfavorable)):
            made.count(Metric.GROUP_PREDICTIONS, {**who, "outcome": outcome}, count, count)
        labelled = (
            ("favorable", "favorable"),
            ("unfavorable", "favorable"),
            ("favorable", "unfavorable"),
            ("unfavorable", "unfavorable"),
        )
        for (outcome, label), count in zip(labelled, cells, strict=True):
            made.count(Metric.GROUP_FEEDBACK, {**who, "outcome": outcome, "label": label}, count, count)
    for attribute, group in (("sex", "m"), ("age", "middle")):
        made.told(OperatorMetric.FAIRNESS_REFERENCE, {"attribute": attribute, "group": group}, 1)
    z = intervals.deviations(0.95, fairness.comparisons(attributes(made), FAIRNESS))
    for limit, value in {**LIMITS, Limit.FAIRNESS_DEVIATIONS: z}.items():
        made.told(OperatorMetric.LIMIT, {"limit": limit}, value)
    return made


def attributes(world: World) -> list[fairness.Attribute]:
    counts = world.window(24)
    return [
        series.attribute(counts, "sex", "m", ("f", "m")),
        series.attribute(counts, "age", "middle", ("middle", "old", "young")),
    ]
