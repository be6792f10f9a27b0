"""The ``slipway`` command. Each subcommand is a module that is imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

#: Subcommand → its module, which has ``add_arguments(parser)`` and ``run(arguments)``, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "profile": ("slipway.cli.profile", "what a model's training data looks like, to watch live data against"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; gives the exit code: 0, 1 for what did not work, 2 for wrong arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="slipway", description="Model serving on Kubernetes.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        if given and given[0] == name:
            importlib.import_module(module).add_arguments(subparser)
    parsed = parser.parse_args(given)
    return int(importlib.import_module(COMMANDS[parsed.command][0]).run(parsed))


if __name__ == "__main__":
    raise SystemExit(main())
