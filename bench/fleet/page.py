"""The issue's table: goal, measured, met or not; and the figures behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.fleet.measure import Measured
from bench.tables import MET, Grid

MIB = 2**20
#: A median of others' events next to black holes may differ by so much: a factor, and seconds.
NOISE, LEAST_NOISE = 1.3, 0.02
_ELSEWHERE = "not measured here"


@dataclass(frozen=True)
class Row:
    """A figure and its goal; ``met`` is None where there is no figure."""

    what: str
    goal: str
    found: str
    met: bool | None

    @classmethod
    def elsewhere(cls, what: str, goal: str) -> Row:
        """Of something that takes a real cluster, or more than this bench does."""
        return cls(what, goal, _ELSEWHERE, None)


def rows(found: Sequence[Measured]) -> Iterator[Row]:
    """In the order of the issue; of ``found`` the smallest first."""
    each = {one.size: one.creation.cpu / one.size * 1000 for one in found}
    for size, cpu in each.items():
        yield Row(f"CPU for one from nothing to Ready, at {size:,}", "≤ 30 ms", f"{cpu:.1f} ms", cpu <= 30)
    if len(each) > 1:
        ratio = max(each.values()) / min(each.values())
        yield Row("the same, most to least", "≤ 1.3×", f"{ratio:.2f}×", ratio <= 1.3)
    for one in found:
        writes, reads = (each.total() / one.size for each in (one.creation.writes, one.creation.reads))
        yield Row(f"writes for one, at {one.size:,}", "≤ 9", f"{writes:.1f}", writes <= 9)
        yield Row(f"reads for one, at {one.size:,}", "≤ 1", f"{reads:.1f}", reads <= 1)
    for one in found:
        if one.size == 1000:
            seconds = one.creation.seconds
            yield Row("1,000 created, on two quiet cores", "≤ 35 s", f"{seconds:.0f} s", seconds <= 35)
    for one in found:
        yield from _restart(one)
    for one in found:
        yield from _memory(one)
    yield Row.elsewhere("memory that a monitored model of 30 features adds", "≤ 50 kB")
    for one in found:
        for phase, answers in (("creation", one.creation.answers), ("a restart", one.restart.answers)):
            p99, most = answers.quantile(0.99) * 1000, answers.quantile(1.0) * 1000
            yield Row(
                f"`/healthz` during {phase}, at {one.size:,}: p99, most",
                "≤ 50 ms, ≤ 250 ms",
                f"{p99:.0f} ms, {most:.0f} ms",
                p99 <= 50 and most <= 250,
            )
    for one in found:
        rest = one.rest
        share, wrote = rest.share * 100, rest.writes.total()
        yield Row(f"at rest with {one.size:,}: share of a core", "≤ 2 %", f"{share:.1f} %", share <= 2)
        yield Row(f"at rest with {one.size:,}: writes", "0", f"{wrote}", wrote == 0)
        milliseconds = rest.metrics_ms
        yield Row(
            f"at rest with {one.size:,}: `/metrics`", "≤ 50 ms", f"{milliseconds:.0f} ms", milliseconds <= 50
        )
    for one in found:
        yield from _holes(one)
    yield Row.elsewhere("`kubectl apply` to Ready, on the real cluster", "≤ 4 s")
    yield Row.elsewhere("moved alias to the canary's first request, on the real cluster", "≤ 6 s")
    yield Row.elsewhere("1,000 rollouts at once, evaluated every 30 s", "keeps up; ≤ 1 MB/s into etcd")


def grids(found: Sequence[Measured]) -> Iterator[Grid]:
    """All tables, the goals first."""
    yield Grid(
        "goals",
        ("what", "goal", "measured", ""),
        [(row.what, row.goal, row.found, MET[row.met]) for row in rows(found)],
    )
    yield Grid(
        "from nothing to Ready",
        ("ModelDeployments", "seconds", "operator's CPU s", "CPU ms each", "writes each", "reads each"),
        [
            (
                f"{one.size:,}",
                f"{one.creation.seconds:.1f}",
                f"{one.creation.cpu:.1f}",
                f"{one.creation.cpu / one.size * 1000:.1f}",
                f"{one.creation.writes.total() / one.size:.2f}",
                f"{one.creation.reads.total() / one.size:.2f}",
            )
            for one in found
        ],
    )
    for one in found:
        yield _kinds(
            f"requests for each of {one.size:,} created", one.creation.writes + one.creation.reads, one
        )
    yield Grid(
        "from a Service's deletion to the write that makes it again, ms",
        ("ModelDeployments", "events", "median", "p90", "most", "median next to black holes", "p90", "most"),
        [
            (
                f"{one.size:,}",
                str(len(one.reactions)),
                *_milliseconds(one.reactions),
                *(_milliseconds(one.holes.reactions) if one.holes else ("", "", "")),
            )
            for one in found
        ],
    )


def as_json(found: Sequence[Measured]) -> Mapping[str, Any]:
    """All figures, rounded."""
    return {
        "measured": [_as_json(one) for one in found],
        "goals": [
            {"what": row.what, "goal": row.goal, "found": row.found, "met": MET[row.met]}
            for row in rows(found)
        ],
    }


def _restart(one: Measured) -> Iterator[Row]:
    restart, goal = one.restart, 60 if one.size > 1000 else 10
    title = f"a restart with {one.size:,} and nothing changed"
    yield Row(f"{title}: writes", "0", str(restart.writes.total()), not restart.writes)
    yield Row(
        f"{title}: from its start to a new event's first write",
        f"≤ {goal} s",
        f"{restart.acted_seconds:.1f} s",
        restart.acted_seconds <= goal,
    )


def _memory(one: Measured) -> Iterator[Row]:
    goal = 400 if one.size > 1000 else 150
    tops = max(one.creation.after.top, one.restart.after.top)
    held = {
        "after creation": one.creation.after.rss,
        "after a restart": one.restart.after.rss,
        "at its top": tops,
    }
    for when, size in held.items():
        yield Row(
            f"memory with {one.size:,}, {when}", f"≤ {goal} MiB", f"{size / MIB:.0f} MiB", size <= goal * MIB
        )


def _holes(one: Measured) -> Iterator[Row]:
    holes = one.holes
    if holes is None:
        return
    without, with_them = (
        [_quantile(each, share) for share in (0.5, 0.9)] for each in (one.reactions, holes.reactions)
    )
    unchanged = all(
        there <= max(NOISE * here, here + LEAST_NOISE) for here, there in zip(without, with_them, strict=True)
    )
    words = (
        f"{with_them[0] * 1000:.0f} and {with_them[1] * 1000:.0f} ms, "
        f"{without[0] * 1000:.0f} and {without[1] * 1000:.0f} ms without"
    )
    yield Row(
        f"{holes.namespaces} namespaces of black holes next to {one.size:,}: others' event to write, "
        "median and p90",
        "unchanged within noise",
        words,
        unchanged,
    )


def _kinds(title: str, counts: Counter[str], one: Measured) -> Grid:
    found = [
        (what, f"{count / one.size:.2f}") for what, count in counts.most_common() if count > one.size / 100
    ]
    return Grid(title, ("request", "each"), found)


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str, str]:
    return tuple(f"{value * 1000:.0f}" for value in (median(seconds), _quantile(seconds, 0.9), max(seconds)))  # type: ignore[return-value]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _as_json(one: Measured) -> Mapping[str, Any]:
    creation, restart, holes = one.creation, one.restart, one.holes
    return {
        "size": one.size,
        "creation": {
            "seconds": round(creation.seconds, 2),
            "cpu_seconds": round(creation.cpu, 2),
            "writes": dict(creation.writes),
            "reads": dict(creation.reads),
            "rss": creation.after.rss,
            "top": creation.after.top,
            "healthz_ms": _rounded(creation.answers.seconds),
        },
        "rest": {
            "share": round(one.rest.share, 4),
            "writes": dict(one.rest.writes),
            "metrics_ms": round(one.rest.metrics_ms, 1),
        },
        "reactions_ms": _rounded(one.reactions),
        "restart": {
            "acted_seconds": round(restart.acted_seconds, 2),
            "writes": dict(restart.writes),
            "cpu_seconds": round(restart.cpu, 2),
            "rss": restart.after.rss,
            "top": restart.after.top,
            "healthz_ms": _rounded(restart.answers.seconds),
        },
        "holes": None
        if holes is None
        else {
            "namespaces": holes.namespaces,
            "rollouts": holes.rollouts,
            "share": round(holes.share, 4),
            "reactions_ms": _rounded(holes.reactions),
        },
    }


def _rounded(seconds: Sequence[float]) -> list[float]:
    """Median, p90, p99 and most, in milliseconds."""
    shares = (0.5, 0.9, 0.99, 1.0)
    return [round(_quantile(seconds, share) * 1000, 1) for share in shares] if seconds else []
