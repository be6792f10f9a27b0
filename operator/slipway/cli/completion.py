"""Completion in shells: the script that asks, and the answers.

argcomplete finds the candidates from the parser. ``kubectl`` asks plugins in another way, which the program
``kubectl_complete-slipway`` speaks.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence

from slipway.cli.errors import CommandError
from slipway.cli.parser import parser
from slipway.names import DISTRIBUTION

#: What cobra's scripts do with the candidates: no file names after them.
_NO_FILES, _FILES = ":4", ":0"


def run(arguments: Namespace) -> int:
    """Print the script of a shell."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[cli]'") from error
    print(shellcode(["slipway"], shell=arguments.shell))
    return 0


def answer_the_shell() -> None:
    """Write the candidates that the script of a shell asks for, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser("slipway"))


def kubectl(words: Sequence[str] | None = None) -> int:
    """Write the candidates for ``kubectl slipway WORDS``: one a line, and what is to be done with them."""
    found = candidates(sys.argv[1:] if words is None else words)
    print("\n".join([*found, _NO_FILES if found else _FILES]))
    return 0


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of the words, as far as it is typed, may become."""
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import CompletionFinder

    class Finder(CompletionFinder):
        """Leaves file descriptor 9 alone: outside of a shell's script it is somebody else's."""

        def _init_debug_stream(self) -> None: ...

    *before, last = words or [""]
    line = f"{shlex.join(['slipway', *before])} {last}"
    asking = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line}
    asking |= {"COMP_POINT": str(len(line.encode())), "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    kept = {name: os.environ.get(name) for name in asking}
    os.environ.update(asking)
    answer = io.StringIO()
    try:
        Finder()(
            parser("slipway"),
            exit_method=lambda _: None,
            output_stream=answer,
            always_complete_options=last.startswith("-"),
            append_space=False,
            default_completer=SuppressCompleter(),
        )
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return [found for found in answer.getvalue().split("\n") if found]
