"""What an audit of groups says, by counts alone: seeded simulations bound how often it is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slipway.contract import Audited, Tally
from slipway.core.monitoring.fairness import FairnessLimit, FairnessLimits, FairnessMetric
from slipway.core.monitoring.intervals import deviations, paired_interval
from slipway.core.monitoring.subgroups import Groups, Judged, SubgroupLimits, judge_subgroups

DIGEST, OTHER, DATA = (f"sha256:{letter * 64}" for letter in "abc")
SEX = Groups("sex", ("female", "male"), "male")
RATIO = FairnessLimit(FairnessMetric.DISPARATE_IMPACT_RATIO, 0.8)
ODDS = FairnessLimit(FairnessMetric.EQUALIZED_ODDS_DIFFERENCE, 0.1)
NOTHING = FairnessLimits(())


def tally(tp: int, fp: int, fn: int, tn: int, gained: int = 0, lost: int = 0) -> Tally:
    """Of two classes: right is whoever got what is true."""
    return (tp, fp, fn, tn, tp + tn, gained, lost, 0, 0, 0, 0)


def total(*groups: Tally) -> Tally:
    return tuple(map(sum, zip(*groups, strict=True)))


def counted(*groups: Tally, baseline: str | None = OTHER) -> Audited:
    return Audited(
        digest=DIGEST, baseline=baseline, dataDigest=DATA, rows=total(*groups), groups=(tuple(groups),)
    )


def judged(*groups: Tally, baseline: str | None = OTHER, **limits: object) -> Judged:
    asked = SubgroupLimits((SEX,), NOTHING)
    return judge_subgroups(counted(*groups, baseline=baseline), replace(asked, **limits))  # type: ignore[arg-type]


GOOD = (tally(300, 50, 50, 600), tally(330, 45, 55, 570))


def test_a_fair_and_accurate_model_passes() -> None:
    found = judged(*GOOD, fairness=FairnessLimits((RATIO, ODDS)), minimum_accuracy=0.85, max_loss=0.02)
    assert found.verdict == "Pass"
    assert "sex: DisparateImpactRatio 0.933" in found.message
    assert "accuracy 90% (" in found.message
    assert {figure.metric for figure in found.figures} == {
        "DisparateImpactRatio",
        "EqualizedOddsDifference",
        "Accuracy",
        "AccuracyLoss",
    }


def test_a_group_that_is_passed_over_fails_and_is_named() -> None:
    found = judged(tally(100, 20, 250, 630), GOOD[1], fairness=FairnessLimits((RATIO,)))
    assert found.verdict == "Fail"
    assert found.message.startswith("sex: DisparateImpactRatio 0.32")
    assert "female 12% of 1,000, male 37.5% of 1,000" in found.message


def test_what_fails_comes_before_what_passes() -> None:
    found = judged(*GOOD, fairness=FairnessLimits((RATIO,)), minimum_accuracy=0.99)
    assert found.verdict == "Fail"
    assert found.message.startswith("accuracy 90%")


@pytest.mark.parametrize("rows", [10, 60])
def test_groups_that_are_too_small_are_inconclusive_and_not_shown(rows: int) -> None:
    found = judged(tally(0, 0, rows // 2, rows // 2), GOOD[1], fairness=FairnessLimits((RATIO,)))
    assert found.verdict == "Inconclusive"
    assert "needs two groups with 100 rows each" in found.message
    assert not [figure for figure in found.figures if "female" in figure.of]


def test_few_rows_say_nothing_of_accuracy() -> None:
    small = (tally(20, 5, 5, 70), tally(20, 5, 5, 70))
    found = judged(*small, minimum_accuracy=0.5, max_loss=0.5)
    assert found.verdict == "Inconclusive"
    assert "accuracy has 200 rows of the 300 needed" in found.message


@pytest.mark.parametrize(("rows", "tells"), [(299, False), (300, True)])
def test_as_many_rows_as_are_needed_tell_of_accuracy_and_its_loss(rows: int, tells: bool) -> None:
    group = tally(rows - 150, 0, 0, 50)
    found = judged(group, tally(50, 0, 0, 50), minimum_accuracy=0.5, max_loss=0.5)
    assert (found.verdict == "Pass") is tells
    assert ("of the 300 needed" in found.message) is not tells
    assert (f"loss of accuracy has {rows} rows" in found.message) is not tells


def test_a_loss_that_is_not_ruled_out_is_inconclusive_and_says_how_many_rows_would_tell() -> None:
    few = judged(tally(90, 20, 20, 70, gained=10, lost=10), tally(90, 20, 20, 70), max_loss=0.02)
    assert few.verdict == "Inconclusive"
    assert "2% is not ruled out; about " in few.message
    scale = 40
    many = judged(
        tally(90 * scale, 20 * scale, 20 * scale, 70 * scale, gained=10 * scale, lost=10 * scale),
        tally(90 * scale, 20 * scale, 20 * scale, 70 * scale),
        max_loss=0.02,
    )
    assert many.verdict == "Pass"


def test_a_group_that_loses_fails_though_all_together_gain() -> None:
    found = judged(tally(300, 50, 50, 100, lost=90), tally(3000, 100, 100, 3000, gained=300), max_loss=0.05)
    assert found.verdict == "Fail"
    assert found.message.startswith("sex: female loses 18% (")


def test_without_a_stable_version_nothing_can_be_lost() -> None:
    found = judged(*GOOD, baseline=None, minimum_accuracy=0.85, max_loss=0.001)
    assert found.verdict == "Pass"
    assert "lost" not in found.message


def test_counts_of_other_groups_are_not_judged() -> None:
    with pytest.raises(ValueError, match="others are asked for"):
        judged(GOOD[0], minimum_accuracy=0.5)


def test_more_questions_need_more_evidence() -> None:
    """All intervals of an audit share its confidence, whatever they are of."""
    rows = tally(280, 20, 20, 80), tally(280, 20, 20, 80)
    alone = judged(*rows, minimum_accuracy=0.5)
    among = judged(*rows, fairness=FairnessLimits((RATIO, ODDS)), minimum_accuracy=0.5, max_loss=0.9)
    widths = [
        figure.interval.high - figure.interval.low
        for found in (alone, among)
        for figure in found.figures
        if figure.metric == "Accuracy" and not figure.of
    ]
    assert widths[0] < widths[1]


@pytest.mark.parametrize(("rows", "differ"), [(50, 0.05), (300, 0.05), (300, 0.3), (2000, 0.05)])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_the_true_loss_is_within_its_interval_as_often_as_was_asked(
    rows: int, differ: float, loss: float
) -> None:
    chance, z = np.random.default_rng(7), deviations(0.95)
    drawn = chance.multinomial(rows, [(differ - loss) / 2, (differ + loss) / 2, 1.0 - differ], size=4000)
    inside = 0
    for gained, lost, _ in drawn.tolist():
        interval = paired_interval(lost, gained, rows, z)
        inside += interval.low <= loss <= interval.high
    assert inside / len(drawn) >= 0.945


def simulated(loss: float, rows: int, seed: int) -> list[str]:
    """Verdicts on two models that differ in 5% of the rows, of which the new one loses so many."""
    chance = np.random.default_rng(seed)
    drawn = chance.multinomial(rows, [(0.05 - loss) / 2, (0.05 + loss) / 2, 0.95], size=400)
    return [
        judged(
            tally(rows // 2, 0, 0, 0, gained=int(gained), lost=int(lost)),
            tally(rows - rows // 2, 0, 0, 0),
            max_loss=0.01,
            attributes=(Groups("sex", ("female", "male"), "male"),),
            fairness=FairnessLimits((), minimum_group_rows=10_000_000),
        ).verdict
        for gained, lost, _ in drawn.tolist()
    ]


def test_a_worse_model_hardly_ever_passes_and_an_equal_one_hardly_ever_fails() -> None:
    for rows in (500, 2000, 8000):
        assert simulated(0.015, rows, 1).count("Pass") <= 0.03 * 400
        assert simulated(0.0, rows, 2).count("Fail") <= 0.03 * 400
    assert simulated(0.0, 8000, 3).count("Pass") >= 0.8 * 400


def test_a_fair_model_hardly_ever_fails_however_small_the_groups_are() -> None:
    chance = np.random.default_rng(11)
    for rows in (100, 300, 1000):
        failed = 0
        for _ in range(400):
            groups = [tally(*chance.multinomial(rows, [0.08, 0.02, 0.02, 0.88]).tolist()) for _ in range(2)]
            failed += judged(*groups, fairness=FairnessLimits((RATIO, ODDS))).verdict == "Fail"
        assert failed <= 0.03 * 400
