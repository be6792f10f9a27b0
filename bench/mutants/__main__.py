"""How many small faults in the command line and in the core their tests find.

``make mutants`` puts faults into ``operator/slipway/cli`` and ``operator/slipway/core``, one at a time and
by chance, and runs the tests of the module until one fails. It prints each fault that no test found and the
share that was found with its 95% interval, and writes ``bench/results/mutants.md``.

Tests that start the command as a program of its own run the code as it is, and find nothing. Some faults
change nothing that can be seen, such as the order of what is sorted later: no suite finds all.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest

from bench.machine import machine
from bench.mutants.faults import Mutant, mutants
from bench.mutants.trials import OPERATOR, ROOT, BrokenTestsError, is_found, prepare
from bench.mutants.tried_by import files_for, modules

PACKAGES = ("cli", "core")
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


def page(tallies: list[Tally], seed: int) -> str:
    """The results as Markdown."""
    made = f"Python {machine()['python']}, {datetime.now(UTC).date()}; faults drawn by seed {seed}"
    lines = [
        f"<!-- Written by make mutants. --> {made}",
        "",
        "# Faults that tests find",
        "",
        "Small faults are put into a module, one at a time and by chance: a comparison turned, a condition",
        "that is always true, a text emptied, a number one larger, a return or a call left out. The tests of",
        "the module are run until one fails. An interval of 95% above "
        f"{TARGET:.0%} meets the target, one below does",
        "not, and one around it leaves it open. Not all faults can be found: some change nothing that can be",
        "seen.",
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
    arguments = parser.parse_args()
    prepare()
    end = time.monotonic() + 60 * arguments.minutes
    drawn = {package: _drawn(package, arguments) for package in arguments.package or PACKAGES}
    tallies = [Tally(package, total) for package, (total, _) in drawn.items()]
    # In turns, so that what is stopped early has as many of each.
    for round_ in zip_longest(*(sample for _, sample in drawn.values())):
        for tally, mutant in zip(tallies, round_, strict=True):
            if mutant is not None and time.monotonic() < end:
                _try(mutant, tally)
    tallies = [tally for tally in tallies if tally.tried]
    if not arguments.module and not arguments.package and tallies:
        PAGE.write_text(page(tallies, arguments.seed))
    for tally in tallies:
        _, _, tried, found, share, interval, verdict = tally.row()
        print(f"{tally.package}: {found} of {tried} found, {share} ({interval}), of {tally.total}: {verdict}")
    return 1 if any(tally.row()[-1] == "not met" for tally in tallies) else 0


def _drawn(package: str, arguments: argparse.Namespace) -> tuple[int, list[Mutant]]:
    """How many faults there are, and those to try."""
    paths = [one for one in modules(package) if not arguments.module or one.name in arguments.module]
    all_ = [mutant for path in paths for mutant in mutants(path)]
    return len(all_), random.Random(arguments.seed).sample(
        all_, min(arguments.sample or len(all_), len(all_))
    )


def _try(mutant: Mutant, tally: Tally) -> None:
    try:
        found = is_found(mutant, files_for(mutant.path))
    except BrokenTestsError as error:
        raise SystemExit(str(error)) from error
    tally.tried += 1
    if not found:
        tally.survivors.append(mutant)
    print(f"{'found' if found else 'NOT FOUND'}: {told(mutant)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
