"""What was decided of rollouts by an evaluation, and who or what decided it: one entry for each decision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.commands import PROPOSED_BY, by, commands_for, is_retried, value
from slipway.core.rollout.machine import PAUSED
from slipway.core.rollout.situation import Command
from slipway.core.status.progress import began_by_itself

#: Longest name and reason that an entry holds; both come from users.
MOST_LETTERS = 256


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        decision: Began, Approved, Skipped (to the end), Held, Resumed, Promoted, RolledBack (an earlier
            revision took over from one that was found bad), Superseded (by another one that is asked for),
            Rejected or Retried.
        rollout: its id; empty where the revision takes over without one.
        revision: that it is about.
        by: name of the person, as the annotation says it; empty where it says none, or nobody was asked. Of
            what began, those who changed the spec, with commas between them.
        person: whether a person decided, by a command or, with a name, by a change of the spec.
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
    return (
        *_retried(resource),
        *_commanded(resource, plan),
        *_superseded(resource, plan),
        *_ended(resource, plan),
        *_began(resource, plan),
    )


def _retried(resource: Resource) -> Iterator[Decision]:
    for found in resource.status.rejected:
        if is_retried(resource.annotations, found):
            who = by(resource.annotations, Command.RETRY, found.id)[:MOST_LETTERS]
            yield Decision("Retried", found.id, found.revision, who, person=True)


def _began(resource: Resource, plan: Plan) -> Iterator[Decision]:
    before, after, wanted = resource.status.rollout, plan.roles.rollout, plan.roles.wanted
    if after is None or (before is not None and before.id == after.id):
        return
    if _takes_back(resource, plan, after.revision):
        yield Decision("Began", after.id, after.revision, why="the revision that served was found bad")
        return
    model = plan.resolution.model
    version = wanted.model.version if wanted is not None else ""
    if began_by_itself(resource):
        uri = model.uri if model is not None else "the name that the spec follows"
        why = f"{uri} is version {version} now"
        yield Decision("Began", after.id, after.revision, why=why[:MOST_LETTERS])
        return
    names = resource.annotations.get(PROPOSED_BY, "")[:MOST_LETTERS]
    why = f"the spec asks for version {version}"
    yield Decision("Began", after.id, after.revision, names, bool(names), why[:MOST_LETTERS])


def _superseded(resource: Resource, plan: Plan) -> Iterator[Decision]:
    """A rollout that ended with neither yes nor no."""
    before, roles = resource.status.rollout, plan.roles
    if before is None or (roles.rollout is not None and roles.rollout.id == before.id):
        return
    if roles.stable == before.revision or any(found.id == before.id for found in roles.rejected):
        return
    other = roles.candidate or roles.stable
    if other != before.revision:
        yield Decision("Superseded", before.id, before.revision, why=f"revision {other} is asked for")


def _takes_back(resource: Resource, plan: Plan, revision: str) -> bool:
    """Whether a revision takes the place of one that was found bad while it served."""
    stable = resource.status.stable
    is_earlier = revision in resource.status.previous
    bad = {found.revision for found in plan.roles.rejected}
    return stable is not None and is_earlier and stable.revision in bad


def _commanded(resource: Resource, plan: Plan) -> Iterator[Decision]:
    before, after = resource.status.rollout, plan.roles.rollout
    if before is None:
        return
    given = commands_for(resource.annotations, before)
    now = after if after is not None and after.id == before.id else None
    took_over = plan.roles.stable == before.revision
    if Command.PAUSE not in given and now is not None and _is_paused(before) and not _is_paused(now):
        # The annotation is gone, and with it whoever took it away.
        yield Decision("Resumed", before.id, before.revision, person=True)
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
        taken_back = _takes_back(resource, plan, roles.stable)
        why = roles.took_over or (_gates(ended) if is_it and ended is not None else "")
        name = "RolledBack" if taken_back else "Promoted"
        yield Decision(name, rollout, roles.stable, why=why[:MOST_LETTERS])


def _gates(rollout: RolloutStatus) -> str:
    """What the gates said last."""
    said = ", ".join(f"{gate.name} {gate.verdict}" for gate in rollout.gates)
    return f"gates: {said}" if said else ""


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
