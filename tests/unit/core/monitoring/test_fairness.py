"""Fairness by counts, against Fairlearn's figures and published ones."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn import metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.api.reasons import Reason
from slipway.core.monitoring.fairness import (
    Attribute,
    FairnessLimit,
    FairnessLimits,
    FairnessMetric,
    Gap,
    GroupCounts,
    comparisons,
    judge_fairness,
)
from slipway.core.monitoring.verdict import Status

ALL = (
    FairnessLimit(FairnessMetric.DISPARATE_IMPACT_RATIO, 0.8),
    FairnessLimit(FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE, 0.1),
    FairnessLimit(FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE, 0.1),
    FairnessLimit(FairnessMetric.EQUALIZED_ODDS_DIFFERENCE, 0.1),
)


def group(tp: int, fn: int, fp: int, tn: int) -> GroupCounts:
    labels = {(True, True): tp, (False, True): fn, (True, False): fp, (False, False): tn}
    return GroupCounts(tp + fp, fn + tn, labels)


def selected(favorable: int, unfavorable: int) -> GroupCounts:
    return GroupCounts(favorable, unfavorable, {})


def only(metric: FairnessMetric, minimum: int = 100) -> FairnessLimits:
    return FairnessLimits([limit for limit in ALL if limit.metric is metric], minimum_group_rows=minimum)


def by_metric(gaps: tuple[Gap, ...]) -> dict[FairnessMetric, float]:
    return {gap.metric: gap.value for gap in gaps}


rows = st.integers(1, 60)


@settings(max_examples=40)
@given(st.lists(st.tuples(rows, rows, rows, rows), min_size=2, max_size=5))
def test_every_figure_is_fairlearns(drawn: list[tuple[int, int, int, int]]) -> None:
    names = [f"g{position}" for position in range(len(drawn))]
    truth, predicted, groups = [], [], []
    for name, (tp, fn, fp, tn) in zip(names, drawn, strict=True):
        truth += [1] * (tp + fn) + [0] * (fp + tn)
        predicted += [1] * tp + [0] * fn + [1] * fp + [0] * tn
        groups += [name] * (tp + fn + fp + tn)
    attribute = Attribute("a", "g0", {n: group(*cells) for n, cells in zip(names, drawn, strict=True)})
    _, gaps = judge_fairness([attribute], FairnessLimits(ALL, minimum_group_rows=1))
    found = by_metric(gaps)
    told = {"y_true": truth, "y_pred": predicted, "sensitive_features": groups}
    assert found[FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE] == pytest.approx(
        metrics.demographic_parity_difference(**told), rel=1e-9, abs=1e-12
    )
    assert found[FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE] == pytest.approx(
        metrics.equal_opportunity_difference(**told), rel=1e-9, abs=1e-12
    )
    widest = max(
        (gap for gap in gaps if gap.metric is FairnessMetric.EQUALIZED_ODDS_DIFFERENCE),
        key=lambda gap: gap.value,
    )
    if not widest.is_exceeded:
        assert widest.value == pytest.approx(metrics.equalized_odds_difference(**told), rel=1e-9, abs=1e-12)
    by_group = metrics.MetricFrame(
        metrics=metrics.selection_rate, y_true=truth, y_pred=predicted, sensitive_features=groups
    ).by_group
    ratios = {float(by_group[name] / by_group["g0"]) for name in names[1:]}
    [ratio] = [gap for gap in gaps if gap.metric is FairnessMetric.DISPARATE_IMPACT_RATIO]
    assert min(abs(ratio.value - one) for one in ratios) < 1e-9
    if not ratio.is_exceeded:
        furthest = min(min(one, 1 / one) for one in ratios)
        assert min(ratio.value, 1 / ratio.value) == pytest.approx(furthest, rel=1e-9)
    if len(drawn) == 2:
        oracle = metrics.demographic_parity_ratio(**told)
        assert min(ratio.value, 1 / ratio.value) == pytest.approx(oracle, rel=1e-9)


def test_compas_comes_out_as_published() -> None:
    """ProPublica's counts of "high risk" by race, and the rates that it published in 2016.

    Source: github.com/propublica/compas-analysis, Compas Analysis.ipynb, cells 54 and 55. "High risk" is the
    unfavorable outcome, so their false positive rate is our miss of a true favorable.
    """
    black = group(tp=990, fn=805, fp=532, tn=1369)
    white = group(tp=1139, fn=349, fp=461, tn=505)
    assert round(100 * (1 - black.true_positives.value), 2) == 44.85
    assert round(100 * (1 - white.true_positives.value), 2) == 23.45
    assert round(100 * black.false_positives.value, 2) == 27.99
    assert round(100 * white.false_positives.value, 2) == 47.72
    race = Attribute("race", "white", {"black": black, "white": white})
    verdict, gaps = judge_fairness([race], FairnessLimits(ALL))
    found = by_metric(gaps)
    assert found[FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE] == pytest.approx(0.4485 - 0.2345, abs=1e-4)
    assert found[FairnessMetric.EQUALIZED_ODDS_DIFFERENCE] == pytest.approx(0.4485 - 0.2345, abs=1e-4)
    assert found[FairnessMetric.DISPARATE_IMPACT_RATIO] == pytest.approx(0.4118 / 0.6520, abs=1e-4)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.FALSE, Reason.UNFAIR, True)
    assert verdict.message.startswith(
        "race: DisparateImpactRatio 0.632 (0.593 to 0.673), beyond 0.8: "
        "black 41.2% of 3,696, white 65.2% of 2,454; "
    )


def test_berkeleys_admissions_come_out_as_published() -> None:
    """Bickel, Hammel, O'Connell, "Sex bias in graduate admissions", Science 187 (1975), table 1."""
    sex = Attribute("sex", "male", {"male": selected(3738, 4704), "female": selected(1494, 2827)})
    verdict, [gap] = judge_fairness([sex], only(FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE))
    assert (round(100 * gap.share.value), round(100 * gap.other_share.value)) == (44, 35)
    assert gap.interval.low > 0.07
    assert verdict.status is Status.TRUE
    assert verdict.message == (
        "sex: DemographicParityDifference 0.097 (0.0793 to 0.115), within 0.1: "
        "male 44.3% of 8,442, female 34.6% of 4,321"
    )


