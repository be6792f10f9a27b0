"""A canary's way, step by step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.api.reasons import Reason
from slipway.api.rollout import Analysis, AnalysisStep, Pause, Rollout, SetCanaryScale, Step
from slipway.api.rollout_status import LookStatus, RolloutStatus
from slipway.core.observed import Fault
from slipway.core.rollout.machine import Command, Decision, Situation, StepOutcome, decide, needed_pods

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GOOD = LookStatus(canaryRequests=5000, canaryEvents=(0,), stableRequests=5000, stableEvents=(0,))
BAD = LookStatus(canaryRequests=1000, canaryEvents=(60,), stableRequests=9000, stableEvents=(90,))
EMPTY = LookStatus(canaryRequests=0, canaryEvents=(0,), stableRequests=0, stableEvents=(0,))
WEIGHT_THEN_ANALYSIS = (Step(setWeight=10), Step(analysis=AnalysisStep()), Step(setWeight=50))


def rollout(*steps: Step, **fields: Any) -> Rollout:
    return Rollout(strategy="Canary", steps=steps or WEIGHT_THEN_ANALYSIS, **fields)


def seen(**fields: Any) -> Situation:
    usual = {"canary": "b", "canary_ready": 1, "canary_routed": 10, "stable_ready": 4, "max_replicas": 10}
    return Situation(**usual | fields)


def after(spec: Rollout, *situations: tuple[int, Situation]) -> Decision:
    """The last decision of a row of situations, each so many seconds after the start."""
    state: RolloutStatus | None = None
    for seconds, situation in situations:
        decision = decide(spec, state, situation, START + timedelta(seconds=seconds))
        state = decision.state
    return decision


def at(weight: int) -> frozenset[int]:
    return frozenset({weight})


def test_a_canary_without_a_ready_pod_gets_no_traffic() -> None:
    decision = after(rollout(), (0, seen(canary_ready=0)))
    assert (decision.state.weight, decision.state.step) == (0, 0)
    assert "0 of 1 canary pods" in decision.state.message


def test_capacity_comes_before_weight() -> None:
    spec = rollout(Step(setWeight=50))
    assert needed_pods(50, seen()) == 2
    waiting = after(spec, (0, seen(canary_ready=1)))
    assert (waiting.state.weight, waiting.state.canaryReplicas) == (0, 2)
    moving = after(spec, (0, seen(canary_ready=1)), (5, seen(canary_ready=2)))
    assert (moving.state.weight, moving.state.step) == (50, 0)


def test_a_step_is_done_only_once_every_router_does_it() -> None:
    split = frozenset({0, 10})
    decision = after(rollout(), (0, seen()), (1, seen(seen_weights=split)))
    assert (decision.state.weight, decision.state.step) == (10, 0)
    decision = after(rollout(), (0, seen()), (1, seen(seen_weights=at(10))))
    assert decision.state.step == 1


def test_a_good_canary_takes_over() -> None:
    spec = rollout()
    decision = after(
        spec,
        (0, seen()),
        (1, seen(seen_weights=at(10))),
        (40, seen(seen_weights=at(10), counts=GOOD)),
        (41, seen(canary_ready=4, seen_weights=at(50))),
        (42, seen(canary_ready=4, seen_weights=at(100))),
    )
    assert decision.outcome is StepOutcome.PROMOTE


def test_a_bad_canary_is_left_at_the_first_look_that_shows_it() -> None:
    decision = after(
        rollout(), (0, seen()), (1, seen(seen_weights=at(10))), (40, seen(seen_weights=at(10), counts=BAD))
    )
    assert (decision.outcome, decision.state.weight) == (StepOutcome.REJECT, 0)
    assert "canary 60 errors in 1000, stable 90 in 9000" in decision.state.message


def test_a_rejection_stands_whatever_comes_after() -> None:
    decision = after(
        rollout(),
        (0, seen()),
        (1, seen(seen_weights=at(10))),
        (40, seen(seen_weights=at(10), counts=BAD)),
        (80, seen(seen_weights=at(0), counts=GOOD, commands=frozenset({Command.PROMOTE_FULL}))),
    )
    assert (decision.outcome, decision.state.weight) == (StepOutcome.REJECT, 0)


def test_a_verdict_in_dry_run_is_told_and_not_acted_upon() -> None:
    gates = ({"name": "error-rate", "type": "ErrorRate", "dryRun": True},)
    spec = rollout(analysis=Analysis.model_validate({"gates": gates}))
    decision = after(
        spec, (0, seen()), (1, seen(seen_weights=at(10))), (40, seen(seen_weights=at(10), counts=BAD))
    )
    assert decision.outcome is StepOutcome.CONTINUE
    assert decision.state.gates[0].verdict == "Fail"


def test_no_traffic_is_no_verdict() -> None:
    spec = rollout(analysis=Analysis(maxDurationSeconds=60))
    decision = after(
        spec, (0, seen()), (1, seen(seen_weights=at(10))), (40, seen(seen_weights=at(10), counts=EMPTY))
    )
    assert (decision.state.step, decision.state.looks) == (1, ())


@pytest.mark.parametrize(
    ("what", "phase", "outcome"),
    [("Pause", "Paused", StepOutcome.CONTINUE), ("Abort", "Aborting", StepOutcome.REJECT)],
)
def test_an_analysis_that_cannot_tell_ends_as_the_spec_says(
    what: Any, phase: str, outcome: StepOutcome
) -> None:
    spec = rollout(analysis=Analysis(maxDurationSeconds=60, onInconclusive=what))
    decision = after(
        spec, (0, seen()), (1, seen(seen_weights=at(10))), (70, seen(seen_weights=at(10), counts=EMPTY))
    )
    assert (decision.state.phase, decision.outcome) == (phase, outcome)


def test_counts_are_taken_in_once_an_interval() -> None:
    spec = rollout()
    decision = after(spec, (0, seen()), (1, seen(seen_weights=at(10), counts=BAD)))
    assert decision.state.looks == ()


def test_a_pause_ends_with_its_time() -> None:
    spec = rollout(
        Step(setCanaryScale=SetCanaryScale(replicas=1)), Step(pause=Pause(seconds=30)), Step(setWeight=10)
    )
    waiting = after(spec, (0, seen()), (10, seen()))
    assert (waiting.state.phase, waiting.wait) == ("Paused", 20.0)
    assert after(spec, (0, seen()), (30, seen())).state.weight == 10


def test_a_pause_for_approval_ends_with_a_person() -> None:
    spec = rollout(Step(pause=Pause(untilApproved=True)), Step(setWeight=10))
    assert after(spec, (0, seen()), (9999, seen())).state.phase == "Paused"
    approved = seen(commands=frozenset({Command.PROMOTE}))
    assert after(spec, (0, seen()), (10, approved)).state.weight == 10


def test_abort_beats_promotion() -> None:
    both = frozenset({Command.ABORT, Command.PROMOTE_FULL})
    assert after(rollout(), (0, seen(commands=both))).outcome is StepOutcome.REJECT


def test_a_paused_rollout_holds_its_weight() -> None:
    running = after(rollout(), (0, seen()), (1, seen(seen_weights=at(10))))
    held = decide(
        rollout(paused=True), running.state, seen(seen_weights=at(10)), START + timedelta(seconds=500)
    )
    assert (held.state.phase, held.state.weight) == ("Paused", 10)


def test_a_canary_whose_pods_die_under_traffic_is_left_at_once() -> None:
    fault = Fault(Reason.CONTAINER_CRASHING, "container server ended with exit code 1", of_model=True)
    decision = after(
        rollout(),
        (0, seen()),
        (1, seen(seen_weights=at(10))),
        (5, seen(canary_ready=0, fault=fault, verdict=fault)),
    )
    assert decision.outcome is StepOutcome.REJECT


def test_a_canary_that_does_not_get_ready_is_left_after_its_deadline() -> None:
    spec = rollout(progressDeadlineSeconds=60)
    assert after(spec, (0, seen(canary_ready=0)), (59, seen(canary_ready=0))).outcome is StepOutcome.CONTINUE
    assert after(spec, (0, seen(canary_ready=0)), (60, seen(canary_ready=0))).outcome is StepOutcome.REJECT


def test_another_canary_begins_at_the_beginning() -> None:
    spec = rollout()
    running = after(spec, (0, seen()), (1, seen(seen_weights=at(10))))
    other = decide(spec, running.state, seen(canary="c", canary_ready=0), START + timedelta(seconds=9))
    assert (other.state.revision, other.state.weight, other.state.step) == ("c", 0, 0)


def test_a_canary_gets_nothing_before_every_router_knows_its_pods() -> None:
    waiting = after(rollout(), (0, seen(canary_routed=0)))
    assert waiting.state.weight == 0
    assert waiting.state.message == "routers know 0 of 1 canary pods for 10%"
    assert after(rollout(), (0, seen(canary_routed=0)), (5, seen(canary_routed=1))).state.weight == 10


def test_a_promotion_takes_one_step_and_not_the_analysis_after_it() -> None:
    spec = rollout(Step(pause=Pause(untilApproved=True)), Step(analysis=AnalysisStep()))
    decision = after(spec, (0, seen()), (5, seen(commands=frozenset({Command.PROMOTE}))))
    assert (decision.state.step, decision.state.phase) == (1, "Progressing")
