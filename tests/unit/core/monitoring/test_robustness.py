"""What an audit by noise says, by counts alone: exact bounds, and simulations of how often it is wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

from slipway.contract import MOST_MOVED_ROWS, NOT_EVADED, Evaded, TerminationMessage, Withstood
from slipway.core.monitoring.intervals import share_floor, upper_tail
from slipway.core.monitoring.robustness import (
    RISK,
    RobustnessLimits,
    Smoothing,
    certified_radius,
    hits_needed,
    judge_evasion,
    judge_smoothing,
)
from slipway.core.monitoring.subgroups import Judged

DIGEST, OTHER, DATA = (f"sha256:{letter * 64}" for letter in "abc")
NOISE = Smoothing(0.5, 1000)
LIMITS = RobustnessLimits(0.25)


def judged(hits: Any, before: Any = None, **limits: Any) -> Judged:
    found = Withstood(
        digest=DIGEST,
        baseline=None if before is None else OTHER,
        dataDigest=DATA,
        hits=tuple(map(int, hits)),
        baselineHits=None if before is None else tuple(map(int, before)),
    )
    return judge_smoothing(found, NOISE, replace(LIMITS, **limits))


def attacked(distances: Any, before: Any = None, **limits: Any) -> Judged:
    found = Evaded(
        digest=DIGEST,
        baseline=None if before is None else OTHER,
        dataDigest=DATA,
        distances=tuple(map(int, distances)),
        baselineDistances=None if before is None else tuple(map(int, before)),
    )
    return judge_evasion(found, replace(LIMITS, **limits))


def rows(stand: int, fall: int) -> list[int]:
    return [990] * stand + [500] * fall


@pytest.mark.parametrize("rows", [100, 1000, 10_000])
def test_the_bound_of_a_share_is_that_of_clopper_and_pearson(rows: int) -> None:
    for hits in {1, rows // 2, rows * 3 // 4, rows - 1, rows}:
        assert share_floor(hits, rows, RISK) == pytest.approx(beta.ppf(RISK, hits, rows - hits + 1), rel=1e-9)
        for share in (0.3 * hits / rows, 0.99 * hits / rows):
            assert upper_tail(hits, rows, share) == pytest.approx(
                binom.sf(hits - 1, rows, share), rel=1e-7, abs=1e-300
            )
    assert share_floor(0, rows, RISK) == 0.0


@pytest.mark.parametrize(
    ("radius", "noise", "samples"), [(0.25, 0.5, 1000), (0.1, 0.12, 100), (1, 1, 10_000)]
)
def test_a_radius_takes_as_many_copies_as_prove_it_and_no_fewer(
    radius: float, noise: float, samples: int
) -> None:
    smoothing = Smoothing(noise, samples)
    needed = hits_needed(radius, smoothing)
    assert needed is not None
    assert certified_radius(needed, smoothing) >= radius > certified_radius(needed - 1, smoothing)


def test_a_row_that_does_not_stand_is_hardly_ever_said_to() -> None:
    needed = hits_needed(LIMITS.radius, NOISE)
    assert needed is not None
    true = NormalDist().cdf((LIMITS.radius - 1e-6) / NOISE.noise)
    drawn = np.random.default_rng(3).binomial(NOISE.samples, true, 400_000)
    assert np.mean(drawn >= needed) <= RISK * 1.15


def test_a_row_that_stands_much_further_is_seen_to() -> None:
    needed = hits_needed(LIMITS.radius, NOISE)
    true = NormalDist().cdf(LIMITS.radius * 1.5 / NOISE.noise)
    assert np.mean(np.random.default_rng(3).binomial(NOISE.samples, true, 10_000) >= needed) > 0.95


def test_rows_that_stand_pass_and_what_was_measured_is_there() -> None:
    found = judged(rows(170, 30), rows(170, 30), minimum_accuracy=0.7, max_loss=0.1)
    assert found.verdict == "Pass"
    assert "85% (" in found.message
    assert "of 200 rows stand within 0.25 deviations, at least 70%" in found.message
    assert [(figure.metric, figure.of) for figure in found.figures] == [
        ("CertifiedAccuracy", "within 0.25"),
        ("CertifiedAccuracyLoss", "within 0.25"),
        ("MedianCertifiedRadius", ""),
        ("CertifiedAccuracy", "stable version, within 0.25"),
        ("MedianCertifiedRadius", "stable version"),
    ]


def test_a_version_whose_rows_fall_fails_though_it_is_as_often_right() -> None:
    """The same class for most copies of each row, but too few of them."""
    found = judged([700] * 200, rows(200, 0), max_loss=0.05)
    assert found.verdict == "Fail"
    assert found.message.startswith("100% (")


@pytest.mark.parametrize(("stand", "verdict"), [(150, "Pass"), (100, "Fail"), (136, "Inconclusive")])
def test_a_minimum_fails_only_where_the_whole_interval_lies_below(stand: int, verdict: str) -> None:
    assert judged(rows(stand, 200 - stand), minimum_accuracy=0.7).verdict == verdict


def test_a_loss_that_is_not_ruled_out_is_inconclusive_and_says_how_many_rows_would_tell() -> None:
    now, before = rows(95, 5) + rows(0, 5) + rows(5, 0), rows(95, 5) + rows(5, 0) + rows(0, 5)
    found = judged(now, before, max_loss=0.02)
    assert found.verdict == "Inconclusive"
    assert "2% is not ruled out; about " in found.message


def test_few_rows_say_nothing_and_show_nothing() -> None:
    found = judged(rows(99, 0), minimum_accuracy=0.1)
    assert (found.verdict, found.figures) == ("Inconclusive", ())
    assert "99 rows were moved of the 100 needed" in found.message


def test_a_radius_that_no_count_proves_is_nobodys_failure_and_says_what_to_change() -> None:
    found = judged(rows(200, 0), minimum_accuracy=0.1, radius=1.3)
    assert (found.verdict, found.figures) == ("Inconclusive", ())
    assert "prove radii up to 1.23, and the audit asks for 1.3" in found.message
    assert judged(rows(0, 0) + [1000] * 200, minimum_accuracy=0.1, radius=1.2).verdict == "Pass"


def test_without_a_stable_version_nothing_can_be_lost() -> None:
    found = judged(rows(10, 190), max_loss=0.01)
    assert found.verdict == "Pass"
    assert "no stable one" in found.message


@pytest.mark.parametrize(
    ("hits", "before"), [([1001] * 200, None), ([900] * 200, [900] * 199), ([900] * 200, [1001] * 200)]
)
def test_counts_that_cannot_be_are_not_judged(hits: list[int], before: list[int] | None) -> None:
    with pytest.raises(ValueError, match="of"):
        judged(hits, before, max_loss=0.1)


def test_the_median_lies_within_its_interval_as_often_as_was_asked() -> None:
    chance, inside = np.random.default_rng(5), 0
    true = NOISE.noise * NormalDist().inv_cdf(share_floor(800, NOISE.samples, RISK))
    for _ in range(120):
        # Whatever the radii are like: half of the rows lie below 800 copies.
        hits = 800 + np.rint(chance.choice([-1, 1], 150) * chance.exponential(60, 150)).clip(-300, 200)
        figure = next(each for each in judged(hits).figures if each.metric == "MedianCertifiedRadius")
        inside += figure.interval.low <= true <= figure.interval.high
    assert inside / 120 >= 0.91


def simulated(loss: float, count: int, seed: int, differ: float = 0.2) -> list[str]:
    """Verdicts on two models of which in truth a fifth of the rows stand by one alone."""
    chance, found = np.random.default_rng(seed), []
    for _ in range(300):
        gained, lost, both = chance.multinomial(
            count, [(differ - loss) / 2, (differ + loss) / 2, 1.0 - differ]
        ).tolist()
        now = rows(gained, lost) + rows(both, 0)
        found.append(judged(now, rows(0, gained) + rows(lost + both, 0), max_loss=0.1).verdict)
    return found


def test_a_worse_version_hardly_ever_passes_and_an_equal_one_hardly_ever_fails() -> None:
    for count in (100, 300):
        assert simulated(0.1, count, 1).count("Pass") <= 0.04 * 300
        assert simulated(0.0, count, 2).count("Fail") <= 0.03 * 300
    assert simulated(0.0, 300, 3).count("Pass") >= 0.9 * 300


def test_a_version_that_gains_nowhere_passes_no_oftener_than_its_normal_interval_lets_it() -> None:
    """The worst case of few rows: the interval means 2.5%, and lets 6% through."""
    assert simulated(0.1, 100, 1, differ=0.1).count("Pass") <= 0.08 * 300


def test_two_models_of_the_most_rows_and_copies_have_room_in_a_termination_message() -> None:
    most = (10_000,) * MOST_MOVED_ROWS
    found = Withstood(digest=DIGEST, baseline=OTHER, dataDigest=DATA, hits=most, baselineHits=most)
    assert len(TerminationMessage(outcome=found).model_dump_json()) <= 4096


def test_a_row_stands_where_an_attack_got_no_nearer_than_the_radius() -> None:
    found = attacked([0, 249, 250, NOT_EVADED] * 50, minimum_accuracy=0.4)
    assert found.verdict == "Pass"
    assert "50% (" in found.message
    [accuracy, median] = found.figures
    assert (accuracy.metric, median.metric) == ("RobustAccuracy", "MedianDistance")
    assert median.value == pytest.approx(0.25, abs=0.001)


def test_a_version_that_an_attack_gets_nearer_to_fails_and_one_that_it_does_not_passes() -> None:
    near, far = [200] * 200, [300] * 200
    assert attacked(near, far, max_loss=0.1).verdict == "Fail"
    assert attacked(far, near, max_loss=0.1).verdict == "Pass"
    assert attacked(far, far, max_loss=0.1).verdict == "Pass"
    assert attacked(far[:99], far[:99], max_loss=0.1).verdict == "Inconclusive"
    with pytest.raises(ValueError, match="rows of one model"):
        attacked(far, far[1:], max_loss=0.1)


def test_distances_of_two_models_have_room_in_a_termination_message() -> None:
    most = (NOT_EVADED,) * MOST_MOVED_ROWS
    found = Evaded(digest=DIGEST, baseline=OTHER, dataDigest=DATA, distances=most, baselineDistances=most)
    assert len(TerminationMessage(outcome=found).model_dump_json()) <= 4096


def test_radii_are_those_of_cohen_et_al() -> None:
    """All of 100,000 copies, at a risk of 0.1%, prove 3.8 times the noise: figure of their paper."""
    assert 0.5 * NormalDist().inv_cdf(RISK ** (1 / 100_000)) == pytest.approx(1.9, abs=0.01)
    assert certified_radius(1000, NOISE) == pytest.approx(0.5 * NormalDist().inv_cdf(RISK ** (1 / 1000)))
    assert certified_radius(500, NOISE) == 0.0
    assert math.isfinite(certified_radius(10_000, Smoothing(1.0, 10_000)))
