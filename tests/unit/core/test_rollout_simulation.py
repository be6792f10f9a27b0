"""How often the rollout decides wrongly, and how often it sees what is there: seeded."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.rollouts.simulation import RUNS, SHIFT_RUNS, World, ends, false_shifts, moved


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
