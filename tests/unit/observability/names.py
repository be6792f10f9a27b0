"""Which metrics an expression reads, and which there are."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry

from slipway.engine.metrics import Metrics
from slipway.names import Metric, OperatorMetric
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


def known_metrics() -> set[str]:
    """What the code exports or the rules record; a histogram's series by their suffixes."""
    registry = CollectorRegistry()
    Metrics(registry)
    families = list(registry.collect())
    own = {sample.name for family in families for sample in family.samples}
    # A counter whose labels are not known beforehand has no series yet.
    own |= {f"{family.name}_total" for family in families if family.type == "counter"}
    recorded = {rule.record for rules in groups().values() for rule in rules if isinstance(rule, Record)}
    exported = {str(name) for name in [*Metric, *OperatorMetric]}
    suffixed = {f"{name}_{suffix}" for name in Metric for suffix in ("bucket", "sum", "count")}
    return own | recorded | exported | suffixed
