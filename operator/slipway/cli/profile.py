"""``slipway profile``: make a profile from training data and a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.models.faults import ModelError
from slipway.names import DISTRIBUTION
from slipway.profile import ProfileError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, help="training data: a parquet or CSV file")
    parser.add_argument("--model", required=True, type=Path, help="the ONNX model")
    parser.add_argument("--labels", metavar="COLUMN", help="column with the true answers")
    parser.add_argument(
        "--sensitive",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns whose groups are to be treated alike; up to 3",
    )
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="COLUMN", help="columns that the model does not take"
    )
    parser.add_argument(
        "--holdout", type=Path, help="data that the model was not trained on, to see how often it is right"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("profile.json"), help="default: profile.json"
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        from slipway.profiling.make import make_profile
    except ImportError as error:
        print(
            f"slipway profile: {error.name} is not installed: pip install '{DISTRIBUTION}[profile]'",
            file=sys.stderr,
        )
        return 1
    from rich.console import Console
    from rich.progress import Progress

    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
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
        print(f"slipway profile: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"slipway profile: {arguments.output} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
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
