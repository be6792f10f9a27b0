"""A canary's way: pure steps from what is remembered and what is seen to what is to be done.

All state is :class:`slipway.api.rollout_status.RolloutStatus`, kept in the resource's status: an operator
that is killed at any point decides the same afterwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

from slipway.api.rollout import Analysis, AnalysisStep, Pause, Rollout, SetMirror, Step
from slipway.api.rollout_status import GateStatus, RolloutStatus
from slipway.core.observed import rfc3339
from slipway.core.rollout.due import next_look
from slipway.core.rollout.gates import is_judged, judge_gates
from slipway.core.rollout.looks import carried_over, with_look
from slipway.core.rollout.situation import Command, Decision, Situation, StepOutcome
from slipway.core.rollout.steps import on_course
from slipway.core.rollout.takeover import lost, note_stable, spare, stand_in, take_over
from slipway.core.traffic import replica_ratio


def decide(rollout: Rollout, before: RolloutStatus | None, seen: Situation, now: datetime) -> Decision:
    """The next decision on a rollout.

    Args:
        rollout: the spec.
        before: what is remembered; None, or of another canary, at the start.
        seen: what is seen.
        now: the time, with a time zone.
    """
    state = before if before is not None and before.revision == seen.canary else _begin(seen, now)
    state = on_course(steps_of(rollout), state, now)
    decision = _timed(rollout, _decide(rollout, state, seen, now), seen, now)
    if decision.outcome is StepOutcome.CONTINUE and (decision.state.weight or decision.state.mirrorPercent):
        # Wherever it stands: while it gets requests, they are looked at.
        look = _until_look(decision.state, rollout.analysis, now) or float(rollout.analysis.intervalSeconds)
        return replace(decision, wait=look if decision.wait is None else min(decision.wait, look))
    return decision


def _decide(rollout: Rollout, state: RolloutStatus, seen: Situation, now: datetime) -> Decision:
    if Command.ABORT in seen.commands:
        return _abort(state, "aborted by a person", seen)
    if state.phase == "Aborting":
        if Command.PROMOTE_FULL in seen.commands and seen.alive and not seen.stable_ready:
            return take_over(state, "a person asked for it")
        return _abort(state, state.message.removeprefix(HOLDS), seen)
    if seen.audit_failed:
        return _abort(state, seen.audit_failed, seen)
    if seen.restored and not _was_approved(state, seen):
        return _hold_restored(state, rollout, seen, now)
    state = _look(state, rollout.analysis, seen, now) if not seen.upgrading else _unseen(state, rollout, now)
    failed = next(
        (gate for gate in state.gates if _acts(gate, rollout.analysis) and gate.verdict == "Fail"), None
    )
    if failed is not None:
        return _abort(state, f"gate {failed.name}: {failed.message}", seen)
    state = note_stable(state, seen, now)
    if not seen.stable_ready and seen.alive:
        return stand_in(state, seen, now)
    state = spare(state, seen)
    carries = bool(state.heldWeight or state.weight)
    if seen.verdict is not None and carries and not (seen.alive or seen.upgrading):
        return _abort(state, f"{seen.verdict.reason}: {seen.verdict.message}", seen)
    if Command.PROMOTE_FULL in seen.commands or state.phase == "Promoting":
        return _promote(state, seen, now)
    if state.heldWeight:
        waiting = _reach_weight(state, state.heldWeight, seen)
        if waiting is not None and not waiting.state.weight:
            return replace(waiting, state=_changed(waiting.state, message=lost(waiting.state, seen)))
        state = _changed(state, weight=state.heldWeight, heldWeight=None)
        if waiting is not None:
            return replace(waiting, state=_changed(waiting.state, heldWeight=None))
    if rollout.paused:
        return _hold(state, "spec.rollout.paused is true; set it to false to go on", seen)
    if Command.PAUSE in seen.commands:
        return _hold(state, PAUSED, seen)
    source = rollout.analysis.prometheus
    if source is not None and state.evidenceErrors >= source.consecutiveErrorLimit:
        why = seen.evidence_error or state.message.removeprefix(_BLIND)
        return _hold(state, f"{_BLIND}{why}"[:1024], seen, suspended=False)
    if not seen.stable_ready:
        return _wait(state, "neither revision has a ready pod")
    if seen.auditing and not (state.step or state.weight or state.mirrorPercent):
        return _hold(state, seen.auditing, seen, suspended=False)
    return _walk(rollout, state, seen, now)


def _timed(rollout: Rollout, decision: Decision, seen: Situation, now: datetime) -> Decision:
    """End what waited for pods, routers or Gateways for longer than its deadline, with the cause."""
    state = decision.state
    if decision.outcome is not StepOutcome.CONTINUE or state.phase == "Aborting":
        return decision
    only_hope = seen.alive and not seen.stable_ready
    if seen.upgrading or seen.restored or only_hope or not (decision.blocked or _lacks_pods(state, seen)):
        return replace(decision, state=_changed(state, waitingSince=None))
    since = state.waitingSince or rfc3339(now)
    left = rollout.progressDeadlineSeconds - (now - _time(since)).total_seconds()
    if left > 0:
        wait = left if decision.wait is None else min(left, decision.wait)
        return replace(decision, state=_changed(state, waitingSince=since), wait=wait)
    fault = (seen.fault if _lacks_pods(state, seen) else None) or seen.route_fault or seen.fault
    cause = f"{fault.reason}: {fault.message}" if fault is not None else state.message
    return _abort(state, f"not ready within {rollout.progressDeadlineSeconds} s: {cause}", seen)


def steps_of(rollout: Rollout) -> tuple[Step, ...]:
    """The steps of a rollout: its own, or those that its strategy stands for."""
    if rollout.steps is not None:
        return rollout.steps
    return _STEPS.get(rollout.strategy, ())


_ANALYSIS = Step(analysis=AnalysisStep())
_COPIES = Step(setMirror=SetMirror(percent=100))
_STEPS: dict[str, tuple[Step, ...]] = {
    "Canary": (Step(setWeight=10), _ANALYSIS, Step(setWeight=50), _ANALYSIS),
    "BlueGreen": (_COPIES, _ANALYSIS),
    "Shadow": (_COPIES, _ANALYSIS, Step(pause=Pause(untilApproved=True))),
}


def needed_pods(weight: int, seen: Situation) -> int:
    """Ready pods that a canary needs before it may carry this percent of what the stable revision carries."""
    if seen.by_replicas:
        return replica_ratio.canary_pods(weight, seen.stable_ready, seen.max_replicas)
    share = min(weight, seen.surge_percent)
    return min(seen.max_replicas, max(1, math.ceil(seen.stable_ready * share / 100)))


def _walk(rollout: Rollout, state: RolloutStatus, seen: Situation, now: datetime) -> Decision:
    """Do as many steps as are done at once, and stop at the first that is not."""
    steps = steps_of(rollout)
    while state.step < len(steps):
        step = steps[state.step]
        waiting = _enter(step, state, rollout, seen, now)
        if waiting is not None:
            return waiting
        state = _changed(
            _target(step, state),
            step=state.step + 1,
            stepStartedAt=rfc3339(now),
            phase="Progressing",
            waitingSince=None,
        )
        # A promotion takes one step: the analysis after an approved pause is not skipped with it.
        seen = replace(seen, commands=seen.commands - {Command.PROMOTE})
    return _promote(state, seen, now)


def _target(step: Step, state: RolloutStatus) -> RolloutStatus:
    """What a step asks for, whether or not it is reached yet."""
    if step.setWeight is not None:
        return _changed(state, weight=step.setWeight)
    if step.setMirror is not None:
        return _changed(state, mirrorPercent=step.setMirror.percent)
    if step.setCanaryScale is not None:
        return _changed(state, canaryReplicas=step.setCanaryScale.replicas)
    return state


def _enter(
    step: Step, state: RolloutStatus, rollout: Rollout, seen: Situation, now: datetime
) -> Decision | None:
    """Why a step is not done yet, or None if it is."""
    target = _target(step, state)
    if step.setWeight is not None:
        return _reach_weight(state, step.setWeight, seen)
    if step.setMirror is not None and step.setMirror.percent:
        pods = needed_pods(step.setMirror.percent, seen)
        if (lacking := _lacking(pods, seen)) is not None:
            grown = _changed(state, canaryReplicas=max(state.canaryReplicas, pods))
            return _wait(grown, f"{lacking} for copies")
    if step.setCanaryScale is not None and seen.canary_ready < min(target.canaryReplicas, seen.max_replicas):
        return _wait(target, f"{seen.canary_ready} of {target.canaryReplicas} canary pods are ready")
    if step.pause is not None:
        return _pause(step, state, seen, now)
    if step.analysis is not None:
        return _analyse(state, rollout.analysis, seen, now)
    return None


def _reach_weight(state: RolloutStatus, weight: int, seen: Situation) -> Decision | None:
    """Capacity first, then weight, then proof that every router does as it was told."""
    pods = needed_pods(weight, seen)
    grown = _changed(state, canaryReplicas=pods if seen.by_replicas else max(state.canaryReplicas, pods))
    if weight > state.weight and seen.obstacle is not None:
        # What is no fault ends by itself, at a time of its own.
        return replace(_wait(grown, seen.obstacle), blocked=seen.route_fault is not None)
    if weight > state.weight and (lacking := _lacking(pods, seen)) is not None:
        return _wait(grown, f"{lacking} for {weight}%")
    reached = _changed(grown, weight=weight)
    if seen.by_replicas:
        share = replica_ratio.reachable_share(weight, seen.stable_ready, seen.max_replicas)
        if seen.seen_weights != frozenset({share}):
            return _wait(reached, f"ready pods behind the Service do not make {share}% yet")
    elif seen.seen_weights != frozenset({weight}):
        return _wait(reached, f"not every router sends {weight}% yet")
    return None


def _lacking(pods: int, seen: Situation) -> str | None:
    """What keeps a canary from carrying anything, or None."""
    if seen.canary_ready < pods:
        return f"{seen.canary_ready} of {pods} canary pods are ready"
    if seen.canary_routed < pods:
        cause = f"{seen.route_fault.reason}: {seen.route_fault.message}; " if seen.route_fault else ""
        return f"{cause}routers know {seen.canary_routed} of {pods} canary pods"
    return None


def _pause(step: Step, state: RolloutStatus, seen: Situation, now: datetime) -> Decision | None:
    if Command.PROMOTE in seen.commands:
        return None
    if step.pause is not None and step.pause.seconds is not None:
        left = step.pause.seconds - (now - _time(state.stepStartedAt)).total_seconds()
        if left <= 0:
            return None
        return replace(_hold(state, "pause", seen, suspended=False), wait=left)
    return _hold(state, "waits for approval: kubectl slipway promote", seen)


def _analyse(state: RolloutStatus, analysis: Analysis, seen: Situation, now: datetime) -> Decision | None:
    acting = [gate for gate in state.gates if _acts(gate, analysis)]
    # What was seen before this step began says nothing of it.
    counted = state.countedAt is not None and _time(state.countedAt) > _time(state.stepStartedAt)
    if counted and not state.mismatch and all(gate.verdict == "Pass" for gate in acting):
        return None
    if Command.PROMOTE in seen.commands:
        return None
    left = analysis.maxDurationSeconds - (now - _time(state.stepStartedAt)).total_seconds()
    if left > 0:
        return Decision(
            _changed(state, phase="Progressing", message=state.mismatch or "gathers evidence"),
            wait=min(left, _until_look(state, analysis, now)),
        )
    if analysis.onInconclusive == "Promote":
        return None
    if analysis.onInconclusive == "Abort":
        return _abort(state, f"no verdict within {analysis.maxDurationSeconds} s", seen)
    return Decision(
        _changed(state, phase="Paused", message="inconclusive; kubectl slipway promote or abort"),
        wait=_until_look(state, analysis, now),
        suspended=True,
    )


_BLIND = "holds, since there is no evidence to be had: "


def _promote(state: RolloutStatus, seen: Situation, now: datetime) -> Decision:
    """All traffic, once the canary has the capacity for it; then the roles are swapped."""
    if state.phase != "Promoting":
        # Pods that are still to come have their time from now on, however long it was paused before.
        state = _changed(state, stepStartedAt=rfc3339(now), waitingSince=None)
    promoting = _changed(state, phase="Promoting", mirrorPercent=0, message="takes over")
    waiting = _reach_weight(promoting, 100, seen)
    if waiting is not None:
        held = None if waiting.state.weight else state.heldWeight
        return replace(waiting, state=_changed(waiting.state, phase="Promoting", heldWeight=held))
    return Decision(promoting, StepOutcome.PROMOTE)


#: What a rollout says that a person holds.
PAUSED = "paused; kubectl slipway resume goes on"
#: How a message begins of an abort that waits, since nobody else answers.
HOLDS = "holds, since the stable revision has no ready pod: "


def _abort(state: RolloutStatus, message: str, seen: Situation) -> Decision:
    """No traffic; the canary is left once every router has been seen to send it none.

    Never into nothing: while only the canary has ready pods, it keeps the share that it has.
    """
    if state.weight and seen.alive and not seen.stable_ready:
        held = f"{HOLDS}{message}"
        return Decision(_changed(state, phase="Aborting", mirrorPercent=0, message=held[:1024]))
    fields = {"weight": 0, "mirrorPercent": 0, "heldWeight": None, "mismatch": "", "message": message[:1024]}
    aborting = _changed(state, phase="Aborting", **fields)
    return Decision(aborting, StepOutcome.REJECT)


def _look(state: RolloutStatus, analysis: Analysis, seen: Situation, now: datetime) -> RolloutStatus:
    """Take in counts when a look is due. Counts of two different weights are never one look's."""
    state = _changed(state, looks=carried_over(state, analysis.gates))
    if not is_judged(analysis, state.gates) and state.looks:
        # Gates were edited: verdicts of other questions decide nothing.
        state = _changed(state, gates=judge_gates(analysis, state.looks))
    if _until_look(state, analysis, now) > 0:
        return state
    if seen.evidence_error is not None:
        return _changed(state, lookedAt=rfc3339(now), evidenceErrors=state.evidenceErrors + 1)
    if seen.counts is None:
        return state
    state = _changed(state, evidenceErrors=0)
    if seen.doubt is not None:
        # Other requests than was meant: what they show is no evidence.
        return _changed(
            state, lookedAt=rfc3339(now), mismatch=seen.doubt, gates=judge_gates(analysis, state.looks)
        )
    state = _changed(state, mismatch="")
    if seen.counts.canaryRequests == 0 or seen.counts.stableRequests == 0:
        # Nothing can be compared: no evidence, neither for nor against.
        return _changed(state, lookedAt=rfc3339(now), gates=judge_gates(analysis, state.looks))
    looks = with_look(state.looks, seen.counts, analysis.gates)
    return _changed(
        state, lookedAt=rfc3339(now), countedAt=rfc3339(now), looks=looks, gates=judge_gates(analysis, looks)
    )


