"""``kubectl slipway history``: what was decided of rollouts, and by whom."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from slipway.api.rollout_status import DecisionStatus
from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.cli.output import write
from slipway.cli.terminal import Line, Tone, is_colored, lay_out, table
from slipway.core.resource import read

_NONE = "-"
_TONES = {"Promoted": Tone.GOOD, "Rejected": Tone.BAD, "RolledBack": Tone.BAD, "Held": Tone.WAITING}
_COLUMNS = ("WHEN", "DECISION", "VERSION", "REVISION", "BY", "ROLLOUT", "WHY")


def run(arguments: Namespace) -> int:
    """Print a table, or the ModelDeployment with its ``status.history``."""
    found = Cluster(arguments).get(arguments.name)
    if arguments.output is not None:
        write(arguments.output, found)
        return 0
    resource = read(found)
    decided = resource.status.history
    if decided is None and resource.status_fault is not None:
        raise CommandError(
            f"this version of kubectl slipway cannot read the status of {arguments.name}: "
            f"{resource.status_fault.message}; use the kubectl slipway of the operator's version"
        )
    if not decided:
        print(f"nothing was decided of rollouts of {arguments.name} yet", file=sys.stderr)
        return 0
    lines = drawn(decided, headers=not arguments.no_headers)
    print(lay_out(lines, None, color=is_colored(arguments.color)))
    return 0


def drawn(decided: Sequence[DecisionStatus], *, headers: bool) -> list[Line]:
    """A line for each decision, below the names of the columns."""
    rows = [_cells(found) for found in decided]
    tones = [_TONES.get(found.decision, Tone.PLAIN) for found in decided]
    return table(_COLUMNS, rows, tones, headers=headers)


def _cells(found: DecisionStatus) -> tuple[str, ...]:
    who = found.by or ("somebody" if found.person else "Slipway")
    return (
        found.decidedAt,
        found.decision,
        found.version or _NONE,
        found.revision,
        who,
        found.rollout or _NONE,
        found.message or _NONE,
    )
