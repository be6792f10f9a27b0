"""How often the rollout decides wrongly, and how often it sees what is there: seeded, through the real code.

Traffic is Poisson, events binomial. Every figure is of 200 runs; the bounds are those that
:mod:`slipway.core.gates` promises, with no allowance for the seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from slipway.api.rollout import Analysis, LookStatus, Rollout, RolloutStatus
from slipway.core.rollout import Outcome, Situation, decide

RUNS = 200
MINUTES = 30


@dataclass(frozen=True)
class World:
    """What requests meet: how many a second, and the share of each arm's that fails."""

    rate: float
    stable: float
    canary: float
    #: Share of minutes in which both arms fail ten times as often.
    outages: float = 0.0
    #: Whether the rate of requests falls to nothing and comes back within the rollout.
    ramp: bool = False


def roll_out(world: World, random: np.random.Generator) -> str:
    """One rollout to its end: Promote, Reject, or Paused where it could not tell."""
    spec = Rollout(strategy="Canary", analysis=Analysis(intervalSeconds=60, maxDurationSeconds=60 * MINUTES))
    now = datetime(2026, 11, 24, tzinfo=UTC)
    state: RolloutStatus | None = None
    for minute in range(4 * MINUTES):
        weight = state.weight if state else 0
        counts = _minute(world, weight / 100, minute, random)
        seen = Situation("b", 4, 4, 4, 10, seen_weights=frozenset({weight}), counts=counts)
        decision = decide(spec, state, seen, now)
        state = decision.state
        if decision.outcome is not Outcome.CONTINUE:
            return decision.outcome.value
        if state.phase == "Paused":
            return "Paused"
        now += timedelta(minutes=1)
    raise AssertionError("a rollout has to end")


def _minute(world: World, share: float, minute: int, random: np.random.Generator) -> LookStatus:
    swing = abs(np.cos(minute / 5)) if world.ramp else 1.0
    trouble = 10.0 if random.random() < world.outages else 1.0
    requests = int(random.poisson(world.rate * 60 * swing))
    canary = int(random.binomial(requests, share))
    stable = requests - canary
    return LookStatus(
        canaryRequests=canary,
        canaryEvents=(int(random.binomial(canary, min(1.0, world.canary * trouble))),),
        stableRequests=stable,
        stableEvents=(int(random.binomial(stable, min(1.0, world.stable * trouble))),),
    )


def ends(world: World) -> Counter[str]:
    random = np.random.default_rng(20261124)
    return Counter(roll_out(world, random) for _ in range(RUNS))


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
