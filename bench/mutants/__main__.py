"""How many small faults in the command line and in the core their tests find.

``make mutants`` puts faults into ``operator/slipway/cli`` and ``operator/slipway/core``, one at a time and
by chance, and runs the tests of the module until one fails. It prints each fault with the test that found it,
and the share that was found with its 95% interval, and writes ``bench/results/mutants.md``. After SIGTERM
it tells what it has found. What found a fault is kept in ``.mutants_cache``, and asked first the next time.

Tests that start the command as a program of its own run the code as it is, and find nothing. Some faults
change nothing that can be seen, such as the order of what is sorted later: no suite finds all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from bench.machine import machine
from bench.mutants.faults import Mutant, mutants
from bench.mutants.forked import OPERATOR, ROOT
from bench.mutants.trials import MOST_SECONDS, BrokenTestsError, found_by, function_of, prepare, warm
from bench.mutants.tried_by import LEFT_OUT, files_for, modules

PACKAGES = ("cli", "core")
KEPT = ROOT / ".mutants_cache"
PAGE = ROOT / "bench/results/mutants.md"
#: The share that is to be found.
TARGET = 0.85


@dataclass
class Tally:
    """Faults of one package that were tried."""

    package: str
    total: int
    tried: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def found(self) -> int:
        """How many a test found."""
        return self.tried - len(self.survivors)

    def note(self, mutant: Mutant, found: str) -> None:
        """One more that was tried."""
        self.tried += 1
        if not found:
            self.survivors.append(mutant)

    def row(self) -> tuple[str, ...]:
        """As the page shows it."""
        low, high = _interval(self.found, self.tried)
        verdict = "met" if low >= TARGET else "not met" if high < TARGET else "open"
        share = f"{self.found / self.tried:.0%}"
        return (
            f"`{self.package}`", str(self.total), str(self.tried), str(self.found),
            share, f"{low:.0%}–{high:.0%}", verdict,
        )  # fmt: skip


def _interval(found: int, tried: int) -> tuple[float, float]:
    """Wilson's, 95%. The core has it too, which must not be imported before a fault is in it."""
    z, share = 1.959964, found / tried
    middle = share + z * z / (2 * tried)
    half = z * ((share * (1 - share) + z * z / (4 * tried)) / tried) ** 0.5
    below = 1 + z * z / tried
    return (middle - half) / below, (middle + half) / below


def told(mutant: Mutant) -> str:
    """Where a fault is, and what."""
    fault = " ".join(mutant.fault.split())
    shown = fault if len(fault) <= 120 else f"{fault[:119]}…"
    return f"{mutant.path.relative_to(OPERATOR / 'slipway')}:{mutant.line} {shown}"


