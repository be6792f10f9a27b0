"""The ``slipway`` command. The module of a subcommand is imported only to run it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from slipway.cli.errors import CommandError
from slipway.cli.parser import COMMANDS, parse, parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; gives the exit code, as :data:`slipway.cli.words.EXIT_CODES` has them."""
    if "_ARGCOMPLETE" in os.environ:
        from slipway.cli.completion import answer_the_shell

        answer_the_shell()
    parsed = parse(sys.argv[1:] if arguments is None else arguments)
    if parsed.version:
        from slipway.cli.version import client_version

        print(client_version())
        return 0
    if parsed.command is None:
        parser().print_help(sys.stderr)
        return 2
    try:
        return int(importlib.import_module(COMMANDS[parsed.command].module).run(parsed))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read, such as `head`, has enough; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
