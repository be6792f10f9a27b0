"""Weights by numbers of pods: pure arithmetic, and what the Service of a ModelDeployment is seen to do."""

from __future__ import annotations

import pytest

from slipway.core.traffic.replica_ratio import canary_pods, reachable_share, share


@pytest.mark.parametrize(
    ("weight", "stable", "pods", "reached"),
    [
        (10, 9, 1, 10),
        (10, 2, 1, 33),
        (1, 4, 1, 20),
        (25, 3, 1, 25),
        (50, 4, 4, 50),
        (34, 4, 2, 33),
        (75, 2, 6, 75),
        (100, 4, 4, 100),
    ],
)
def test_the_canary_has_the_pods_whose_share_is_nearest(
    weight: int, stable: int, pods: int, reached: int
) -> None:
    assert canary_pods(weight, stable, 10) == pods
    assert reachable_share(weight, stable, 10) == reached


def test_no_number_of_pods_comes_nearer_than_the_one_that_is_chosen() -> None:
    for stable in (1, 2, 3, 7, 20):
        for weight in range(1, 100, 3):
            chosen = canary_pods(weight, stable, 10_000)
            best = min(abs(pods / (pods + stable) - weight / 100) for pods in range(1, 100 * stable + 1))
            assert abs(chosen / (chosen + stable) - weight / 100) == pytest.approx(best)


def test_a_canary_never_has_more_pods_than_a_revision_may_have() -> None:
    assert canary_pods(90, 4, 10) == 10
    assert reachable_share(90, 4, 10) == share(10, 4) == 71
    assert canary_pods(100, 12, 10) == 10


def test_no_pod_is_no_share() -> None:
    assert share(0, 0) == share(0, 3) == 0
    assert reachable_share(0, 3, 10) == 0
