"""Rules on how old things are that serve."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.names import OperatorMetric
from slipway.observability.rule import MODEL_WORDS, Alert, Record, Rule


def freshness_rules() -> Iterator[Rule]:
    """The age of the model that serves."""
    age = "slipway:model_age:seconds"
    yield Record(age, f"time() - max by (namespace, model, model_version) ({OperatorMetric.MODEL_CREATED})")
    most = f"max by (namespace, model) ({OperatorMetric.MODEL_MAX_AGE})"
    yield Alert(
        "SlipwayModelStale",
        f"{age} > on (namespace, model) group_left () {most}",
        "warning",
        "5m",
        f"{MODEL_WORDS} is older than spec.card.maxAgeDays allows",
        "It is {{ $value | humanizeDuration }} old. Train it again, or raise spec.card.maxAgeDays.",
    )
