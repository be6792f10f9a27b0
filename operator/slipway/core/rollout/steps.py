"""Where a rollout stands among its steps, whatever was edited meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from slipway.api.rollout import Step
from slipway.api.rollout_status import RolloutStatus
from slipway.core.naming import content_hash
from slipway.core.observed import rfc3339


def on_course(steps: Sequence[Step], state: RolloutStatus, now: datetime) -> RolloutStatus:
    """The state with its step counted among the steps as they are now.

    Steps at the front are done as far as they were done before, in the same order: so a step that was put in
    is taken, one that was taken out is not missed, and no pause and no analysis is passed over that was not
    gone through. A weight that was changed is set again, even where that takes traffic from the canary. A
    pause or an analysis that goes on, goes on from when it began.

    Version 0.1 did not write down which steps it counted; they are taken for those of now.
    """
    marks = tuple(_mark(step) for step in steps)
    if state.steps is None:
        return state.model_copy(update={"steps": marks, "step": min(state.step, len(marks))})
    if state.steps == marks:
        return state
    done = 0
    for mark in state.steps[: state.step]:
        done += done < len(marks) and mark == marks[done]
    fields: dict[str, object] = {"steps": marks, "step": done}
    if _kind(state.steps, state.step) != _kind(marks, done):
        fields["stepStartedAt"] = rfc3339(now)
    return state.model_copy(update=fields)


def _mark(step: Step) -> str:
    asked = step.model_dump(mode="json", exclude_none=True)
    return f"{'+'.join(asked)}/{content_hash(asked)}"


def _kind(marks: Sequence[str], place: int) -> str | None:
    return marks[place].partition("/")[0] if place < len(marks) else None
