"""What people ask of a rollout, by an annotation that names the rollout and so cannot hit a later one."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.api.types import GROUP
from slipway.core.rollout.situation import Command


def annotation(command: Command) -> str:
    """The annotation that carries a command."""
    return f"{GROUP}/{command}"


def value(command: Command, rollout: RolloutStatus) -> str:
    """What the annotation has to say: the rollout and, for a promotion by one step, the step."""
    return f"{rollout.id}/{rollout.step}" if command is Command.PROMOTE else rollout.id


def commands_for(annotations: Mapping[str, str], rollout: RolloutStatus | None) -> frozenset[Command]:
    """The commands that are meant for this rollout as it is now."""
    if rollout is None:
        return frozenset()
    return frozenset(
        command
        for command in (Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT, Command.PAUSE)
        if annotations.get(annotation(command)) == value(command, rollout)
    )


def is_retried(annotations: Mapping[str, str], rejection: Rejection) -> bool:
    """Whether a person asked for this rejection to be forgotten."""
    return annotations.get(annotation(Command.RETRY)) == rejection.id
