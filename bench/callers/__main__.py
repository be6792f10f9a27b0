"""`python -m bench.callers`: measure, print the tables, write the results."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import tables
from bench.callers import measure, refusals
from bench.callers.report import Results, as_json, grids
from bench.callers.stage import LOAD_CORE, stage
from bench.machine import machine
from bench.router.load import event_loop
from bench.server import environments
from bench.server.environments import SetUpError

RESULTS = Path(__file__).parents[1] / "results" / "callers.json"


def main() -> None:
    """Run both parts."""
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


def _measure(models: Path, arguments: argparse.Namespace, say: Callable[[str], None]) -> Results:
    is_quiet = os.getloadavg()[0] < len(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        scratch = Path(folder)

        async def latency() -> dict[str, measure.Way]:
            async with stage(models, scratch, say) as found:
                return await measure.measure(found, arguments.rounds, arguments.seconds, say)

        with asyncio.Runner(loop_factory=event_loop) as runner:
            ways = runner.run(latency())
        costs = refusals.measure(models, scratch, arguments.cost_rounds, arguments.count, say)
    return Results(is_quiet, ways, costs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.callers", description="What one caller sees of another that asks too much."
    )
    parser.add_argument("--rounds", type=int, default=25, help="figures are medians over so many (25)")
    parser.add_argument("--seconds", type=float, default=2.5, help="of each look at the modest caller (2.5)")
    parser.add_argument("--cost-rounds", type=int, default=5, help="of answers and refusals (5)")
    parser.add_argument("--count", type=int, default=10_000, help="requests of each of those (10000)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the figures go, and beside them as .md"
    )
    return parser.parse_args()


def _write(results: Results, arguments: argparse.Namespace, load: list[float]) -> None:
    output, there = arguments.output, machine()
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": there,
        "load_average": [round(one, 2) for one in load],
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
    )
    page = [f"<!-- Written by make bench-callers. --> {how}", "", tables.markdown(grids(results))]
    output.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n")


if __name__ == "__main__":
    main()
