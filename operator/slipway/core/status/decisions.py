"""What was decided of rollouts by a look, and who or what decided it: one entry for each decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.commands import by, commands_for, is_retried, value
from slipway.core.rollout.machine import PAUSED
from slipway.core.rollout.situation import Command

#: Longest name and reason that an entry holds; both come from users.
MOST_LETTERS = 256


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        decision: Began, Approved, Skipped (to the end), Held, Promoted, Rejected or Retried.
        rollout: its id; empty where the revision takes over without one.
        revision: that it is about.
        by: name of the person, as the annotation says it; empty where it says none, or nobody was asked.
        person: whether a person decided, by a command.
        why: in words.
    """

    decision: str
    rollout: str
    revision: str
    by: str = ""
    person: bool = False
    why: str = ""


def decisions(resource: Resource, plan: Plan) -> tuple[Decision, ...]:
    """What a plan decides that status before it did not say.

    A status that could not be written is planned again, and its decisions are the same ones again.
    """
    before, after = resource.status.rollout, plan.roles.rollout
    return (
        *_retried(resource),
        *_began(before, after),
        *_commanded(resource, plan),
        *_ended(resource, plan),
    )


def _retried(resource: Resource) -> Iterator[Decision]:
    for found in resource.status.rejected:
        if is_retried(resource.annotations, found):
            who = by(resource.annotations, Command.RETRY, found.id)[:MOST_LETTERS]
            yield Decision("Retried", found.id, found.revision, who, person=True)


def _began(before: RolloutStatus | None, after: RolloutStatus | None) -> Iterator[Decision]:
    if after is not None and (before is None or before.id != after.id):
        yield Decision("Began", after.id, after.revision)


def _commanded(resource: Resource, plan: Plan) -> Iterator[Decision]:
    before, after = resource.status.rollout, plan.roles.rollout
    if before is None:
        return
    given = commands_for(resource.annotations, before)
    now = after if after is not None and after.id == before.id else None
    took_over = plan.roles.stable == before.revision
    if Command.PROMOTE in given and (took_over or (now is not None and now.step > before.step)):
        yield _person(resource, before, Command.PROMOTE, "Approved", f"step {before.step}")
    is_new = before.phase != "Promoting" and (took_over or (now is not None and now.phase == "Promoting"))
    if Command.PROMOTE_FULL in given and is_new:
        yield _person(resource, before, Command.PROMOTE_FULL, "Skipped", "the steps that were left")
    if Command.PAUSE in given and now is not None and _is_paused(now) and not _is_paused(before):
        yield _person(resource, before, Command.PAUSE, "Held")


def _is_paused(rollout: RolloutStatus) -> bool:
    return rollout.message == PAUSED


def _ended(resource: Resource, plan: Plan) -> Iterator[Decision]:
    before, roles = resource.status, plan.roles
    known = {found.id for found in before.rejected}
    for found in roles.rejected:
        if found.id not in known:
            yield _rejected(resource, found)
    stable = before.stable.revision if before.stable is not None else None
    if roles.stable is not None and roles.stable != stable:
        ended = before.rollout
        is_it = ended is not None and ended.revision == roles.stable
        rollout = ended.id if ended is not None and is_it else ""
        yield Decision("Promoted", rollout, roles.stable, why=roles.took_over[:MOST_LETTERS])


def _rejected(resource: Resource, found: Rejection) -> Decision:
    rollout = resource.status.rollout
    aborted = (
        rollout is not None
        and rollout.id == found.id
        and Command.ABORT in commands_for(resource.annotations, rollout)
    )
    who = by(resource.annotations, Command.ABORT, found.id)[:MOST_LETTERS] if aborted else ""
    return Decision("Rejected", found.id, found.revision, who, aborted, found.message[:MOST_LETTERS])


def _person(
    resource: Resource, rollout: RolloutStatus, command: Command, decision: str, why: str = ""
) -> Decision:
    who = by(resource.annotations, command, value(command, rollout))[:MOST_LETTERS]
    return Decision(decision, rollout.id, rollout.revision, who, person=True, why=why)
