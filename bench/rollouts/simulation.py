"""How often the rollout decides wrongly, and how often it sees what is there: seeded, through the real code.

Traffic is Poisson, events binomial. Every figure is of 200 runs; the bounds are those that
:mod:`slipway.core.gates` promises, with no allowance for the seed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from slipway.api.rollout import Analysis, AnalysisStep, Gate, Pause, Rollout, Step
from slipway.api.rollout_status import LookStatus, PredictionStatus, RolloutStatus
from slipway.core.rollout.evalues import Look, harm_terms, weight_of_start
from slipway.core.rollout.gates import FALSE_ABORT
from slipway.core.rollout.machine import decide
from slipway.core.rollout.prediction_shift import shifts
from slipway.core.rollout.situation import Situation, StepOutcome

RUNS = 200
MINUTES = 30
#: Of rollouts whose answers do not shift.
SHIFT_RUNS, SHIFT_LOOKS = 2000, 15
#: Of rollouts that are long.
LONG_RUNS, LONG_LOOKS = 1000, 3000
#: Good looks before a canary turns bad, and rollouts in which it does.
GOOD_LOOKS, LATE_RUNS = 500, 5
#: Steps that keep a rollout under way until a person or a gate ends it.
_HELD = (Step(setWeight=10), Step(pause=Pause(untilApproved=True)), Step(analysis=AnalysisStep()))
_EVEN = (0.05,) * 20


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
    #: What the one gate compares; for ShadowAgreement, ``canary`` is the share of other answers to copies.
    gate: str = "ErrorRate"
    #: Shares of the canary's answers by bin; stable's are even.
    answers: tuple[float, ...] = _EVEN


def roll_out(world: World, random: np.random.Generator) -> str:
    """One rollout to its end: Promote, Reject, or Paused where it could not tell."""
    gate = Gate.model_validate({"name": "gate", "type": world.gate, "dryRun": False})
    analysis = Analysis(intervalSeconds=60, maxDurationSeconds=60 * MINUTES, gates=(gate,))
    copies = world.gate == "ShadowAgreement"
    spec = Rollout(strategy="BlueGreen" if copies else "Canary", analysis=analysis)
    now = datetime(2026, 11, 24, tzinfo=UTC)
    state: RolloutStatus | None = None
    for minute in range(4 * MINUTES):
        weight = state.weight if state else 0
        counts = _minute(world, weight / 100, minute, random)
        seen = Situation("b", 4, 4, 4, 10, seen_weights=frozenset({weight}), counts=counts)
        decision = decide(spec, state, seen, now)
        state = decision.state
        if decision.outcome is not StepOutcome.CONTINUE:
            return decision.outcome.value
        if state.phase == "Paused":
            return "Paused"
        now += timedelta(minutes=1)
    raise AssertionError("a rollout has to end")


def _minute(world: World, share: float, minute: int, random: np.random.Generator) -> LookStatus:
    swing = abs(np.cos(minute / 5)) if world.ramp else 1.0
    trouble = 10.0 if random.random() < world.outages else 1.0
    requests = int(random.poisson(world.rate * 60 * swing))
    copies = world.gate == "ShadowAgreement"
    canary = requests if copies else int(random.binomial(requests, share))
    stable = requests if copies else requests - canary
    return LookStatus(
        canaryRequests=canary,
        canaryEvents=(int(random.binomial(canary, min(1.0, world.canary * trouble))),),
        stableRequests=stable,
        stableEvents=(int(random.binomial(stable, min(1.0, world.stable * trouble))),),
        canaryServed=canary,
        stableServed=stable,
        pairs=canary if copies else None,
        predictions=_answers(world, canary, stable, random) if world.gate == "PredictionShift" else None,
    )


def _answers(
    world: World, canary: int, stable: int, random: np.random.Generator
) -> tuple[PredictionStatus, ...]:
    arms = (random.multinomial(canary, world.answers), random.multinomial(stable, _EVEN))
    counts = [tuple(map(int, arm)) for arm in arms]
    return (PredictionStatus(output="score", canary=counts[0], stable=counts[1]),)


def moved(share: float) -> tuple[float, ...]:
    """Answers of which so large a share moved from the lower half of the bins to the upper one."""
    return tuple(0.05 + (share if place >= 10 else -share) / 10 for place in range(20))


def false_shifts(limit: float) -> int:
    """In how many of :data:`SHIFT_RUNS` rollouts answers that do not shift ever seem to, at any look."""
    random = np.random.default_rng(20261124)
    alarms = 0
    for _ in range(SHIFT_RUNS):
        looks = []
        for look in range(SHIFT_LOOKS):
            requests = 3000 if look % 3 else 300
            canary = int(random.binomial(requests, (0.1, 0.25, 0.5)[look * 3 // SHIFT_LOOKS]))
            looks.append(_answers(World(0, 0, 0), canary, requests - canary, random))
            if any(one.is_beyond for one in shifts(looks, limit)):
                alarms += 1
                break
    return alarms


def ends(world: World) -> Counter[str]:
    random = np.random.default_rng(20261124)
    return Counter(roll_out(world, random) for _ in range(RUNS))


def long_false_aborts(ratio: float, tolerated: float) -> int:
    """In how many of :data:`LONG_RUNS` rollouts the evidence of harm ever reaches what aborts.

    A canary that fails ``ratio`` times as often gets a tenth of the requests; each look has 20 events, of
    which those on the canary are binomial. This is what :func:`slipway.core.evidence.since_any_look` adds up,
    look by look for all rollouts at once: no look is merged into a sum, which would lower it.
    """
    random = np.random.default_rng(20261129)
    on_canary, on_stable = (
        np.array(harm_terms([look], tolerated)[0].log_ratios)
        for look in (Look(1000, 1, 9000, 0), Look(1000, 0, 9000, 1))
    )
    since = np.zeros((LONG_RUNS, len(on_canary)))
    most = np.zeros(LONG_RUNS)
    for before in range(LONG_LOOKS):
        canary = random.binomial(20, 0.1 * ratio / (0.1 * ratio + 0.9), LONG_RUNS)[:, None]
        since += weight_of_start(before)
        since *= np.exp(canary * on_canary + (20 - canary) * on_stable)
        most = np.maximum(most, since.mean(axis=1))
    return int((most >= 1.0 / FALSE_ABORT).sum())


def late_rejections(world: World, times: float) -> list[int]:
    """Looks until a canary is rejected that was good for :data:`GOOD_LOOKS` and then fails so much oftener.

    It waits for a person meanwhile, whose approval the analysis comes after.
    """
    random = np.random.default_rng(20261129)
    return [_until_rejected(world, times, random) for _ in range(LATE_RUNS)]


def _until_rejected(world: World, times: float, random: np.random.Generator) -> int:
    spec = Rollout(strategy="Canary", steps=_HELD, analysis=Analysis(intervalSeconds=60))
    state: RolloutStatus | None = None
    now = datetime(2026, 11, 24, tzinfo=UTC)
    bad = replace(world, canary=world.canary * times)
    for look in range(2 * GOOD_LOOKS):
        weight = state.weight if state else 0
        counts = _minute(world if look < GOOD_LOOKS else bad, weight / 100, look, random)
        decision = decide(
            spec, state, Situation("b", 4, 4, 4, 10, seen_weights=frozenset({weight}), counts=counts), now
        )
        if decision.outcome is StepOutcome.REJECT:
            return look - GOOD_LOOKS + 1
        state, now = decision.state, now + timedelta(minutes=1)
    raise AssertionError("a bad canary has to be found")
