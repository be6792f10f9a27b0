"""The tables of what was measured, and all of it as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from bench.fleet.goals import Found, quantile, rows
from bench.fleet.measure import Creation, Measured
from bench.tables import MET, Grid


def grids(found: Found) -> Iterator[Grid]:
    """All tables, the goals first."""
    yield Grid(
        "goals",
        ("what", "goal", "measured", ""),
        [(row.what, row.goal, row.found, MET[row.met]) for row in rows(found)],
    )
    made = [(one.size, one.creation) for one in found.sizes if one.creation is not None]
    yield Grid(
        "from nothing to Ready",
        (
            "ModelDeployments",
            "seconds",
            "operator's CPU s",
            "CPU ms each",
            "writes each",
            "reads each",
            "MiB before any",
            "kB each",
        ),
        [
            (
                f"{size:,}",
                f"{creation.seconds:.1f}",
                f"{creation.cpu:.1f}",
                f"{creation.cpu / size * 1000:.1f}",
                f"{creation.writes.total() / size:.2f}",
                f"{creation.reads.total() / size:.2f}",
                f"{creation.before.rss / 2**20:.0f}",
                f"{(creation.after.rss - creation.before.rss) / size / 1000:.0f}",
            )
            for size, creation in made
        ],
    )
    yield from _limits(made)
    for size, creation in made:
        title = f"requests for each of {size:,} created"
        yield _kinds(title, creation.writes + creation.reads, size)
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
            for one in found.sizes
            if one.reactions
        ],
    )
    for one in found.sizes:
        yield from _rollouts(one)
    yield Grid(
        "seconds of each part",
        ("part", *(f"{one.size:,}" for one in found.sizes)),
        [
            (name, *(f"{one.took.get(name, 0):.0f}" for one in found.sizes))
            for name in dict.fromkeys(name for one in found.sizes for name in one.took)
        ],
    )


def as_json(found: Found) -> Mapping[str, Any]:
    """All figures, rounded."""
    return {
        "measured": [_as_json(one) for one in found.sizes],
        "monitored": None if found.monitored is None else asdict(found.monitored),
        "failed": found.failed,
        "goals": [
            {"what": row.what, "goal": row.goal, "found": row.found, "met": MET[row.met]}
            for row in rows(found)
        ],
    }


def _limits(made: Sequence[tuple[int, Creation]]) -> Iterator[Grid]:
    """Who used the cores while all were created: two of them have no more than two seconds a second."""
    if not made:
        return
    names = list(made[-1][1].others)
    yield Grid(
        "seconds of CPU while they were created, for each of the clock's",
        ("ModelDeployments", "operator", *names, "all"),
        [
            (f"{size:,}", *(f"{used / creation.seconds:.2f}" for used in (*shares, sum(shares))))
            for size, creation in made
            for shares in ((creation.cpu, *(creation.others[name] for name in names)),)
        ],
    )


def _rollouts(one: Measured) -> Iterator[Grid]:
    found = one.rollouts
    if found is None:
        return
    yield Grid(
        f"a rollout of each of {one.size:,}, watched for {found.seconds:.0f} s",
        ("what", "measured"),
        [
            (f"until {found.started:,} were looked at", f"{found.started_seconds:.0f} s"),
            ("the operator's CPU for one until then", f"{found.started_cpu / one.size * 1000:.0f} ms"),
            ("looks a second", f"{found.looks / found.seconds:.1f}"),
            ("rollouts that ended meanwhile", f"{found.lost[0]} {found.lost[1]}".strip()),
            ("longest time between two evaluations of one", f"{found.gaps[-1]:.0f} s"),
            ("the operator's share of a core", f"{found.share * 100:.0f} %"),
            (
                "its CPU for one evaluation",
                f"{found.share * found.seconds / max(1, found.looks) * 1000:.0f} ms",
            ),
            ("its writes for one evaluation", f"{found.writes.total() / max(1, found.looks):.2f}"),
            (
                "its memory",
                f"{found.after.rss / 2**20:.0f} MiB, {found.after.top / 2**20:.0f} MiB at its top",
            ),
        ],
    )


def _kinds(title: str, counts: Counter[str], size: int) -> Grid:
    found = [(what, f"{count / size:.2f}") for what, count in counts.most_common() if count > size / 100]
    return Grid(title, ("request", "each"), found)


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str, str]:
    return tuple(f"{value * 1000:.0f}" for value in (median(seconds), quantile(seconds, 0.9), max(seconds)))  # type: ignore[return-value]


def _as_json(one: Measured) -> Mapping[str, Any]:
    creation, restart, holes, rollouts = one.creation, one.restart, one.holes, one.rollouts
    return {
        "size": one.size,
        "creation": creation
        and {
            "seconds": round(creation.seconds, 2),
            "cpu_seconds": round(creation.cpu, 2),
            "others_cpu_seconds": {name: round(cpu, 2) for name, cpu in creation.others.items()},
            "writes": dict(creation.writes),
            "reads": dict(creation.reads),
            "rss_before": creation.before.rss,
            "rss": creation.after.rss,
            "top": creation.after.top,
            "healthz_ms": _rounded(creation.answers.seconds),
        },
        "rest": one.rest
        and {
            "share": round(one.rest.share, 4),
            "writes": dict(one.rest.writes),
            "metrics_ms": round(one.rest.metrics_ms, 1),
        },
        "reactions_ms": _rounded(one.reactions),
        "restart": restart
        and {
            "acted_seconds": round(restart.acted_seconds, 2),
            "writes": dict(restart.writes),
            "cpu_seconds": round(restart.cpu, 2),
            "rss": restart.after.rss,
            "top": restart.after.top,
            "healthz_ms": _rounded(restart.answers.seconds),
        },
        "holes": holes
        and {
            "namespaces": holes.namespaces,
            "rollouts": holes.rollouts,
            "share": round(holes.share, 4),
            "reactions_ms": _rounded(holes.reactions),
        },
        "rollouts": rollouts
        and {
            "started": rollouts.started,
            "started_seconds": round(rollouts.started_seconds, 1),
            "started_cpu_seconds": round(rollouts.started_cpu, 2),
            "seconds": round(rollouts.seconds, 1),
            "looks": rollouts.looks,
            "lost": rollouts.lost,
            "gaps_seconds": [round(quantile(rollouts.gaps, share), 1) for share in (0.5, 0.9, 0.99, 1.0)],
            "writes": dict(rollouts.writes),
            "bytes_per_second": {name: round(value) for name, value in rollouts.bytes_per_second.items()},
            "share": round(rollouts.share, 4),
            "rss": rollouts.after.rss,
            "healthz_ms": _rounded(rollouts.answers.seconds),
        },
        "failed": one.failed,
        "took_seconds": one.took,
    }


def _rounded(seconds: Sequence[float]) -> list[float]:
    """Median, p90, p99 and most, in milliseconds."""
    shares = (0.5, 0.9, 0.99, 1.0)
    return [round(quantile(seconds, share) * 1000, 1) for share in shares] if seconds else []
