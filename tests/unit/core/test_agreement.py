"""Joining what two revisions answered."""

from __future__ import annotations

import math
import struct

import pytest
from scipy import stats

from slipway.core.rollout.evalues import above_objective_evidence
from slipway.core.rollout.shadow_agreement import Remembered, answers, common, unlike


def entry(request: int, place: int, value: bytes | float) -> bytes:
    raw = struct.pack("<d", value) if isinstance(value, float) else value.ljust(8)
    return struct.pack("<Q", request << 8 | place) + raw


def pod(*entries: bytes, numbers: bool = False) -> Remembered:
    return Remembered(numbers, b"".join(entries))


def test_rows_of_a_request_are_compared_together_over_all_pods() -> None:
    canary = answers([pod(entry(1, 0, b"a"), entry(1, 1, b"b")), pod(entry(2, 0, b"c"))])
    stable = answers([pod(entry(2, 0, b"c"), entry(1, 0, b"a"), entry(1, 1, b"x"), entry(3, 0, b"z"))])
    pairs = common(canary, stable)
    assert len(pairs) == 2
    assert unlike(pairs, False, 0.0) == 1


def test_an_id_that_came_twice_and_rows_of_which_some_are_lost_are_left_out() -> None:
    assert answers([pod(entry(1, 0, b"a"), entry(1, 0, b"b"))]) == {}
    assert answers([pod(entry(1, 0, b"a")), pod(entry(1, 0, b"a"))]) == {}
    assert answers([pod(entry(1, 1, b"b"), entry(2, 0, b"a"))]).keys() == {2 << 8}
    short, whole = answers([pod(entry(1, 0, b"a"))]), answers([pod(entry(1, 0, b"a"), entry(1, 1, b"b"))])
    assert common(short, whole) == []


def test_numbers_are_alike_within_the_tolerance_and_nan_is_like_nan() -> None:
    numbers = (
        (100.0, 100.9, 0),
        (100.0, 101.5, 1),
        (0.0, 0.0, 0),
        (math.nan, math.nan, 0),
        (math.nan, 1.0, 1),
    )
    for left, right, apart in numbers:
        one, other = answers([pod(entry(1, 0, left))]), answers([pod(entry(1, 0, right))])
        assert unlike(common(one, other), True, 0.01) == apart, (left, right)


def test_evidence_above_an_objective_is_the_mean_of_binomial_likelihood_ratios() -> None:
    odds = 0.02 / 0.98
    spread = [1.1 * odds * math.exp(math.log(20.0 / 1.1) / 39 * point) for point in range(40)]
    rates = [one / (1 + one) for one in spread]
    oracle = sum(stats.binom.pmf(9, 200, rate) for rate in rates) / 40 / stats.binom.pmf(9, 200, 0.02)
    assert above_objective_evidence(200, 9, 0.02) == pytest.approx(oracle, rel=1e-9)
    assert above_objective_evidence(0, 0, 0.9) == pytest.approx(1.0)