def page(tallies: list[Tally], how: str) -> str:
    """The results as Markdown."""
    made = f"Python {machine()['python']}, {datetime.now(UTC).date()}; {how}"
    left_out = ", ".join(f"`{one}`" for one in LEFT_OUT)
    lines = [
        f"<!-- Written by make mutants. --> {made}",
        "",
        "# Faults that tests find",
        "",
        "Small faults are put into a module, one at a time and by chance: a comparison turned, a condition",
        "that is always true, a text emptied, a number one larger, a return or a call left out. The tests",
        f"of the module are run until one fails, {MOST_SECONDS} seconds of CPU at most. An interval",
        f"of 95% above {TARGET:.0%} meets the target, one below does not, and one around it leaves it open.",
        "Not all faults can be found: some change nothing that can be seen.",
        "",
        f"Not tried, for their tests start servers or need other environments: {left_out}.",
        "",
        "| Package | Faults there are | Tried | Found | Share | Interval | Target |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(f"| {' | '.join(tally.row())} |" for tally in tallies),
    ]
    survivors = sorted(told(one) for tally in tallies for one in tally.survivors)
    if survivors:
        lines += ["", "## Not found", "", *(f"    {one}" for one in survivors)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Try faults; gives 1 where a share is certainly below the target."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--package", action="append", choices=PACKAGES, help="of these alone")
    parser.add_argument("--module", action="append", metavar="NAME", help="of these alone, such as status.py")
    parser.add_argument(
        "--sample", type=int, default=60, help="faults of each package, 0 for all (default: 60)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of chance (default: 1)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long (default: 60)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="faults tried at once, and as many that show on import (default: 1)",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    prepare()
    began, load = time.monotonic(), os.getloadavg()[2]
    drawn = {package: _drawn(package, arguments) for package in arguments.package or PACKAGES}
    tallies = {package: Tally(package, total) for package, (total, _) in drawn.items()}
    # In turns, so that what is stopped early has as many of each.
    faults = [
        mutant
        for round_ in zip_longest(*(sample for _, sample in drawn.values()))
        for mutant in round_
        if mutant
    ]
    try:
        for mutant, found in _tried(faults, arguments.workers, began + 60 * arguments.minutes):
            tallies[_package(mutant)].note(mutant, found)
            print(f"{'found' if found else 'NOT FOUND'}: {told(mutant)}", file=sys.stderr)
            print(f"    by {found}" if found else "", file=sys.stderr, flush=True)
    except _StoppedError:
        print("stopped", file=sys.stderr)
    except BrokenTestsError as error:
        raise SystemExit(str(error)) from error
    shown = [tally for tally in tallies.values() if tally.tried]
    if not arguments.module and not arguments.package and shown:
        minutes = (time.monotonic() - began) / 60
        how = (
            f"faults drawn by seed {arguments.seed}, {arguments.workers} at once, in {minutes:.0f} minutes; "
            f"load {load:.1f} before and {os.getloadavg()[2]:.1f} after, on {os.cpu_count()} cores"
        )
        PAGE.write_text(page(shown, how))
    for tally in shown:
        _, _, tried, found, share, interval, verdict = tally.row()
        print(f"{tally.package}: {found} of {tried} found, {share} ({interval}), of {tally.total}: {verdict}")
    return 1 if any(tally.row()[-1] == "not met" for tally in shown) else 0


class _StoppedError(Exception):
    """By SIGTERM."""


def _stop(*_: Any) -> None:
    raise _StoppedError


def _package(mutant: Mutant) -> str:
    return mutant.path.relative_to(OPERATOR / "slipway").parts[0]


def _tried(faults: list[Mutant], workers: int, end: float) -> Iterator[tuple[Mutant, str]]:
    """Each fault with the test that found it, in the order in which they were drawn, until the end."""
    fork = multiprocessing.get_context("fork")
    with fork.Pool(workers, _work) as cold:
        warm(sorted({file for one in faults for file in files_for(one.path)}))
        with fork.Pool(workers, _work) as warmed:
            answers = [
                (warmed if function_of(mutant) else cold).apply_async(_try, (mutant,)) for mutant in faults
            ]
            # In this order: were the quick ones taken first, the share would be of what is found quickly.
            for mutant, answer in zip(faults, answers, strict=True):
                try:
                    found = answer.get(max(0.1, end - time.monotonic()))
                    if not found and function_of(mutant):
                        # What files of tests make while they are imported was made without the fault.
                        found = cold.apply_async(_try, (mutant,)).get(max(0.1, end - time.monotonic()))
                except multiprocessing.TimeoutError:
                    return
                yield mutant, found


def _work() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _try(mutant: Mutant) -> str:
    source = sha256(mutant.path.read_bytes()).hexdigest()[:20]
    kept = KEPT / f"{source}-{mutant.node}-{mutant.choice}"
    before = kept.read_text() if kept.is_file() else ""
    is_there = (ROOT / before.partition("::")[0]).is_file()
    found = found_by(mutant, files_for(mutant.path), before if is_there else "")
    KEPT.mkdir(exist_ok=True)
    kept.write_text(found)
    return found


def _drawn(package: str, arguments: argparse.Namespace) -> tuple[int, list[Mutant]]:
    """How many faults there are, and those to try."""
    paths = [one for one in modules(package) if not arguments.module or one.name in arguments.module]
    all_ = [mutant for path in paths for mutant in mutants(path)]
    return len(all_), random.Random(arguments.seed).sample(
        all_, min(arguments.sample or len(all_), len(all_))
    )


if __name__ == "__main__":
    raise SystemExit(main())