def test_a_ratio_that_may_be_chance_is_no_alarm() -> None:
    sex = Attribute("sex", "m", {"m": selected(100, 900), "f": selected(7, 93)})
    verdict, [gap] = judge_fairness([sex], only(FairnessMetric.DISPARATE_IMPACT_RATIO))
    assert gap.value == pytest.approx(0.7)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (
        Status.UNKNOWN,
        Reason.INCONCLUSIVE,
        False,
    )
    assert "not clearly beyond 0.8" in verdict.message


def test_a_group_that_is_favored_is_as_unfair_as_one_that_is_not() -> None:
    sex = Attribute("sex", "m", {"m": selected(200, 800), "f": selected(500, 500)})
    verdict, [gap] = judge_fairness([sex], only(FairnessMetric.DISPARATE_IMPACT_RATIO))
    assert verdict.status is Status.FALSE
    assert gap.value == pytest.approx(2.5)


def test_a_group_that_never_gets_the_favorable_outcome_is_found() -> None:
    sex = Attribute("sex", "m", {"m": selected(300, 700), "f": selected(0, 200)})
    verdict, [gap] = judge_fairness([sex], only(FairnessMetric.DISPARATE_IMPACT_RATIO))
    assert (verdict.status, gap.value) == (Status.FALSE, 0.0)


def test_where_nobody_gets_the_favorable_outcome_nothing_is_unfair() -> None:
    sex = Attribute("sex", "m", {"m": selected(0, 500), "f": selected(0, 500)})
    assert judge_fairness([sex], only(FairnessMetric.DISPARATE_IMPACT_RATIO))[0].status is Status.TRUE


