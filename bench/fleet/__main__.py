"""`python -m bench.fleet`: measure the operator with many ModelDeployments, print and write the results."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import tables
from bench.fleet import network, processes
from bench.fleet.measure import Measured, Options, measure
from bench.fleet.page import as_json, grids
from bench.machine import machine
from e2e.cluster.errors import ClusterError
from e2e.cluster.tools import KUBERNETES_VERSION

RESULTS = Path(__file__).parents[1] / "results" / "fleet.json"


def main() -> int:
    """Measure each number of ModelDeployments; returns the exit code."""
    arguments, code = _arguments(), 0
    try:
        if not network.is_inside():
            processes.build()
            network.enter("bench.fleet", sys.argv[1:])
        network.set_up(processes.api_address())
        _measure_all(arguments)
    except* ClusterError as errors:
        for error in _each(errors):
            print(f"bench: {error}", file=sys.stderr)
        code = 1
    return code


def _each(errors: BaseExceptionGroup[ClusterError]) -> Iterator[Exception]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _measure_all(arguments: argparse.Namespace) -> None:
    # What was started is ended, whoever asks the bench to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    began, load = time.monotonic(), [os.getloadavg()[0]]

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:4.0f} s[/] {text}")

    options = Options(arguments.rest_seconds, arguments.events, arguments.holes)
    found = [_measure(size, options, arguments.keep, say) for size in sorted(set(arguments.sizes))]
    load.append(os.getloadavg()[0])
    tables.show(grids(found), console)
    _write(found, arguments, load)
    console.print(f"{time.monotonic() - began:.0f} s")


def _measure(size: int, options: Options, keep: Path | None, say: Callable[[str], None]) -> Measured:
    if keep is not None:
        folder = keep / str(size)
        folder.mkdir(parents=True)
        return asyncio.run(measure(size, folder, options, say))
    with tempfile.TemporaryDirectory(prefix="slipway-fleet-") as scratch:
        return asyncio.run(measure(size, Path(scratch), options, say))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description="What the operator costs, with many ModelDeployments."
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100, 1000], help="ModelDeployments, one run each (100 1000)"
    )
    parser.add_argument("--rest-seconds", type=float, default=60, help="that nothing happens for (60)")
    parser.add_argument("--events", type=int, default=40, help="whose way to a write is timed (40)")
    parser.add_argument("--holes", type=int, default=30, help="namespaces of black holes; 0 for none (30)")
    parser.add_argument("--keep", type=Path, help="an empty folder that logs and all other state stay in")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the figures go, and next to it as .md"
    )
    return parser.parse_args()


def _write(found: Sequence[Measured], arguments: argparse.Namespace, load: Sequence[float]) -> None:
    there, when = machine(), datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "when": when,
        "machine": there,
        "kubernetes": KUBERNETES_VERSION,
        "load_average": [round(one, 2) for one in load],
        "rest_seconds": arguments.rest_seconds,
        **as_json(found),
    }
    output: Path = arguments.output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    sizes = ", ".join(f"{one.size:,}" for one in found)
    how = (
        f"{there['cpu']}, {there['cores']} cores for all of it, Python {there['python']}, Kubernetes "
        f"{KUBERNETES_VERSION}; {sizes} ModelDeployments of one pod, {when}; load average {load[0]:.1f} "
        f"before, {load[1]:.1f} after. API server, etcd and controllers are real, pods are on paper; "
        "the autoscalers' controller is off."
    )
    page = [f"<!-- Written by make bench-fleet. --> {how}", "", tables.markdown(grids(found))]
    output.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main())
