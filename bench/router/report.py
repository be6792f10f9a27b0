"""What was measured, as JSON, as tables, and against its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.router.changes import Changes
from bench.router.latency import DIRECT, RATE, WAYS, Latency, protocols
from bench.router.memory import Memory
from bench.router.neighbours import QUIET_RATE, Neighbour
from bench.server.cases import Protocol
from bench.tables import MET, Grid

#: Share of its core that a router has to take before its neighbours prove anything.
BUSY_ENOUGH = 0.8
_TITLES = {Protocol.JSON: "REST", Protocol.GRPC: "gRPC"}


@dataclass(frozen=True, slots=True)
class Results:
    """All of a run."""

    latency: Latency
    memory: Sequence[Memory]
    neighbours: Sequence[Neighbour]
    changes: Changes


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that has to be at most ``goal``; ``found`` is None where it was not put to the test."""

    what: str
    goal: float
    unit: str
    found: float | None

    @property
    def met(self) -> str:
        return MET[None if self.found is None else self.found <= self.goal]


def targets(results: Results) -> list[Target]:
    """In the order of the table."""
    latency, changes = results.latency, results.changes
    rows = [
        Target(
            f"{_TITLES[protocol]}, {way}, {quantile}", goal, "ms more", latency.added(quantile, protocol, way)
        )
        for protocol in protocols()
        for way in WAYS
        for quantile, goal in (("p50", 0.5), ("p99", 1.5))
    ]
    rows += [
        Target(_memory_title(row), 80 if row.models == 1 else 150, "MB resident", row.rss)
        for row in results.memory
    ]
    rows += [
        Target(f"a quiet model's failed requests, noise: {row.noise}", 0, "requests", _failed(row))
        for row in results.neighbours[1:]
    ]
    rows.append(
        Target("a canary's first traffic, from when DNS names it", 1500, "ms, most", max(changes.arrivals))
    )
    failed = len(changes.neighbours.failures)
    rows.append(Target("failed requests of neighbours while models come and go", 0, "requests", failed))
    return rows


def grids(results: Results) -> Iterator[Grid]:
    """All tables, the targets first."""
    rows = [
        (
            row.what,
            f"≤ {row.goal:g} {row.unit}",
            _figure(row),
            row.met,
        )
        for row in targets(results)
    ]
    yield Grid("targets", ("what", "target", "found", ""), rows)
    for protocol in protocols():
        yield _latency(results.latency, protocol)
    yield Grid(
        "memory of a router",
        ("", "RSS, MB", "PSS, MB"),
        [(_memory_title(row), f"{row.rss:.0f}", f"{row.pss:.0f}") for row in results.memory],
    )
    yield Grid(
        f"a quiet model's client, {QUIET_RATE} requests a second, next to a noisy one",
        ("noise", "noisy requests/s", "router's core busy", "sent", "failed", "p50 ms", "p99 ms", "most ms"),
        [_neighbour(row) for row in results.neighbours],
    )
    yield Grid(
        "from the swap of the files, ms",
        ("", "done, median", "done, most", "read back, median", "read back, most"),
        [_change(results.changes, models) for models in results.changes.done],
    )


def as_json(results: Results) -> Mapping[str, Any]:
    """All single figures, rounded."""
    latency, changes = results.latency, results.changes
    return {
        "latency": {
            protocol: {
                way: {what: _rounded(getattr(latency, what)[protocol][way]) for what in ("p50", "p99", "cpu")}
                for way in (DIRECT, *WAYS)
            }
            for protocol in protocols()
        },
        "latency_failures": latency.failures,
        "memory": [
            {
                "models": row.models,
                "canaries": row.canaries,
                "rss_mb": round(row.rss, 1),
                "pss_mb": round(row.pss, 1),
            }
            for row in results.memory
        ],
        "neighbours": [
            {
                "noise": row.noise,
                "noisy_rate": round(row.rate),
                "busy": round(row.busy, 3),
                "sent": row.account.sent,
                "failures": row.account.failures,
                "p50": round(row.account.p50, 3),
                "p99": round(row.account.p99, 3),
            }
            for row in results.neighbours
        ],
        "changes": {
            "done_ms": {models: _rounded(found) for models, found in changes.done.items()},
            "read_back_ms": {models: _rounded(found) for models, found in changes.read_back.items()},
            "arrivals_ms": _rounded(changes.arrivals),
            "neighbours": {"sent": changes.neighbours.sent, "failures": changes.neighbours.failures},
        },
        "targets": [
            {
                "what": row.what,
                "goal": row.goal,
                "unit": row.unit,
                "found": None if row.found is None else round(row.found, 3),
                "met": row.met,
            }
            for row in targets(results)
        ],
    }


def _latency(latency: Latency, protocol: Protocol) -> Grid:
    rows = []
    for way in (DIRECT, *WAYS):
        figures = [f"{median(found[protocol][way]):.2f}" for found in (latency.p50, latency.p99)]
        more = ["", "", ""]
        if way != DIRECT:
            more = [f"{latency.added(quantile, protocol, way):+.2f}" for quantile in ("p50", "p99")]
            more.append(f"{median(latency.cpu[protocol][way]):.0f}")
        rows.append((way, *figures, *more))
    columns = ("", "p50 ms", "p99 ms", "p50 more", "p99 more", "router's CPU µs")
    return Grid(f"by {_TITLES[protocol]}, {RATE} requests a second", columns, rows)


def _memory_title(row: Memory) -> str:
    models = "1 model" if row.models == 1 else f"{row.models} models"
    return f"{models}, {'each with a canary and copies' if row.canaries else 'no canary'}"


def _failed(row: Neighbour) -> float | None:
    """None where nothing failed, but the router was not busy either: other work had its core."""
    failed = len(row.account.failures)
    return failed if failed or row.busy >= BUSY_ENOUGH else None


def _figure(row: Target) -> str:
    if row.found is None:
        return ""
    return f"{row.found:.2f}" if "ms" in row.unit else f"{row.found:.0f}"


def _neighbour(row: Neighbour) -> tuple[str, ...]:
    account = row.account
    times = (f"{value:.2f}" for value in (account.p50, account.p99, max(account.milliseconds)))
    return (
        row.noise,
        f"{row.rate:,.0f}",
        f"{row.busy:.0%}",
        str(account.sent),
        str(len(account.failures)),
        *times,
    )


def _change(changes: Changes, models: int) -> tuple[str, ...]:
    found = (changes.done[models], changes.read_back[models])
    title = "1 model" if models == 1 else f"{models} models"
    return (title, *(f"{figure(values):.1f}" for values in found for figure in (median, max)))


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
