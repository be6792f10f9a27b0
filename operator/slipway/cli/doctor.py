"""``kubectl slipway doctor``: what an installation does not hold, and what could not be seen of it."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.cli.facts import facts
from slipway.cli.findings import Finding, Level, findings
from slipway.cli.output import write
from slipway.cli.terminal import Tone, is_colored, lay_out, table

#: Exit codes where something is missing, and where nothing is but not all could be seen.
MISSING, UNSEEN = 3, 4
_TONES = {Level.MISSING: Tone.BAD, Level.UNSEEN: Tone.WAITING, Level.HOLDS: Tone.GOOD}


def run(arguments: Namespace) -> int:
    """Print a line for each thing that was looked at."""
    if arguments.all_namespaces and arguments.namespace:
        raise CommandError("give either --namespace or --all-namespaces, which is the default")
    found = findings(facts(Cluster(arguments), everywhere=not arguments.namespace))
    if arguments.output is not None:
        write(arguments.output, {"findings": [{**asdict(each), "level": str(each.level)} for each in found]})
    else:
        rows = [(str(each.level), each.check, each.message) for each in found]
        tones = [_TONES.get(each.level, Tone.PLAIN) for each in found]
        lines = table(("LEVEL", "CHECK", "MESSAGE"), rows, tones, headers=not arguments.no_headers)
        print(lay_out(lines, None, color=is_colored(arguments.color)))
    return _code(found)


def _code(found: list[Finding]) -> int:
    levels = {each.level for each in found}
    if Level.MISSING in levels:
        return MISSING
    return UNSEEN if Level.UNSEEN in levels else 0
