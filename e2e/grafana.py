"""The chart's dashboards, read as Grafana reads them: variables chosen and filled in, queries run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from e2e.helm import CHART
from e2e.prometheus import Prometheus, Series

#: Grafana's `$__rate_interval` is at least as long.
SCRAPES_IN_A_RATE = 4


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    number: int
    """Of the panel within its board, from 0."""
    panel: str
    kind: str
    """Grafana's type of the panel."""
    unit: str
    legend: str
    expr: str
    instant: bool

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from other queries: board, panel, and the name of its results."""
        return self.board, self.panel, self.legend


@dataclass(frozen=True)
class Shown:
    """A query as it was run, and its results that are numbers."""

    target: Target
    series: tuple[Series, ...]


def dashboards() -> dict[str, dict[str, Any]]:
    """The chart's dashboards by title."""
    found = [json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))]
    return {board["title"]: board for board in found}


def look(
    prometheus: Prometheus,
    board: Mapping[str, Any],
    wanted: Mapping[str, str],
    scrape_seconds: float,
    start: float,
    end: float,
) -> list[Shown]:
    """Open a dashboard for a time range and choose what is wanted of its variables.

    Raises:
        LookupError: for a variable whose values do not have what is wanted.
    """
    chosen = choose(prometheus, board, wanted)
    chosen["__rate_interval"] = f"{math.ceil(SCRAPES_IN_A_RATE * scrape_seconds)}s"
    shown = []
    for target in targets(board):
        filled = replace(target, panel=fill(target.panel, chosen), expr=fill(target.expr, chosen))
        found = (
            prometheus.query(filled.expr)
            if target.instant
            else prometheus.query_range(filled.expr, start, end)
        )
        shown.append(Shown(filled, tuple(filter(None, map(_numbers, found)))))
    return shown


def choose(prometheus: Prometheus, board: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, str]:
    """One value of each of a dashboard's variables, from those that Prometheus has for it."""
    chosen: dict[str, str] = {}
    for variable in board["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        if asked is None:
            raise LookupError(f"{board['title']}: {variable['query']} is no query of label values")
        there = prometheus.values(asked[2], fill(asked[1], chosen))
        value = wanted.get(variable["name"])
        if value not in there:
            raise LookupError(f"{board['title']}: {variable['name']} {value} is none of {there}")
        chosen[variable["name"]] = str(value)
    return chosen


def targets(board: Mapping[str, Any]) -> Iterator[Target]:
    """Every query of a dashboard, with its variables as they stand there."""
    for number, panel in enumerate(board["panels"]):
        for target in panel.get("targets", ()):
            yield Target(
                board["title"],
                number,
                panel["title"],
                panel["type"],
                panel["fieldConfig"]["defaults"]["unit"],
                target.get("legendFormat", ""),
                target["expr"],
                bool(target.get("instant")),
            )


def fill(text: str, values: Mapping[str, str]) -> str:
    """A text with its variables filled in; KeyError for one that nobody defines."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: values[found[1] or found[2]], text)


def legend(target: Target, labels: Mapping[str, str]) -> str:
    """What a result is called; an empty legend is all its labels."""
    if not target.legend:
        return ", ".join(f"{name} {value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target.legend).strip()


def _numbers(series: Series) -> Series | None:
    """What can be drawn of it."""
    points = tuple(point for point in series.points if math.isfinite(point[1]))
    return replace(series, points=points) if points else None
