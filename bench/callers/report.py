"""What was measured, as JSON, as tables, and against its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.callers.measure import GREEDY_RATE, MODEST_RATE, Way
from bench.callers.refusals import ANSWER, REFUSALS, Costs
from bench.callers.stage import LIMIT
from bench.server.cases import Protocol
from bench.tables import MET, Grid

MOST_RATIO = 1.10
#: Share of its rate that the greedy caller has to ask at before the modest one's times prove anything.
_ENOUGH = 0.8
_TITLES = {Protocol.JSON: "REST", Protocol.GRPC: "gRPC"}


@dataclass(frozen=True, slots=True)
class Results:
    """All of a run; ``is_quiet`` where nothing else had the cores, so that times mean something."""

    is_quiet: bool
    ways: Mapping[str, Way]
    costs: Costs


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and whether it is what it has to be; ``is_met`` is None where that cannot be told."""

    what: str
    goal: str
    found: float
    is_met: bool | None
    form: str = "{:.2f}"

    @property
    def row(self) -> tuple[str, ...]:
        return (self.what, self.goal, self.form.format(self.found), MET[self.is_met])


def targets(results: Results) -> Iterator[Target]:
    """In the order of the table."""
    for name, way in results.ways.items():
        yield Target(
            f"{name}: the modest caller's p99 next to the greedy one, by p99 alone",
            f"≤ {MOST_RATIO:.2f}",
            way.ratio,
            way.ratio <= MOST_RATIO if _is_proof(results, way) else None,
        )
        answered = way.answered(beside=True)
        yield Target(
            f"{name}: its requests that are answered",
            "100 %",
            answered,
            answered == 1 if _is_proof(results, way) else None,
            "{:.2%}",
        )
    for protocol, costs in results.costs.items():
        for what in REFUSALS:
            ratio = median(costs[what]) / median(costs[ANSWER])
            title = f"{_TITLES[protocol]}: CPU of a {what}, by that of an answer"
            yield Target(title, "< 1", ratio, ratio < 1)


def grids(results: Results) -> Iterator[Grid]:
    """All tables, the targets first."""
    yield Grid("targets", ("what", "target", "found", ""), [each.row for each in targets(results)])
    columns = (
        "",
        "p50 ms alone",
        "next to it",
        "p99 ms alone",
        "next to it",
        "server's core busy, alone",
        "next to it",
    )
    yield Grid(
        f"a caller that asks {MODEST_RATE} times a second, of {LIMIT} that it may",
        columns,
        [(name, *_modest(way)) for name, way in results.ways.items()],
    )
    yield Grid(
        f"next to it, one that asks {GREEDY_RATE:,} times a second",
        ("", "answered/s", "refused/s (429)"),
        [
            (name, *(f"{median(values):,.0f}" for values in _greedy(way).values()))
            for name, way in results.ways.items()
        ],
    )
    yield Grid(
        "CPU of the server, µs a request, closed loops of 8 clients",
        ("", ANSWER, *REFUSALS),
        [
            (_TITLES[protocol], *(f"{median(costs[what]):.0f}" for what in (ANSWER, *REFUSALS)))
            for protocol, costs in results.costs.items()
        ],
    )


def as_json(results: Results) -> Mapping[str, Any]:
    """All figures of all rounds, rounded."""
    return {
        "ways": {
            name: {
                "ratio_p99": round(way.ratio, 3),
                **{
                    which: {
                        "p50": _rounded([each.p50 for each in accounts]),
                        "p99": _rounded([each.p99 for each in accounts]),
                        "sent": sum(each.sent for each in accounts),
                        "failures": [why for each in accounts for why in each.failures][:20],
                        "busy": _rounded(way.busy[which == "beside"]),
                    }
                    for which, accounts in (("alone", way.alone), ("beside", way.beside))
                },
                "greedy": {
                    **{what: _rounded(values) for what, values in _greedy(way).items()},
                    "others": sorted({why for each in way.greedy for why in each.others})[:20],
                },
            }
            for name, way in results.ways.items()
        },
        "cpu_us": {
            protocol: {what: _rounded(values) for what, values in costs.items()}
            for protocol, costs in results.costs.items()
        },
        "targets": [
            {"what": each.what, "goal": each.goal, "found": round(each.found, 3), "met": MET[each.is_met]}
            for each in targets(results)
        ],
    }


def _is_proof(results: Results, way: Way) -> bool:
    asked = median(each.answered + each.refused for each in way.greedy)
    return results.is_quiet and asked >= _ENOUGH * GREEDY_RATE


def _modest(way: Way) -> tuple[str, ...]:
    times = [f"{way.quantile(share, beside=beside):.2f}" for share in (50, 99) for beside in (False, True)]
    return (*times, *(f"{median(way.busy[beside]):.0%}" for beside in (False, True)))


def _greedy(way: Way) -> Mapping[str, list[float]]:
    return {
        "answered": [each.answered for each in way.greedy],
        "refused": [each.refused for each in way.greedy],
    }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]
