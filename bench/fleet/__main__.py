"""`python -m bench.fleet`: measure the operator with many ModelDeployments, print and write the results."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench import tables
from bench.fleet import network, processes
from bench.fleet.goals import Found
from bench.fleet.measure import FAULTS, Measured, Options, measure
from bench.fleet.monitored import measure_monitored
from bench.fleet.page import as_json, grids
from bench.fleet.real.figures import known
from bench.machine import machine
from e2e.cluster.errors import ClusterError
from e2e.cluster.tools import KUBERNETES_VERSION

RESULTS = Path(__file__).parents[1] / "results" / "fleet.json"


def main() -> int:
    """Measure all parts that are asked for; returns the exit code, 1 if one of them has no figure."""
    arguments = _arguments()
    try:
        if not network.is_inside():
            processes.build()
            network.enter("bench.fleet", sys.argv[1:])
        network.set_up(processes.api_address())
    except ClusterError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return _measure_all(arguments)


def _measure_all(arguments: argparse.Namespace) -> int:
    # What was started is ended, whoever asks the bench to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    began, load, found = time.monotonic(), [os.getloadavg()[0]], Found(real=known(arguments.output))

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:4.0f} s[/] {escape(text)}")

    def keep() -> None:
        _write(found, arguments, [load[0], os.getloadavg()[0]])

    options = Options(
        arguments.rest_seconds, arguments.events, arguments.holes, arguments.rollouts, arguments.look_seconds
    )
    for size in sorted(set(arguments.sizes)):
        one = Measured(size)
        found.sizes.append(one)
        with _part(str(size), found, arguments.keep, say) as folder:
            asyncio.run(measure(one, folder, options, say, keep))
        keep()
    if arguments.monitored:
        with _part("monitored models", found, arguments.keep, say) as folder:
            found.monitored = asyncio.run(measure_monitored(arguments.monitored, folder, say))
        keep()
    tables.show(grids(found), console)
    console.print(f"{time.monotonic() - began:.0f} s")
    return 1 if found.failed or any(one.failed for one in found.sizes) else 0


@contextmanager
def _part(name: str, found: Found, keep: Path | None, say: Callable[[str], None]) -> Iterator[Path]:
    """An empty folder for a part, whose failure is written down and keeps no other from being measured."""
    with contextlib.ExitStack() as stack:
        if keep is not None:
            folder = keep / name.replace(" ", "-")
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-fleet-")))
        try:
            yield folder
        except* FAULTS as errors:
            found.failed[name] = "; ".join(map(str, _each(errors)))
            say(f"{name}: {found.failed[name]}")


def _each(errors: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description="What the operator costs, with many ModelDeployments."
    )
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[100, 1000], help="ModelDeployments, one run each (100 1000)"
    )
    parser.add_argument("--rest-seconds", type=float, default=60, help="that nothing happens for (60)")
    parser.add_argument("--events", type=int, default=40, help="whose way to a write is timed (40)")
    parser.add_argument("--holes", type=int, default=30, help="namespaces of black holes; 0 for none (30)")
    parser.add_argument(
        "--rollouts",
        type=int,
        default=1000,
        help="the one of the sizes that all get a rollout at once (1000)",
    )
    parser.add_argument(
        "--look-seconds", type=float, default=120, help="that the looks of rollouts are counted for (120)"
    )
    parser.add_argument(
        "--monitored", type=int, default=100, help="models of 30 features to weigh; 0 for none (100)"
    )
    parser.add_argument("--keep", type=Path, help="an empty folder that logs and all other state stay in")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where the figures go, and next to it as .md"
    )
    return parser.parse_args()


def _write(found: Found, arguments: argparse.Namespace, load: Sequence[float]) -> None:
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
    sizes = ", ".join(f"{one.size:,}" for one in found.sizes)
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
