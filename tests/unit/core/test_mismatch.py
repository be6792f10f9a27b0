"""A split is doubted when it is wrong, and hardly ever when it is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slipway.core.rollout.sample_ratio_mismatch import FALSE_ALARM, TOLERANCE, sample_ratio_mismatch

#: Looks of a long rollout, and how many requests there are in one: from nearly none to 500 a second.
LOOKS = 60
REQUESTS = (3, 40, 500, 15_000)


def probability(hits: int, of: int, share: float) -> float:
    """Of a binomial variable."""
    return math.comb(of, hits) * share**hits * (1 - share) ** (of - hits)


@pytest.mark.parametrize("weight", [0, 1, 5, 10, 50, 90, 99, 100])
@pytest.mark.parametrize("total", [1, 7, 30, 200, 900])
def test_an_honest_split_is_doubted_no_oftener_than_said_however_few_the_requests(
    weight: int, total: int
) -> None:
    """Exactly, by adding up every outcome that would be doubted."""
    wrong = sum(
        probability(canary, total, weight / 100)
        for canary in range(total + 1)
        if sample_ratio_mismatch(weight, canary, total - canary) is not None
    )
    assert wrong <= FALSE_ALARM


def test_of_a_thousand_rollouts_with_an_honest_split_none_is_doubted() -> None:
    """At most one in a thousand may be; by the bound it is one in sixteen thousand."""
    random = np.random.default_rng(5)
    doubted = 0
    for _ in range(1_000):
        weight = int(random.choice([1, 5, 10, 25, 50]))
        totals = random.choice(REQUESTS, LOOKS)
        canaries = random.binomial(totals, weight / 100)
        doubted += any(
            sample_ratio_mismatch(weight, int(canary), int(total - canary)) is not None
            for canary, total in zip(canaries, totals, strict=True)
        )
    assert doubted <= 1


@pytest.mark.parametrize(
    ("weight", "real", "total"),
    [(10, 20, 1_000), (10, 0, 400), (50, 60, 2_000), (1, 3, 3_000), (0, 2, 2_000)],
)
def test_a_split_that_is_wrong_is_doubted(weight: int, real: int, total: int) -> None:
    random = np.random.default_rng(6)
    canaries = random.binomial(total, real / 100, 200)
    doubted = sum(
        sample_ratio_mismatch(weight, int(canary), total - int(canary)) is not None for canary in canaries
    )
    assert doubted >= 190


def test_a_share_that_is_off_by_less_than_matters_is_never_doubted() -> None:
    requests = 50_000_000
    for weight in (0, 10, 100):
        for off in (-TOLERANCE, TOLERANCE):
            canary = int(requests * min(1.0, max(0.0, weight / 100 + off * 0.99)))
            assert sample_ratio_mismatch(weight, canary, requests - canary) is None


def test_without_requests_there_is_nothing_to_doubt() -> None:
    assert sample_ratio_mismatch(10, 0, 0) is None


def test_it_says_what_it_saw() -> None:
    assert sample_ratio_mismatch(10, 300, 700) == (
        "300 of 1000 requests went to the canary, 30.0% where its weight is 10%: G = 298.6 ≥ 29.0"
    )
