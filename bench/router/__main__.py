"""`python -m bench.router`: measure, print the tables, write the results."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import tables
from bench.machine import machine
from bench.router import changes, latency, memory, neighbours
from bench.router.load import event_loop
from bench.router.report import Results, as_json, grids
from bench.router.stage import LOAD_CORE, Stage, stage
from bench.server import environments
from bench.server.environments import SetUpError

RESULTS = Path(__file__).parents[1] / "results" / "router.json"


def main() -> None:
    """Run all parts."""
    arguments = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    began = time.monotonic()
    try:
        environments.check_tools("h2load", "taskset")
        models = environments.models()
    except SetUpError as error:
        raise SystemExit(f"bench: {error}") from error
    load = [os.getloadavg()[0]]
    results = _measure(
        models, arguments, lambda text: console.print(f"[dim]{time.monotonic() - began:4.0f} s[/] {text}")
    )
    load.append(os.getloadavg()[0])
    tables.show(grids(results), console)
    _write(results, arguments, load)
    console.print(f"{time.monotonic() - began:.0f} s")


def _measure(models: Path, arguments: argparse.Namespace, say: Callable[[str], None]) -> Results:
    if arguments.real_time:
        _schedule(os.SCHED_FIFO, 1)
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as scratch:

        def run(measure: Callable[[Stage], Any]) -> Any:
            part = Path(tempfile.mkdtemp(dir=scratch))
            with stage(models, part, say) as found, asyncio.Runner(loop_factory=event_loop) as runner:
                return runner.run(measure(found))

        found = run(lambda stage: latency.measure(stage, arguments.rounds, arguments.seconds))
        # The rest would take from others all that they have.
        _schedule(os.SCHED_OTHER, 0)
        return Results(
            found,
            run(memory.measure),
            run(lambda stage: neighbours.measure(stage, arguments.noise_seconds)),
            run(changes.measure),
        )


def _schedule(policy: int, priority: int) -> None:
    try:
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except PermissionError as error:
        raise SystemExit("bench: --real-time needs root, or CAP_SYS_NICE") from error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.router", description="What a router costs, and what it does to neighbours."
    )
    parser.add_argument("--rounds", type=int, default=9, help="latencies are medians over so many (9)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement of latency (1.5)")
    parser.add_argument("--noise-seconds", type=float, default=10, help="beside each noise (10)")
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="measure latency before all other work on this machine, which then disturbs less",
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the figures go, and beside them as .md"
    )
    return parser.parse_args()


def _write(results: Results, arguments: argparse.Namespace, load: list[float]) -> None:
    output, there = arguments.output, machine()
    document: Mapping[str, object] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": there,
        "load_average": [round(one, 2) for one in load],
        "real_time": arguments.real_time,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        **as_json(results),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    how = (
        f"{there['cpu']}, {there['cores']} cores, Envoy {there['envoy']}; medians of {arguments.rounds}"
        f" rounds of {arguments.seconds:g} s, {document['when']};"
        f" load average {load[0]:.1f} before, {load[1]:.1f} after"
        + (", latency measured at real-time priority" if arguments.real_time else "")
    )
    page = [f"<!-- Written by make bench-router. --> {how}", "", tables.markdown(grids(results))]
    output.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    main()
