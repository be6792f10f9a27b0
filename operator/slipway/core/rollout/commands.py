"""What people ask of a rollout, by an annotation that names the rollout and so cannot hit a later one.

It may end with ``/NAME``, the name of who asks. The chart's ``policies.approvals`` has the API server refuse
any other name than the writer's own; without them it is what the writer says of himself.
"""

from __future__ import annotations

from collections.abc import Mapping

from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.api.types import GROUP
from slipway.core.rollout.situation import Command

#: Names of those who proposed what the spec asks for, with commas between them.
PROPOSED_BY = f"{GROUP}/proposed-by"


def annotation(command: Command) -> str:
    """The annotation that carries a command."""
    return f"{GROUP}/{command}"


def value(command: Command, rollout: RolloutStatus, name: str = "") -> str:
    """What the annotation has to say: the rollout, for a promotion by one step the step, and who asks."""
    return named(f"{rollout.id}/{rollout.step}" if command is Command.PROMOTE else rollout.id, name)


def named(meant: str, name: str) -> str:
    """What a command is meant for, with who asks where that is known."""
    return f"{meant}/{name}" if name else meant


def commands_for(annotations: Mapping[str, str], rollout: RolloutStatus | None) -> frozenset[Command]:
    """The commands that are meant for this rollout as it is now."""
    if rollout is None:
        return frozenset()
    return frozenset(
        command
        for command in (Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT, Command.PAUSE)
        if _is_meant(annotations.get(annotation(command)), value(command, rollout))
    )


def is_retried(annotations: Mapping[str, str], rejection: Rejection) -> bool:
    """Whether a person asked for this rejection to be forgotten."""
    return _is_meant(annotations.get(annotation(Command.RETRY)), rejection.id)


def by(annotations: Mapping[str, str], command: Command, meant: str) -> str:
    """Who gave a command that is meant for this; empty where the annotation does not say."""
    return annotations.get(annotation(command), "").removeprefix(meant).removeprefix("/")


def proposed(annotations: Mapping[str, str], name: str) -> str:
    """What ``proposed-by`` has to say once this person has changed the spec too."""
    before = annotations.get(PROPOSED_BY, "")
    return before if f",{name}," in f",{before}," else f"{before},{name}".lstrip(",")


def _is_meant(said: str | None, meant: str) -> bool:
    return said is not None and (said == meant or said.startswith(f"{meant}/"))
