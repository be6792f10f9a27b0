"""`python -m bench.server`: measure, print the tables, write the results and the picture."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.machine import machine
from bench.server import environments
from bench.server.environments import PEERS, SetUpError
from bench.server.instructions import count
from bench.server.report import markdown, show, target_rows
from bench.server.results import Results, as_json
from bench.server.rounds import LOAD_CORE, Plan, measure, measure_scaling
from bench.server.scenarios import SCENARIOS, SCENARIOS_BY_NAME
from bench.server.servers import OURS, PEERS_BY_NAME, SLIPWAY, TITLES, prepare

RESULTS = Path(__file__).parents[1] / "results" / "server.json"
PICTURE = Path(__file__).parents[2] / "docs" / "model-server-speed.svg"


def main() -> None:
    arguments = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    began = time.monotonic()
    try:
        environments.check_tools()
        models = environments.models()
        peers, left_out = prepare(name for name in PEERS_BY_NAME if name in arguments.servers)
    except SetUpError as error:
        raise SystemExit(f"bench: {error}") from error
    # Asking whether a server is up should not slow down its start.
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    results = Results(failures=left_out)
    for why in left_out:
        console.print(f"left out: {why}", style="red", markup=False)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as scratch:
        plan = Plan(
            scenarios=[SCENARIOS_BY_NAME[name] for name in arguments.scenarios],
            servers=frozenset({SLIPWAY, *peers, *(name for name in OURS if name in arguments.servers)}),
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            warm_up=1,
            models=models,
            scratch=Path(scratch),
            say=lambda text: console.print(f"[dim]{time.monotonic() - began:4.0f} s[/] {text}"),
        )
        measure(plan, results)
        if not arguments.no_extras:
            measure_scaling(plan, results)
            plan.say("instructions")
            results.instructions = count(models, plan.scratch)
    show(results, plan.scenarios, console)
    _write(results, plan, arguments)
    console.print(f"{time.monotonic() - began:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.server",
        description="Slipway's model server beside others, one pinned core each.",
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument(
        "--scenarios", nargs="+", choices=names, default=names, metavar="NAME", help=str(names)
    )
    peers = list(TITLES)
    parser.add_argument("--servers", nargs="+", choices=peers, default=peers, metavar="NAME", help=str(peers))
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many (3)")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement (2)")
    parser.add_argument("--no-extras", action="store_true", help="neither two processes nor instructions")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the figures go, and beside them as .md"
    )
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    return parser.parse_args()


def _write(results: Results, plan: Plan, arguments: argparse.Namespace) -> None:
    output, there = arguments.output, machine()
    document = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": there,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "titles": {name: TITLES[name] for name in TITLES},
        "scenarios": {
            each.name: {
                "title": each.title,
                "model": each.model,
                "protocol": each.protocol,
                "rows": each.rows,
                "clients": each.clients,
                "onnxruntime": f"{each.model}, {each.raw_rows} rows",
                "onnxruntime_rows": each.raw_rows,
            }
            for each in plan.scenarios
        },
        **as_json(results),
        "targets": target_rows(results),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    where = f"{there['cpu']}, Python {there['python']}, onnxruntime {there['onnxruntime']}; "
    how = f"medians of {plan.rounds} rounds of {plan.seconds} s, {document['when']}"
    output.with_suffix(".md").write_text(markdown(results, plan.scenarios, where + how))
    drawer = PEERS / "tools" / "picture.py"
    subprocess.run(
        [str(environments.environment("tools")), str(drawer), str(output), str(arguments.picture)], check=True
    )


if __name__ == "__main__":
    main()
