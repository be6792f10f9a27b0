"""Rules on how old things are that serve."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.core.monitoring.limits import Limit
from slipway.names import Metric, OperatorMetric
from slipway.observability.promql import aggregate, increase, limited, names_of
from slipway.observability.rule import MODEL_WORDS, Alert, Record, Rule


def freshness_rules() -> Iterator[Rule]:
    """The age of the model that serves, and of the data that it is asked about."""
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
    rows, median = "slipway:data_age_rows:increase1h", "slipway:data_age_median:1h"
    buckets = aggregate("sum", increase(f"{Metric.DATA_AGE}_bucket", "1h"), "le")
    yield Record(rows, aggregate("sum", increase(f"{Metric.DATA_AGE}_count", "1h")))
    yield Record(median, f"histogram_quantile(0.5, {buckets})")
    limit = aggregate("max", Metric.DATA_AGE_LIMIT)
    enough = limited(rows, ">=", Limit.QUALITY_ROWS)
    yield Alert(
        "SlipwayDataStale",
        f"{median} > on ({names_of()}) {limit}\nand on ({names_of()}) {enough}",
        "warning",
        "5m",
        f"half of the data that {MODEL_WORDS} gets is older than spec.monitoring.freshness.maxAgeSeconds",
        "It is {{ $value | humanizeDuration }} old. See what brings the data.",
    )
