"""Prometheus and the operator make the same of the same counters.

Two replicas count for more than a day, one of them restarts within the last hour. The figures of the core
come from their raw scrapes; those of the rules from promtool, which is Prometheus' own engine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.core.monitoring import drift, fairness, intervals, limits, performance, quality
from slipway.core.monitoring.counting import Mark, begin, increase, remember
from slipway.core.monitoring.limits import Limit
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
Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]


def labels_of(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


class World:
    """What the pods count, by step; and what both sides make of it."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(21)
        self.check = Check(("limits", "chi-square", "drift", "data-quality", "performance", "fairness"))
        self.pods: dict[str, dict[Series, list[float]]] = {"a": {}, "b": {}}

    def count(self, metric: str, labels: Mapping[str, str], yesterday: int, today: int) -> None:
        """A counter that rises by so much a step, split among the pods."""
        first = int(self.random.integers(0, min(yesterday, today) + 1))
        for pod, rates in (("a", (first, first)), ("b", (yesterday - first, today - first))):
            values, value = [0.0], 0.0
            for step in range(1, LAST + 1):
                value = 0.0 if pod == "b" and step == RESTART else value
                value += rates[step > TODAY]
                values.append(value)
            self.pods[pod][metric, labels_of(labels)] = values
            self.check.add(metric, {**MODEL, "pod": pod, **labels}, values)

    def gauge(self, metric: str, labels: Mapping[str, str], value: float) -> None:
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
            pod: {name: values[step] for name, values in series.items()} for pod, series in self.pods.items()
        }


