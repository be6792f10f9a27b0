"""What people ask of a rollout, by an annotation that names the rollout and so cannot hit a later one.

A second annotation, ``…-by``, repeats it and ends with ``/NAME``, the name of who asks. An operator that
knows nothing of names, as one that was rolled back to, reads the first one alone. The chart's
``policies.approvals`` has the API server refuse any name but the writer's own; without them it is what the
writer says of himself.
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


def annotation_by(command: Command) -> str:
    """The annotation that repeats a command with the name of who gave it."""
    return f"{annotation(command)}-by"


def value(command: Command, rollout: RolloutStatus) -> str:
    """What the annotation has to say: the rollout, and for a promotion by one step the step."""
    return f"{rollout.id}/{rollout.step}" if command is Command.PROMOTE else rollout.id


def given(command: Command, meant: str, name: str) -> dict[str, str | None]:
    """The annotations that give a command, with who asks where that is known."""
    return {annotation(command): meant, annotation_by(command): f"{meant}/{name}" if name else None}


def taken_back(command: Command) -> dict[str, str | None]:
    """The annotations without a command."""
    return {annotation(command): None, annotation_by(command): None}


def said(annotations: Mapping[str, str], command: Command) -> str:
    """A command with the name of who gave it, where it has one; empty without that command."""
    plain = annotations.get(annotation(command), "")
    named = annotations.get(annotation_by(command), "")
    return named if plain and named.startswith(f"{plain}/") else plain


def commands_for(annotations: Mapping[str, str], rollout: RolloutStatus | None) -> frozenset[Command]:
    """The commands that are meant for this rollout as it is now."""
    if rollout is None:
        return frozenset()
    return frozenset(
        command
        for command in (Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT, Command.PAUSE)
        if _is_meant(said(annotations, command), value(command, rollout))
    )


def is_retried(annotations: Mapping[str, str], rejection: Rejection) -> bool:
    """Whether a person asked for this rejection to be forgotten."""
    return _is_meant(said(annotations, Command.RETRY), rejection.id)


def by(annotations: Mapping[str, str], command: Command, meant: str) -> str:
    """Who gave a command that is meant for this; empty where the annotation does not say."""
    return said(annotations, command).removeprefix(meant).removeprefix("/")


def proposed(annotations: Mapping[str, str], name: str) -> str:
    """What ``proposed-by`` has to say once this person has changed the spec too."""
    before = annotations.get(PROPOSED_BY, "")
    return before if f",{name}," in f",{before}," else f"{before},{name}".lstrip(",")


def _is_meant(command: str, meant: str) -> bool:
    return command == meant or command.startswith(f"{meant}/")
