"""``kubectl slipway status``: what serves, and how far a rollout is."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError, ForbiddenError, MissingError, NotInstalledError
from slipway.cli.output import formatted
from slipway.cli.terminal import is_colored, lay_out, width
from slipway.cli.waiting import Outcome, progress

#: Seconds between two looks of ``--watch`` and ``--wait``.
INTERVAL = 1.0
#: Exit code of a ``--timeout`` that passed.
TIMED_OUT = 3


def run(arguments: Namespace) -> int:
    """Draw once, or until the end of a rollout, or until interrupted.

    Gives 1 where not all could be read, as of another version's resource, or where what is waited for failed.
    """
    if arguments.timeout is not None and not (arguments.wait or arguments.watch):
        raise CommandError("--timeout goes with --wait or --watch")
    there = Cluster(arguments)
    if not arguments.wait and not arguments.watch:
        found = there.get(arguments.name)
        print(_shown(found, arguments))
        return 1 if arguments.output is None and _is_unread(found) else 0
    return _follow(there, arguments)


def _follow(there: Cluster, arguments: Namespace) -> int:
    """Look until the rollout has ended (``--wait``) or time is up; every other end is an error's."""
    end = time.monotonic() + (float("inf") if arguments.timeout is None else arguments.timeout)
    screen, told = _Screen(arguments), ""
    for found in _looks(there, arguments.name, end):
        if arguments.watch:
            screen.show(found)
        if not arguments.wait:
            continue
        state = progress(found)
        if state.outcome is not Outcome.OPEN:
            if not arguments.watch:
                print(_shown(found, arguments))
            print(f"{there.namespace}/{arguments.name}: {state.message}", file=sys.stderr)
            return 0 if state.outcome is Outcome.DONE else 1
        if state.message != told and not arguments.watch:
            told = state.message
            print(f"waiting: {told}", file=sys.stderr, flush=True)
    print(f"{there.namespace}/{arguments.name}: not done after {arguments.timeout:g} s", file=sys.stderr)
    return TIMED_OUT


def _looks(there: Cluster, name: str, end: float) -> Iterator[dict[str, Any]]:
    """The resource, again and again until ``end``, and once at least; a failing API server is waited for."""
    trouble = ""
    while True:
        try:
            yield there.get(name)
            trouble = ""
        except (MissingError, ForbiddenError, NotInstalledError):
            raise
        except CommandError as error:
            if str(error) != trouble:
                trouble = str(error)
                print(f"trying again: {trouble}", file=sys.stderr, flush=True)
        if time.monotonic() + INTERVAL > end:
            return
        time.sleep(INTERVAL)


class _Screen:
    """What ``--watch`` has printed so far.

    On a terminal each picture takes the place of the one before; elsewhere there is a new one only where the
    resource has changed, since a time to go changes every second.
    """

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments
        self._version: object = None
        self._is_terminal = sys.stdout.isatty()

    def show(self, found: dict[str, Any]) -> None:
        if self._is_terminal:
            lines = _shown(found, self._arguments).splitlines()
            # Line by line over the old picture, so that nothing flickers, and then what is left of that.
            print("\033[H" + "".join(f"{line}\033[K\n" for line in lines) + "\033[J", end="", flush=True)
        elif found["metadata"].get("resourceVersion") != self._version:
            self._version = found["metadata"].get("resourceVersion")
            print(f"{_shown(found, self._arguments)}\n", flush=True)


def _shown(found: dict[str, Any], arguments: Namespace) -> str:
    if arguments.output is not None:
        return formatted(arguments.output, found)
    # The half of what starting this costs; it is not needed to ask, nor to print what was answered as it is.
    from slipway.cli.drawing import draw
    from slipway.core.resource import read

    return lay_out(draw(read(found), datetime.now(UTC)), width(), color=is_colored(arguments.color))


def _is_unread(found: dict[str, Any]) -> bool:
    from slipway.cli.drawing import faults
    from slipway.core.resource import read

    return bool(faults(read(found)))