def of(counts: Mapping[Series, float], metric: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    return [
        (dict(found), count)
        for (name, found), count in counts.items()
        if name == metric and labels.items() <= dict(found).items()
    ]


def bins_of(counts: Mapping[Series, float], feature: str) -> dict[str, float]:
    return {
        labels["bin"]: count
        for labels, count in of(counts, Metric.FEATURE_VALUES, feature=feature)
        if labels["bin"] not in ("missing", "other")
    }


@pytest.fixture(scope="module")
def world() -> World:
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
    found = []
    for attribute, reference in (("sex", "m"), ("age", "middle")):
        groups: dict[str, fairness.GroupCounts] = {}
        for group in sorted(
            {labels["group"] for labels, _ in of(counts, Metric.GROUP_PREDICTIONS, attribute=attribute)}
        ):
            who = {"attribute": attribute, "group": group}
            outcome = {
                labels["outcome"]: count for labels, count in of(counts, Metric.GROUP_PREDICTIONS, **who)
            }
            labelled = {
                (labels["outcome"] == "favorable", labels["label"] == "favorable"): count
                for labels, count in of(counts, Metric.GROUP_FEEDBACK, **who)
            }
            groups[group] = fairness.GroupCounts(outcome["favorable"], outcome["unfavorable"], labelled)
        found.append(fairness.Attribute(attribute, reference, groups))
    return found


Expect = Callable[[str, float], None]


def test_every_figure_is_the_same(world: World, tmp_path: Path) -> None:
    check = world.check
    check.expressions.clear()

    def expect(expression: str, value: float) -> None:
        check.expect(expression, value, NOW)

    def alarm(name: str, labels: str, fires: bool) -> None:
        firing = f'ALERTS{{alertname="{name}", alertstate="firing", {labels}}}'
        if fires:
            expect(f"count({firing})", 1)
        else:
            check.expect_nothing(firing, NOW)

    expect_drift(world, expect, alarm)
    expect_quality(world, expect, alarm)
    expect_performance(world, expect, alarm)
    expect_fairness(world, expect, alarm)
    assert len(check.expressions) > 60
    assert check.run(tmp_path) == ""


def expect_drift(world: World, expect: Expect, alarm: Any) -> None:
    hour, before = world.window(1), world.window(1, ago=24)
    references = {
        feature: drift.Reference(
            {
                name: world.check.series[
                    f'{Metric.FEATURE_REFERENCE_RATIO}{{namespace="risk", model="fraud", model_version="7", '
                    f'pod="a", feature="{feature}", bin="{name}"}}'
                ][0]
                for name in bins_of(hour, feature)
            },
            10_000,
        )
        for feature in ("age", "city")
    }
    for suffix, found in (
        ("", references),
        ("_yesterday", {name: drift.reference_of(bins_of(before, name)) for name in references}),
    ):
        windows = {feature: bins_of(hour, feature) for feature in references}
        _, features = drift.judge_drift(windows, found, drift.DriftLimits())
        for one in features:
            of_feature = f'{{feature="{one.feature}"}}'
            expect(f"slipway:feature_psi{suffix}:1h{of_feature}", one.psi)
            expect(f"slipway:feature_psi{suffix}_noise:1h{of_feature}", one.noise)
            expect(f"slipway:feature_psi{suffix}_critical:1h{of_feature}", one.critical_psi)
            expect(f"slipway:feature_psi{suffix}_excess:1h{of_feature}", one.excess)
            expect(f"slipway:feature_psi{suffix}_rows:1h{of_feature}", one.reference_rows)
            expect(f"slipway:feature_rows:increase1h{of_feature}", one.rows)
            if not suffix:
                for severity in ("warning", "critical"):
                    fires = one.severity == "critical" or one.severity == severity
                    alarm("SlipwayFeatureDrift", f'feature="{one.feature}", severity="{severity}"', fires)
        if not suffix:
            assert [one.severity for one in features] == ["warning", None]


def expect_quality(world: World, expect: Expect, alarm: Any) -> None:
    hour = world.window(1)
    features = []
    for feature in ("age", "city"):
        values = {labels["bin"]: count for labels, count in of(hour, Metric.FEATURE_VALUES, feature=feature)}
        violations = {labels["rule"]: count for labels, count in of(hour, Metric.VIOLATIONS, feature=feature)}
        features.append(
            quality.FeatureQuality(
                feature,
                sum(values.values()),
                values["missing"],
                values["other"],
                violations=violations,
            )
        )
    _, ratios = quality.judge_quality(features, quality.Ages(), quality.QualityLimits())
    z = limits.DEFAULTS[Limit.QUALITY_DEVIATIONS]
    for one in ratios:
        which = f'{{feature="{one.feature}", what="{one.what}"}}'
        expect(f"slipway:feature_bad:ratio1h{which}", one.share.value)
        low = intervals.share_interval(one.share, z).low
        expect(f"clamp_min(slipway:feature_bad_low:ratio1h{which}, 0)", low)
        labels = f'feature="{one.feature}", what="{one.what}"'
        alarm("SlipwayDataQuality", labels, one.is_exceeded)
    assert [(one.feature, one.what) for one in ratios if one.is_exceeded] == [
        ("age", "missing"),
        ("age", "range"),
        ("city", "unknown"),
    ]


def expect_performance(world: World, expect: Expect, alarm: Any) -> None:
    day, hour = world.window(24), world.window(1)
    confusion = {
        (labels["outcome"], labels["label"]): count for labels, count in of(day, Metric.FEEDBACK_LABELS)
    }
    [(_, rows)] = of(day, Metric.ROWS)
    delays = {float(labels["le"]): count for labels, count in of(day, f"{Metric.FEEDBACK_DELAY}_bucket")}
    feedback = performance.Feedback(confusion, rows, delays)
    objective = performance.Objective(performance.PerformanceMetric.ACCURACY, 0.9)
    verdict, [one] = performance.judge_performance(feedback, [objective])
    expect("slipway:labels:increase24h", one.share.rows)
    expect("slipway:accuracy:24h", one.share.value)
    expect("slipway:accuracy_low:24h", one.interval.low)
    expect("slipway:accuracy_high:24h", one.interval.high)
    expect("slipway:label_coverage:24h", performance.coverage(feedback))
    expect("slipway:label_delay_seconds:median24h", performance.quantile(delays, 0.5))
    estimate = performance.estimate_accuracy(
        {labels["bin"]: count for labels, count in of(hour, Metric.CONFIDENCE)},
        {"00": 0.6, "01": 0.8, "02": 0.97},
    )
    assert estimate is not None
    expect("slipway:estimated_accuracy:1h", estimate.accuracy)
    assert verdict.is_breach
    alarm("SlipwayAccuracyBelowObjective", 'model="fraud"', True)


def expect_fairness(world: World, expect: Expect, alarm: Any) -> None:
    verdict, gaps = fairness.judge_fairness(attributes(world), FAIRNESS)
    fires = {(gap.attribute, gap.metric): gap.is_exceeded for gap in gaps}
    assert verdict.is_breach
    assert {attribute for (attribute, _), exceeded in fires.items() if exceeded} == {"sex"}
    for gap in gaps:
        attribute = f'attribute="{gap.attribute}"'
        if gap.metric is fairness.FairnessMetric.DISPARATE_IMPACT_RATIO:
            which = f'{{{attribute}, group="{gap.group}"}}'
            expect(f"slipway:disparate_impact_ratio:24h{which}", gap.value)
            expect(f"slipway:disparate_impact_ratio_low:24h{which}", gap.interval.low)
            expect(f"slipway:disparate_impact_ratio_high:24h{which}", gap.interval.high)
            alarm("SlipwayDisparateImpact", attribute, gap.is_exceeded)
            continue
        if gap.metric is fairness.FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE:
            which, limit = f'{{{attribute}, rate="selection"}}', "demographic_parity_difference"
            expect(f"slipway:group_difference_low:24h{which}", gap.interval.low)
        else:
            which, limit = (
                f'{{{attribute}, rate=~"true_positive|false_positive"}}',
                "equalized_odds_difference",
            )
        expect(f"max(slipway:group_difference:24h{which})", gap.value)
        firing = f'alertname="SlipwayGroupDifference", alertstate="firing", metric="{limit}", {attribute}'
        fired = f"count(count by (attribute) (ALERTS{{{firing}}}))"
        if gap.is_exceeded:
            expect(fired, 1)
        else:
            world.check.expect_nothing(fired, NOW)
    world.check.expect_nothing('slipway:group_share:24h{group="old"}', NOW)
