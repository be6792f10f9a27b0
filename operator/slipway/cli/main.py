"""The ``slipway`` command. Each subcommand is a module that is imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from slipway.cli.errors import CommandError

#: Subcommand → its module, which has ``add_arguments(parser)`` and ``run(arguments)``, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "profile": ("slipway.cli.profile", "what a model's training data looks like, to watch live data against"),
    "status": ("slipway.cli.status", "what serves, and how far a rollout is"),
    "report": ("slipway.cli.report", "one page of what a model is asked, answers and gets right"),
    "plan": ("slipway.cli.plan", "what a change would do"),
    "promote": ("slipway.cli.command", "take the step that a rollout waits at"),
    "promote-full": ("slipway.cli.command", "give a canary all traffic, as soon as it can carry it"),
    "abort": ("slipway.cli.command", "take all traffic from a canary, and keep it out"),
    "retry": ("slipway.cli.command", "let the revision that was rejected last in again"),
    "pause": ("slipway.cli.command", "hold a rollout where it is"),
    "resume": ("slipway.cli.command", "let a rollout that was paused go on"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; gives the exit code: 0, 1 for what did not work, 2 for wrong arguments."""
    parsed = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(importlib.import_module(COMMANDS[parsed.command][0]).run(parsed))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of one subcommand, and ``command``, its name.

    Raises:
        SystemExit: with code 2 where they are wrong.
    """
    given = list(arguments)
    parser = argparse.ArgumentParser(prog=_program(), description="Model serving on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if given and given[0] == name:
            importlib.import_module(module).add_arguments(subparser)
    return parser.parse_args(given)


def _program() -> str:
    """By what name it was called: kubectl calls its plugins ``kubectl-NAME``."""
    return "kubectl slipway" if sys.argv and sys.argv[0].endswith("kubectl-slipway") else "slipway"


if __name__ == "__main__":
    raise SystemExit(main())
