"""What dashboards are made of: boards, panels and queries as plain data, and the shapes that queries have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from slipway.names import Metric

#: Grafana's own, at least four scrapes.
RATE = "$__rate_interval"


class PanelKind(StrEnum):
    """How a panel shows its queries."""

    LINES = "lines"
    NUMBER = "number"
    BARS = "bars"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """An expression, and the name of each of its results."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel; ``width`` in Grafana's 24 columns."""

    title: str
    kind: PanelKind
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    description: str = ""


@dataclass(frozen=True)
class Variable:
    """What the reader chooses from: the values of ``label`` in ``series``."""

    name: str
    label: str
    series: str


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels by their title."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: Mapping[str, tuple[Panel, ...]]


def lines(
    title: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, about: str = ""
) -> Panel:
    """Lines over time, of queries and their legends."""
    return Panel(title, PanelKind.LINES, tuple(Query(*query) for query in queries), unit, width, about)


def number(title: str, expr: str, unit: str = "short", width: int = 4, about: str = "") -> Panel:
    """One number, as it is now."""
    return Panel(title, PanelKind.NUMBER, (Query(expr, ""),), unit, width, about)


def rate(metric: str, labels: str = "") -> str:
    """How fast a counter rises."""
    return f"rate({metric}{{{labels}}}[{RATE}])" if labels else f"rate({metric}[{RATE}])"


def once(metric: str, labels: str = "", by: str = "") -> str:
    """What every replica of the operator says of a ModelDeployment, once."""
    selector = f"{{{labels}}}" if labels else ""
    return f"max by (namespace, name{by}) ({metric}{selector})"


def ratio(bad: str, all_: str, by: str) -> str:
    """A share of a whole."""
    return f"sum by ({by}) ({bad}) / sum by ({by}) ({all_})"


def quantile(share: float, labels: str, by: str) -> str:
    """A quantile of how long requests took, in seconds."""
    buckets = rate(f"{Metric.DURATION}_bucket", labels)
    return f"histogram_quantile({share}, sum by ({by}) ({buckets}))"
