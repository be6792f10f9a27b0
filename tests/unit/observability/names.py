"""Which metrics an expression reads, and which there are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from slipway.engine.controller.upgrades import UpgradeCollector, Upgrades
from slipway.engine.installed_crd import InstalledCrd
from slipway.engine.metrics.audits import AuditCollector
from slipway.engine.metrics.controller import (
    InstalledCollector,
    Metrics,
    ModelDeploymentCollector,
    RolloutCollector,
    UnseenCollector,
)
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.metrics.observers import ObserverCollector
from slipway.engine.observers.monitoring import Judge
from slipway.engine.store import Store
from slipway.names import Metric
from slipway.observability.rule import Record
from slipway.observability.rules import groups

_WORDS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"})
_OPERATORS = frozenset({"and", "or", "unless", "inf", "nan"})


def metrics_in(expression: str) -> set[str]:
    """Names that stand where a metric does: not within quotes or braces, not of functions or labels."""
    plain = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", plain)
    lists = r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    plain = re.sub(lists, " ", plain)
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", plain)
    return {name for name in names if name.lower() not in _WORDS | _OPERATORS}


async def _no_schema() -> dict[str, Any]:
    return {}


async def _no_pod(_: str) -> None:
    """There is none to be read."""


def operator_metrics() -> set[str]:
    """What the operator's collectors export; of counters and histograms the series."""
    registry, store = CollectorRegistry(), Store()
    Metrics(registry)
    found: set[str] = set()
    judge = Judge(store, _no_pod, lambda _: None, lambda: datetime.now(UTC))
    collectors = (
        registry,
        ModelDeploymentCollector(store),
        RolloutCollector(store),
        AuditCollector(store),
        MonitoringCollector(store, judge),
        ObserverCollector({"monitoring": judge.pool}),
        InstalledCollector(InstalledCrd(_no_schema)),
        UnseenCollector(store),
        UpgradeCollector(Upgrades(store, 1, lambda _: None)),
    )
    for family in (family for collector in collectors for family in collector.collect()):
        # A counter whose labels are not known beforehand has no series yet.
        found |= {sample.name for sample in family.samples}
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return found


def known_metrics() -> set[str]:
    """What the code exports or the rules record; a histogram's series by their suffixes."""
    recorded = {rule.record for rules in groups().values() for rule in rules if isinstance(rule, Record)}
    suffixed = {f"{name}_{suffix}" for name in Metric for suffix in ("bucket", "sum", "count")}
    return operator_metrics() | recorded | {str(name) for name in Metric} | suffixed
