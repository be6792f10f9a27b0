"""Prometheus and the operator make the same of the same counters.

The figures of the core come from raw scrapes; those of the rules from promtool, Prometheus' own engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.core.monitoring import drift, fairness, intervals, limits, performance, quality, series
from slipway.core.monitoring.limits import Limit
from slipway.core.monitoring.verdict import MonitoredCondition
from tests.unit.judged import Judged
from tests.unit.observability.promtool import STEP_MINUTES
from tests.unit.observability.world import FAIRNESS, LAST, NOW, TODAY, World, attributes, make_world

Expect = Callable[[str, float], None]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


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
    windows, references = series.feature_windows(hour), series.references(world.gauges)
    of_yesterday = series.feature_windows(before)
    for suffix, found in (
        ("", references),
        ("_yesterday", {name: drift.reference_of(counts) for name, counts in of_yesterday.items()}),
    ):
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
    features = series.feature_quality(hour, world.gauges)
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
    feedback = series.feedback(day)
    objective = performance.Objective(performance.PerformanceMetric.ACCURACY, 0.9)
    verdict, [one] = performance.judge_performance(feedback, [objective])
    expect("slipway:labels:increase24h", one.share.rows)
    expect("slipway:accuracy:24h", one.share.value)
    expect("slipway:accuracy_low:24h", one.interval.low)
    expect("slipway:accuracy_high:24h", one.interval.high)
    expect("slipway:label_coverage:24h", performance.coverage(feedback))
    expect("slipway:label_delay_seconds:median24h", performance.quantile(feedback.delays, 0.5))
    estimate = performance.estimate_accuracy(series.confidences(hour), series.held_out_accuracy(world.gauges))
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


async def test_the_operators_own_findings_are_the_figures_that_prometheus_was_held_to(world: World) -> None:
    """From what the pods show at each step, through the operator's judge, whose counting began a day ago."""
    asked = {
        "monitoring": {
            "performance": {
                "feedback": {"secretRef": {"name": "keys"}},
                "objectives": [{"metric": "Accuracy", "minimum": "90%"}],
            },
        },
        "fairness": {
            "sensitiveAttributes": [
                {"name": "sex", "parameter": "a", "groups": ["f", "m"], "referenceGroup": "m"},
                {
                    "name": "age",
                    "parameter": "b",
                    "groups": ["middle", "old", "young"],
                    "referenceGroup": "middle",
                },
            ],
            "favorableOutcomes": ["1"],
            "metrics": [
                {"name": "DisparateImpactRatio", "minimum": "80%"},
                {"name": "DemographicParityDifference", "maximum": "10%"},
                {"name": "EqualizedOddsDifference", "maximum": "10%"},
            ],
        },
    }
    judged = Judged(asked, {pod: {**world.gauges, **values} for pod, values in world.scrapes(TODAY).items()})
    await judged.look(0)
    for step in range(TODAY + 1, LAST + 1):
        for pod, values in world.scrapes(step).items():
            judged.shown[pod] = {**world.gauges, **values}
        await judged.look(60 * STEP_MINUTES)

    hour = world.window(1)
    windows, references = series.feature_windows(hour), series.references(world.gauges)
    of_drift, features = drift.judge_drift(windows, references, drift.DriftLimits())
    assert judged.findings[MonitoredCondition.DRIFT].verdict == of_drift
    assert judged.findings[MonitoredCondition.DRIFT].features == tuple(
        one for one in features if one.severity
    )
    of_quality, _ = quality.judge_quality(
        series.feature_quality(hour, world.gauges), quality.Ages(), quality.QualityLimits()
    )
    assert judged.findings[MonitoredCondition.DATA_QUALITY].verdict == of_quality
    objective = performance.Objective(performance.PerformanceMetric.ACCURACY, 0.9)
    of_labels, _ = performance.judge_performance(series.feedback(world.window(24)), [objective])
    assert judged.findings[MonitoredCondition.PERFORMANCE].verdict == of_labels
    of_groups, _ = fairness.judge_fairness(attributes(world), FAIRNESS)
    assert judged.findings[MonitoredCondition.FAIRNESS].verdict == of_groups
    assert all(finding.verdict.is_breach for finding in judged.findings.values())