def _unseen(state: RolloutStatus, rollout: Rollout, now: datetime) -> RolloutStatus:
    """What pods do while they are replaced is no evidence; an analysis has all of its time afterwards."""
    if _until_look(state, rollout.analysis, now) > 0:
        return state
    steps = steps_of(rollout)
    analysing = state.step < len(steps) and steps[state.step].analysis is not None
    started_at = rfc3339(now) if analysing else state.stepStartedAt
    return _changed(state, lookedAt=rfc3339(now), stepStartedAt=started_at)


def _was_approved(state: RolloutStatus, seen: Situation) -> bool:
    """Whether a canary needs nothing more than pods to take over."""
    return seen.in_window or state.phase == "Promoting" or Command.PROMOTE_FULL in seen.commands


def _hold_restored(state: RolloutStatus, rollout: Rollout, seen: Situation, now: datetime) -> Decision:
    """Nothing is decided before the stable revision answers here too, and no step's time runs until then."""
    if _until_look(state, rollout.analysis, now) <= 0:
        state = _changed(state, lookedAt=rfc3339(now), stepStartedAt=rfc3339(now))
    if seen.by_replicas and 0 < state.weight < 100:
        # Whatever its share: behind the Service it would answer alone.
        state = _changed(state, weight=0, heldWeight=state.weight)
    state = _changed(state, stableLostAt=None, message=seen.restored[:1024])
    return Decision(state, suspended=seen.forgotten)


