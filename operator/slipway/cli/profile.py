"""``slipway profile``: make a profile from training data and a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from slipway.cli.errors import CommandError
from slipway.models.faults import ModelError
from slipway.names import DISTRIBUTION
from slipway.profile import ProfileError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def run(arguments: argparse.Namespace) -> int:
    """Make the profile and write it.

    Raises:
        CommandError: where data or model cannot be used, or the file cannot be written.
    """
    try:
        from slipway.profiling.make import make_profile
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[profile]'") from error
    from rich.console import Console
    from rich.progress import Progress

    try:
        console = Console(stderr=True)
        # Elsewhere than on a terminal it would leave an empty line.
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            profile = make_profile(
                arguments.data,
                arguments.model,
                labels=arguments.labels,
                sensitive=arguments.sensitive,
                ignore=arguments.ignore,
                holdout=arguments.holdout,
                watch=_Bar(progress),
            )
        arguments.output.write_bytes(profile.text())
    except (ProfileError, ModelError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{arguments.output} cannot be written: {error.strerror}") from error
    print(
        f"{arguments.output}: {len(profile.features)} features of {profile.data.rows} rows, "
        f"for the model {profile.modelDigest}"
    )
    return 0


class _Bar:
    """The progress bar: one line a step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, what: str, total: int | None) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
        self._task = self._progress.add_task(what, total=total)

    def advance(self, by: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, by)
