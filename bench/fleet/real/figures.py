"""Seconds that were measured on the test cluster, and the file that they are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.fleet.goals import REAL, Row
from bench.tables import Grid

#: Of :data:`bench.fleet.goals.REAL`, in its order.
NAMES, GOALS = ("apply to Ready", "moved alias to the canary's first request"), (4.0, 6.0)


@dataclass(frozen=True)
class Round:
    """One measurement: seconds from its begin to its end, and to each phase in between."""

    seconds: float
    phases: Mapping[str, float]


Rounds = Mapping[str, Sequence[Round]]


def beside(output: Path) -> Path:
    """Where the figures of the real cluster are, next to those of the fleet."""
    return output.with_name(f"{output.stem}-real.json")


def known(output: Path) -> list[Row]:
    """The rows of the last measurement on the cluster, whenever that was; none where there was none."""
    try:
        document = json.loads(beside(output).read_text())
    except FileNotFoundError:
        return []
    return list(rows({name: [Round(**one) for one in found] for name, found in document["rounds"].items()}))


def rows(found: Rounds) -> Iterator[Row]:
    """Goal and figure of each, by its median."""
    for name, limit, (what, goal) in zip(NAMES, GOALS, REAL, strict=True):
        seconds = [one.seconds for one in found.get(name, ())]
        if not seconds:
            yield Row.missing(what, goal)
            continue
        middle = median(seconds)
        words = f"{middle:.1f} s, {min(seconds):.1f} to {max(seconds):.1f} s of {len(seconds)}"
        yield Row(what, goal, words, middle <= limit)


def grids(found: Rounds) -> Iterator[Grid]:
    """Where the time goes: when each phase was seen, and how long after the one before."""
    for name, rounds in found.items():
        phases = {
            phase: median([one.phases[phase] for one in rounds if phase in one.phases])
            for phase in {phase for one in rounds for phase in one.phases}
        }
        lines, before = [], 0.0
        for phase, at in sorted(phases.items(), key=lambda one: one[1]):
            seen = [one.phases[phase] for one in rounds if phase in one.phases]
            lines.append((phase, f"{at:.2f}", f"{at - before:+.2f}", f"{min(seen):.2f}", f"{max(seen):.2f}"))
            before = at
        title = f"{name}: seconds until each phase, median of {len(rounds)}"
        yield Grid(title, ("phase", "seen at", "after the one before", "least", "most"), lines)
