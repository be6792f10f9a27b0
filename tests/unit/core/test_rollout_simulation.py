"""How often the rollout decides wrongly, and how often it sees what is there: seeded."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.rollouts.simulation import (
    LONG_RUNS,
    RUNS,
    SHIFT_RUNS,
    World,
    ends,
    false_shifts,
    late_rejections,
    long_false_aborts,
    moved,
)


@pytest.mark.parametrize(
    "world",
    [
        World(50, 0.01, 0.01),
        World(50, 0.01, 0.01, outages=0.2),
        World(50, 0.01, 0.01, ramp=True),
        World(5, 0.05, 0.05),
    ],
    ids=["steady", "shared-outages", "ramps", "little-traffic"],
)
def test_a_canary_as_good_as_stable_is_hardly_ever_aborted(world: World) -> None:
    assert ends(world)["Reject"] <= 0.01 * RUNS


@pytest.mark.parametrize(
    "world",
    [
        World(50, 0.01, 0.03),
        World(5, 0.01, 0.03),
        World(0.5, 0.005, 0.015),
        World(50, 0.01, 0.03, outages=0.2),
    ],
    ids=["much-traffic", "little-traffic", "hardly-any", "shared-outages"],
)
def test_a_canary_three_times_as_bad_is_hardly_ever_promoted(world: World) -> None:
    assert ends(world)["Promote"] <= 0.05 * RUNS


def test_a_canary_five_times_as_bad_is_nearly_always_aborted() -> None:
    assert ends(World(50, 0.01, 0.05))["Reject"] >= 0.99 * RUNS


def test_a_healthy_canary_is_nearly_always_promoted() -> None:
    assert ends(World(50, 0.001, 0.001))["Promote"] >= 0.99 * RUNS


def test_without_traffic_nobody_guesses() -> None:
    assert ends(World(0, 0.01, 0.01)) == Counter({"Paused": RUNS})


def test_violations_are_judged_as_errors_are() -> None:
    assert ends(World(50, 0.01, 0.03, gate="Violations"))["Reject"] >= 0.99 * RUNS
    assert ends(World(50, 0.03, 0.03, gate="Violations"))["Reject"] <= 0.01 * RUNS


@pytest.mark.parametrize("limit", [0.2, 0.001])
def test_answers_that_do_not_shift_hardly_ever_seem_to_at_any_look(limit: float) -> None:
    assert false_shifts(limit) <= 0.001 * SHIFT_RUNS


def test_shifted_answers_are_found_and_equal_ones_are_promoted() -> None:
    assert ends(World(50, 0, 0, gate="PredictionShift", answers=moved(0.3)))["Reject"] >= 0.99 * RUNS
    assert ends(World(50, 0, 0, gate="PredictionShift"))["Promote"] >= 0.99 * RUNS
    assert ends(World(1 / 60, 0, 0, gate="PredictionShift")) == Counter({"Paused": RUNS})


def test_other_answers_to_copies_reject_and_equal_ones_promote_but_hardly_ever_at_the_limit() -> None:
    assert ends(World(50, 0, 0.05, gate="ShadowAgreement"))["Reject"] >= 0.99 * RUNS
    assert ends(World(50, 0, 0.01, gate="ShadowAgreement"))["Promote"] >= 0.99 * RUNS
    limit = ends(World(50, 0, 0.02, gate="ShadowAgreement"))
    assert limit["Reject"] <= 0.01 * RUNS
    assert limit["Promote"] <= 0.05 * RUNS
    assert ends(World(0, 0, 0.5, gate="ShadowAgreement")) == Counter({"Paused": RUNS})


@pytest.mark.parametrize(("ratio", "tolerated"), [(1.0, 1.25), (1.25, 1.25)], ids=["as-good", "at-the-limit"])
def test_a_canary_within_what_is_tolerated_is_hardly_ever_aborted_at_any_of_thousands_of_looks(
    ratio: float, tolerated: float
) -> None:
    assert long_false_aborts(ratio, tolerated) <= 0.01 * LONG_RUNS


def test_a_canary_that_was_good_for_500_looks_and_is_ten_times_worse_then_is_soon_rejected() -> None:
    assert max(late_rejections(World(50, 0.01, 0.01), 10)) <= 3
    assert max(late_rejections(World(5, 0.01, 0.01), 10)) <= 20
