"""``kubectl slipway promote``, ``abort`` and the rest: what a person tells a rollout to do.

Each writes an annotation that names the rollout, so that it can hit no later one, and another with who asks.
"""

from __future__ import annotations

from argparse import Namespace

from slipway.api.rollout_status import RolloutStatus
from slipway.cli.changes import unless_changed
from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.errors import CommandError
from slipway.cli.output import write
from slipway.core.observed import Fault
from slipway.core.resource import Resource, read
from slipway.core.rollout import commands
from slipway.core.rollout.machine import HOLDS, steps_of
from slipway.core.rollout.situation import Command

#: Takes the annotation of ``pause`` away again.
RESUME = "resume"
#: ``promote``, by the name of the right that the chart's policies ask for.
APPROVE = "approve"


def run(arguments: Namespace) -> int:
    """Carry a command out, and say what it will do."""
    changed, words = carry_out(arguments.command, Cluster(arguments), arguments.name)
    if arguments.output is None:
        print(words)
    else:
        write(arguments.output, changed)
    return 0


def carry_out(command: str, there: Cluster, name: str) -> tuple[Manifest, str]:
    """Give a command to a ModelDeployment's rollout; gives the resource then, and what the command will do.

    Raises:
        CommandError: where there is nothing to command, or it cannot be written.
    """
    first, user = there.get(name), there.user()
    question = asked(command, read(first), user)
    changed = unless_changed(
        there,
        first,
        lambda last: there.annotate(last, question[0]),
        still=lambda last: asked(command, read(last), user) == question,
    )
    return changed, question[1]


def asked(command: str, resource: Resource, user: str = "") -> tuple[dict[str, str | None], str]:
    """The annotations that a command sets (None takes one away), and what is said of it.

    ``user`` is who asks; empty where that is not known.

    Raises:
        CommandError: where there is nothing to command.
    """
    status, name = resource.status, resource.owner.name
    command = Command.PROMOTE if command == APPROVE else command
    if resource.status_fault is not None:
        raise CommandError(
            f"this version of kubectl slipway cannot read the status of {name}: "
            f"{resource.status_fault.message}; use the kubectl slipway of the operator's version"
        )
    if command == Command.RETRY:
        if not status.rejected:
            raise CommandError(f"{name} has no rejected revision that could be tried again")
        rejection = status.rejected[-1]
        words = f"revision {rejection.revision} may be tried again; it was rejected: {rejection.message}"
        return commands.given(Command.RETRY, rejection.id, user), words
    if status.rollout is None:
        raise CommandError(
            f"{name} has no rollout under way; kubectl slipway status {name} shows what serves"
        )
    rollout = status.rollout
    if command == RESUME:
        if commands.annotation(Command.PAUSE) not in resource.annotations:
            raise CommandError(
                f"{name} was not paused by kubectl slipway pause; spec.rollout.paused is changed in the spec"
            )
        return commands.taken_back(Command.PAUSE), f"rollout {rollout.id} goes on"
    is_needed = command == Command.PROMOTE_FULL and rollout.message.startswith(HOLDS)
    if rollout.phase == "Aborting" and not is_needed:
        raise CommandError(f"rollout {rollout.id} is being aborted: {rollout.message}")
    if command == Command.PROMOTE:
        _refuse_idle(resource, rollout)
    words = {
        Command.PROMOTE: f"rollout {rollout.id} goes on from step {rollout.step + 1}",
        Command.PROMOTE_FULL: f"rollout {rollout.id} skips what is left of its steps",
        Command.ABORT: f"rollout {rollout.id} is aborted; its revision stays out until retry",
        Command.PAUSE: f"rollout {rollout.id} holds at {rollout.weight}%; its gates can still abort it",
    }[Command(command)]
    meant = commands.value(Command(command), rollout)
    return commands.given(Command(command), meant, user), words


def _refuse_idle(resource: Resource, rollout: RolloutStatus) -> None:
    """Refuse a promotion that would do nothing: what holds the rollout is not a step that a person can take.

    Raises:
        CommandError: with what to do instead.
    """
    name = resource.owner.name
    if Command.PAUSE in commands.commands_for(resource.annotations, rollout):
        raise CommandError(f"{name} is paused; kubectl slipway resume {name} first")
    if isinstance(resource.spec, Fault):
        return
    if resource.spec.rollout.paused:
        raise CommandError(f"{name} is held by spec.rollout.paused; set it to false first")
    steps = steps_of(resource.spec.rollout)
    step = steps[rollout.step] if rollout.step < len(steps) else None
    if step is None or (step.pause is None and step.analysis is None):
        raise CommandError(
            f"{name} waits for no person: {rollout.message or 'it is under way'}; "
            f"kubectl slipway promote-full {name} skips the steps that are left"
        )
