"""Who has the traffic while a revision has no ready pod; see docs/adr/0010-what-the-cluster-does.md."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from slipway.api.rollout_status import RolloutStatus
from slipway.core.observed import rfc3339
from slipway.core.rollout.situation import Command, Decision, Situation, StepOutcome

#: How long the stable revision may be without a ready pod before a canary that has some takes over.
STABLE_PATIENCE = timedelta(seconds=60)


def note_stable(state: RolloutStatus, seen: Situation, now: datetime) -> RolloutStatus:
    """Remember since when the stable revision has had no ready pod."""
    if seen.stable_ready:
        return _changed(state, stableLostAt=None) if state.stableLostAt else state
    return state if state.stableLostAt else _changed(state, stableLostAt=rfc3339(now))


def stand_in(state: RolloutStatus, seen: Situation, now: datetime) -> Decision:
    """A canary with ready pods, and a stable revision without any: nothing is left to protect.

    However it was held: one that was stable not long ago, or that was to be promoted anyway, takes over at
    once, any other one after a while, in which the stable revision's pods may come back.
    """
    if seen.in_window:
        return take_over(state, "it was stable before")
    if state.phase == "Promoting" or Command.PROMOTE_FULL in seen.commands:
        return take_over(state, "it was to be promoted")
    since = datetime.fromisoformat(state.stableLostAt or rfc3339(now))
    left = (STABLE_PATIENCE - (now - since)).total_seconds()
    if left <= 0:
        return take_over(state, f"for {STABLE_PATIENCE.seconds} s")
    at = rfc3339(since + STABLE_PATIENCE)
    words = f"{_NO_STABLE}: it takes over at {at}, or at once by kubectl slipway promote-full"
    return Decision(_changed(state, phase="Progressing", message=words), wait=left)


_NO_STABLE = "the stable revision has no ready pod and this one has"


def take_over(state: RolloutStatus, why: str) -> Decision:
    """Become stable without further ado."""
    message = f"{_NO_STABLE}; {why}"
    return Decision(_changed(state, phase="Promoting", mirrorPercent=0, message=message), StepOutcome.PROMOTE)


def spare(state: RolloutStatus, seen: Situation) -> RolloutStatus:
    """While a canary has no ready pod, its share is the stable revision's."""
    if seen.alive or not seen.stable_ready or not state.weight:
        return state
    return _changed(state, weight=0, heldWeight=state.weight)


def lost(state: RolloutStatus, seen: Situation) -> str:
    """What is said meanwhile."""
    cause = f": {seen.fault.reason}: {seen.fault.message}" if seen.fault is not None else ""
    words = f"lost its pods; the stable revision has its {state.heldWeight}% until {state.message}{cause}"
    return words[:1024]


def _changed(state: RolloutStatus, **fields: Any) -> RolloutStatus:
    return state.model_copy(update=fields)
