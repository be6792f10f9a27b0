"""What the start of the resolver takes; it and the fetch of a model from S3, beside a pipe.

``python -m bench.fetch`` starts the resolver, as it is in the image, for each scheme, and takes its processor
time up to the first request. Then it puts a model into SeaweedFS on loopback, over TLS, and reads it in turn
by the resolver, by ``curl | sha256sum``, by the fetch and by ``curl | tee | sha256sum``, round after round.
A ratio is the median of those of the rounds: what the pipe takes, by what ours takes with all it does, the
start of Python included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import trustme
from rich.console import Console

from bench import tables
from bench.fetch.runs import Run, stage
from bench.fetch.starts import SCHEMES, starts
from bench.machine import machine
from bench.tables import MET, Grid
from tests.models.stores import seaweedfs

RESULTS = Path(__file__).parents[1] / "results" / "fetch.md"
GOAL, MOST_MEGABYTES, MOST_SECONDS = 0.70, 80, 0.5
#: Below it the start of Python counts more than the bytes.
_LARGE = 1000
#: A claim gets no request.
_FIRST = {"pvc": "its end"}
#: The pipe beside each; a bar would end a cell of Markdown.
_OURS = {"resolver": "curl to sha256sum", "fetch": "curl to tee to sha256sum"}


def main() -> int:
    """Print the ratios and write the page; the exit code is 1 if a goal is missed."""
    arguments = _arguments()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "image").mkdir()
        image = starts(folder / "image")
        took = {
            scheme: _median([image.seconds(scheme) for _ in range(arguments.rounds + 1)][1:])
            for scheme in SCHEMES
        }
        with seaweedfs(folder, trustme.CA()) as store:
            staged = stage(store, folder, arguments.megabytes)
            rounds = [
                {
                    "resolver": (staged.resolve(), staged.pipe(stored=False)),
                    "fetch": (staged.fetch(), staged.pipe(stored=True)),
                }
                # The first one fills caches.
                for _ in range(arguments.rounds + 1)
            ][1:]
    found = {name: [each[name] for each in rounds] for name in _OURS}
    grids, is_met = _grids(found, arguments.megabytes, took)
    tables.show(grids, Console())
    there = machine()
    how = (
        f"{there['cpu']}, {there['cores']} cores; a model of {arguments.megabytes} MB, medians of "
        f"{arguments.rounds} rounds, {datetime.now(UTC).isoformat(timespec='seconds')}; load average "
        f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    page = [f"<!-- Written by make bench-fetch. --> {how}", "", tables.markdown(grids)]
    arguments.output.write_text("\n".join(page).rstrip() + "\n")
    return 0 if is_met else 1


def _grids(
    found: dict[str, list[tuple[Run, Run]]], megabytes: int, took: dict[str, float]
) -> tuple[list[Grid], bool]:
    targets, figures, is_met = [], [], True
    for scheme, seconds in took.items():
        quick = seconds <= MOST_SECONDS
        what = f"resolver, CPU from its start to {_FIRST.get(scheme, 'its first request')}, {scheme}"
        targets.append((what, f"≤ {MOST_SECONDS} s", f"{seconds:.2f} s", MET[quick]))
        is_met = is_met and quick
    for name, pairs in found.items():
        ratio = statistics.median(pipe.seconds / ours.seconds for ours, pipe in pairs)
        memory = max(ours.memory for ours, _ in pairs) / 1_000_000
        speed = ratio >= GOAL if megabytes >= _LARGE else None
        small = memory <= MOST_MEGABYTES
        targets += [
            (f"{name}, share of the pipe's speed", f"≥ {GOAL:.0%}", f"{ratio:.0%}", MET[speed]),
            (f"{name}, memory", f"≤ {MOST_MEGABYTES} MB", f"{memory:.0f} MB", MET[small]),
        ]
        is_met = is_met and speed is not False and small
        for called, runs in ((name, [one for one, _ in pairs]), (_OURS[name], [one for _, one in pairs])):
            seconds, cpu = _median([run.seconds for run in runs]), _median([run.cpu_seconds for run in runs])
            figures.append((called, f"{seconds:.2f}", f"{megabytes / seconds:.0f}", f"{cpu:.2f}"))
    return [
        Grid("targets", ("what", "target", "found", ""), targets),
        Grid("figures", ("what", "seconds", "MB/s", "CPU seconds"), figures),
    ], is_met


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fetch",
        description="The start of the resolver; and it and the fetch of a model from S3, beside curl | tee | "
        "sha256sum.",
    )
    parser.add_argument(
        "--megabytes", type=int, default=_LARGE, help=f"of the model ({_LARGE}); smaller ones tell no share"
    )
    parser.add_argument("--rounds", type=int, default=5, help="medians over so many (5)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the page goes")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