def _until_look(state: RolloutStatus, analysis: Analysis, now: datetime) -> float:
    return max(0.0, (next_look(state, analysis) - now).total_seconds())


def _lacks_pods(state: RolloutStatus, seen: Situation) -> bool:
    """Whether the canary lacks pods that it was given."""
    needed = min(state.canaryReplicas, seen.max_replicas)
    if seen.by_replicas and state.phase == "Paused":
        # Its number follows the stable revision's meanwhile.
        needed = min(needed, 1)
    return seen.canary_ready < needed


def _acts(gate: GateStatus, analysis: Analysis) -> bool:
    return any(found.name == gate.name and found.acts for found in analysis.gates)


def _begin(seen: Situation, now: datetime) -> RolloutStatus:
    return RolloutStatus(
        phase="Progressing",
        revision=seen.canary,
        id=f"{seen.canary}.{int(now.timestamp())}",
        startedAt=rfc3339(now),
        stepStartedAt=rfc3339(now),
        stableReplicas=seen.stable_ready,
    )


def _hold(state: RolloutStatus, message: str, seen: Situation, suspended: bool = True) -> Decision:
    """Stay where it is; where pods make the share, the canary's follow the stable revision's."""
    if seen.by_replicas and state.weight and seen.stable_ready:
        state = _changed(state, canaryReplicas=needed_pods(state.weight, seen))
    return Decision(_changed(state, phase="Paused", message=message), suspended=suspended)


def _wait(state: RolloutStatus, message: str) -> Decision:
    return Decision(_changed(state, phase="Progressing", message=message[:1024]), blocked=True)


def _changed(state: RolloutStatus, **fields: Any) -> RolloutStatus:
    return state.model_copy(update=fields)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
