"""What counts prove, and how often they would prove it wrongly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slipway.core.rollout.evalues import (
    Look,
    above_objective_terms,
    below_objective_evidence,
    below_objective_terms,
    from_first_look,
    harm_evidence,
    harm_terms,
    held,
    no_harm_evidence,
    no_harm_terms,
    since_any_look,
    weight_of_start,
)


def test_no_look_is_no_evidence() -> None:
    assert harm_evidence([], 1.25) == pytest.approx(1.0)
    assert no_harm_evidence([], 2.0) == pytest.approx(1.0)
    assert below_objective_evidence(0, 0, 0.01) == pytest.approx(1.0)


def test_a_look_with_traffic_on_one_arm_alone_says_nothing() -> None:
    lonely = [Look(100, 50, 0, 0), Look(0, 0, 100, 50)]
    assert harm_evidence(lonely, 1.25) == pytest.approx(1.0)
    assert no_harm_evidence(lonely, 2.0) == pytest.approx(1.0)


def test_an_outage_that_both_arms_share_is_no_evidence_of_harm() -> None:
    calm = [Look(100, 1, 900, 9)] * 5
    outage = [Look(100, 50, 900, 450)]
    assert harm_evidence(calm + outage, 1.25) < 1.0


def test_counts_pooled_over_changing_weights_would_convict_the_innocent() -> None:
    """Simpson's paradox: both arms fail alike at each weight, but the canary had most of the bad minutes."""
    quiet = Look(100, 1, 9900, 99)
    bad = Look(5000, 500, 5000, 500)
    pooled = Look(5100, 501, 14900, 599)
    assert harm_evidence([quiet, bad], 1.25) < 1.0
    assert harm_evidence([pooled], 1.25) > 100.0


def test_a_canary_that_fails_far_more_often_is_convicted() -> None:
    assert harm_evidence([Look(1000, 50, 9000, 90)], 1.25) > 100.0


@pytest.mark.parametrize(
    ("objective", "events", "requests"), [(0.01, 0, 500), (0.01, 1, 750), (0.001, 0, 5000)]
)
def test_an_objective_is_shown_to_hold_by_enough_good_requests(
    objective: float, events: int, requests: int
) -> None:
    assert below_objective_evidence(requests, events, objective) > 40.0
    assert below_objective_evidence(requests // 2, events, objective) < 40.0


def test_evidence_of_a_single_look_is_the_mean_of_binomial_likelihood_ratios() -> None:
    look, null = Look(300, 9, 700, 11), 1.25
    ratios = [1.1 * null * math.exp(math.log(20.0 / 1.1) / 39 * point) for point in range(40)]

    def likelihood(ratio: float) -> float:
        share = 0.3 * ratio / (0.3 * ratio + 0.7)
        return float(stats.binom.pmf(9, 20, share))

    oracle = sum(likelihood(ratio) for ratio in ratios) / len(ratios) / likelihood(null)
    assert harm_evidence([look], null) == pytest.approx(oracle, rel=1e-9)


def test_huge_counts_neither_overflow_nor_vanish() -> None:
    assert harm_evidence([Look(10**9, 10**8, 10**9, 10**3)], 1.25) == math.inf
    assert harm_evidence([Look(10**9, 10**3, 10**9, 10**8)], 1.25) >= 0.0


counts = st.integers(0, 10_000)


@given(st.lists(st.tuples(counts, counts, counts, counts), max_size=20), st.floats(1.0, 10.0))
def test_evidence_is_a_number_that_the_order_of_looks_does_not_change(
    drawn: list[tuple[int, int, int, int]], ratio: float
) -> None:
    looks = [Look(max(a, b), min(a, b), max(c, d), min(c, d)) for a, b, c, d in drawn]
    evidence = harm_evidence(looks, ratio)
    assert evidence >= 0.0
    assert not math.isnan(evidence)
    assert harm_evidence(looks[::-1], ratio) == pytest.approx(evidence, rel=1e-6)


@pytest.mark.parametrize(
    "counts", [(-1, 0, 1, 0), (1, 2, 1, 0), (1, 0, 1, 2)], ids=["negative", "canary", "stable"]
)
def test_counts_that_contradict_each_other_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="events in"):
        Look(*counts)


@pytest.mark.parametrize("objective", [0.0, 1.0, -0.1])
def test_an_objective_that_is_no_share_is_refused(objective: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        below_objective_evidence(1, 0, objective)


def test_the_weights_of_all_beginnings_sum_to_one() -> None:
    assert sum(weight_of_start(before) for before in range(100_000)) == pytest.approx(1.0, abs=1e-5)
    assert since_any_look([]) == 1.0


def test_evidence_since_any_look_is_the_weighted_sum_of_those_since_each() -> None:
    looks = [Look(100, 1, 900, 9), Look(100, 7, 900, 12), Look(300, 20, 700, 8)]
    since_each = [harm_evidence(looks[place:], 1.25) for place in range(3)]
    expected = sum(weight_of_start(place) * value for place, value in enumerate(since_each)) + 0.1 / 3
    assert since_any_look(harm_terms(looks, 1.25)) == pytest.approx(expected)


GOOD, BAD = Look(600, 6, 5400, 54), Look(600, 60, 5400, 54)


def test_a_late_fault_is_found_after_a_history_that_buries_it() -> None:
    looks = [GOOD] * 500 + [BAD] * 2
    assert harm_evidence(looks, 1.25) < 1e-6
    assert since_any_look(harm_terms(looks, 1.25)) > 1e6
    unlike = [Look(6000, 60, 0, 0)] * 500 + [Look(6000, 600, 0, 0)] * 2
    assert from_first_look(above_objective_terms(unlike, 0.02)) < 1e-6
    assert since_any_look(above_objective_terms(unlike, 0.02)) > 1e6


def test_a_late_fault_takes_a_pass_away_whatever_was_gathered_for_it() -> None:
    good, bad = [GOOD] * 500, [GOOD] * 500 + [BAD]
    assert no_harm_evidence(bad, 2.0) > 1e6, "a product alone would pass it"
    for terms in (no_harm_terms, below_objective_terms):
        limit = 2.0 if terms is no_harm_terms else 0.02
        assert held(terms(good, limit)) > 40.0
        assert held(terms(bad, limit)) < 40.0
        assert held(terms(good, limit)) <= from_first_look(terms(good, limit))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_sum_of_looks_that_one_arm_had_alone_is_still_a_number(share: float) -> None:
    one = Look(1000, 9, 0, 0) if share else Look(0, 0, 1000, 9)
    total = one + Look(10, 0, 10, 0)
    assert total.share == pytest.approx(share)
    assert 0.0 <= since_any_look(harm_terms([total], 1.25)) <= 1.0 + 1e-6