def test_a_small_group_is_neither_judged_nor_shown() -> None:
    groups = {"m": selected(300, 700), "f": selected(290, 710), "x": selected(0, 99)}
    verdict, gaps = judge_fairness(
        [Attribute("sex", "m", groups)], only(FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE)
    )
    assert verdict.status is Status.TRUE
    assert all("x" not in (gap.group, gap.other) for gap in gaps)
    assert "99" not in verdict.message
    assert "x" not in verdict.message.replace("DemographicParityDifference", "").replace("sex", "")
    assert verdict.message.endswith("sex: 1 group of fewer than 100 rows is not shown")


@pytest.mark.parametrize("metric", FairnessMetric)
def test_where_two_groups_are_not_large_enough_nothing_is_said(metric: FairnessMetric) -> None:
    sex = Attribute("sex", "m", {"m": selected(300, 700), "f": selected(0, 99)})
    verdict, gaps = judge_fairness([sex], only(metric))
    assert (verdict.status, verdict.reason, gaps) == (Status.UNKNOWN, Reason.TOO_SMALL_GROUPS, ())
    assert "needs two groups with 100" in verdict.message


def test_equalized_odds_need_labels_of_both_kinds_unless_one_is_enough_to_tell() -> None:
    fair = Attribute("sex", "m", {"m": group(150, 150, 5, 5), "f": group(150, 150, 5, 5)})
    unfair = Attribute("sex", "m", {"m": group(250, 50, 5, 5), "f": group(50, 250, 5, 5)})
    limits = only(FairnessMetric.EQUALIZED_ODDS_DIFFERENCE)
    assert judge_fairness([fair], limits)[0].reason is Reason.TOO_SMALL_GROUPS
    assert judge_fairness([unfair], limits)[0].reason is Reason.UNFAIR


def test_ratios_need_the_reference_group() -> None:
    groups = {"m": selected(3, 7), "f": selected(500, 500), "x": selected(100, 900)}
    verdict, _ = judge_fairness([Attribute("sex", "m", groups)], only(FairnessMetric.DISPARATE_IMPACT_RATIO))
    assert verdict.reason is Reason.TOO_SMALL_GROUPS
    assert "two groups with 100 rows each, m among them" in verdict.message


def test_more_comparisons_need_more_evidence() -> None:
    two = Attribute("sex", "m", {"m": selected(300, 700), "f": selected(300, 700)})
    ten = Attribute("age", "0", {str(position): selected(300, 700) for position in range(10)})
    ratio, parity = (
        only(FairnessMetric.DISPARATE_IMPACT_RATIO),
        only(FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE),
    )
    assert [comparisons([two], ratio), comparisons([ten], ratio)] == [1, 9]
    assert [comparisons([two], parity), comparisons([two, ten], parity)] == [1, 46]
    _, [narrow] = judge_fairness([two], parity)
    _, [wide] = judge_fairness([ten], parity)
    assert wide.interval.low < narrow.interval.low


def test_no_attribute_says_nothing() -> None:
    verdict, _ = judge_fairness([], FairnessLimits(ALL))
    assert (verdict.status, verdict.message) == (Status.UNKNOWN, "no attribute is set")


def test_a_reference_group_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="reference group n is none of its groups"):
        judge_fairness([Attribute("sex", "n", {"m": selected(1, 1)})], FairnessLimits(ALL))


def test_a_generated_truth_is_found_within_its_interval() -> None:
    random = np.random.default_rng(11)
    held = 0
    for _ in range(200):
        sex = Attribute(
            "sex",
            "m",
            {
                "m": selected(hits := int(random.binomial(2000, 0.4)), 2000 - hits),
                "f": selected(other := int(random.binomial(700, 0.31)), 700 - other),
            },
        )
        _, [gap] = judge_fairness([sex], only(FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE))
        held += gap.interval.low <= 0.09 <= gap.interval.high
    assert 182 <= held <= 198
