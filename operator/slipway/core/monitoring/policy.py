"""What a spec asks to be judged, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slipway.api.base import share
from slipway.api.monitoring import DataQuality, Drift, Fairness
from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring import series
from slipway.core.monitoring.drift import CompareWith, DriftLimits
from slipway.core.monitoring.fairness import Attribute, FairnessLimit, FairnessLimits, FairnessMetric
from slipway.core.monitoring.performance import Objective, PerformanceMetric
from slipway.core.monitoring.quality import QualityLimits
from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import MonitoredCondition

#: Labels come late: objectives look at those of a day, as the rules do.
LABELS_SECONDS = 86_400.0
DAY_SECONDS = 86_400.0
#: Of the intervals of performance, over all objectives.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class MonitoringPolicy:
    """What a spec asks to be judged, in numbers.

    Attributes:
        drift: limits of drift.
        compare_with: what windows are held against.
        inputs_seconds: window of drift and data quality.
        quality: limits of data quality.
        objectives: of performance; none where it is not judged.
        fairness: limits of fairness; none of them where it is not judged.
        attributes: name, reference group and groups of each sensitive attribute.
        groups_seconds: window of fairness.
        named: conditions that the spec names, and that are there whatever is counted.
        confidence: of the intervals of performance, over all objectives.
    """

    drift: DriftLimits
    compare_with: CompareWith
    inputs_seconds: float
    quality: QualityLimits
    objectives: tuple[Objective, ...] = ()
    fairness: FairnessLimits = field(default_factory=lambda: FairnessLimits(()))
    attributes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    groups_seconds: float = DAY_SECONDS
    named: frozenset[MonitoredCondition] = frozenset()
    confidence: float = CONFIDENCE


def monitoring_policy(spec: ModelDeploymentSpec) -> MonitoringPolicy:
    """What a spec asks to be judged; what it does not say has its default."""
    monitoring = spec.monitoring
    drift = (monitoring.drift if monitoring else None) or Drift()
    quality = (monitoring.dataQuality if monitoring else None) or DataQuality()
    performance = monitoring.performance if monitoring else None
    freshness = monitoring.freshness if monitoring else None
    model_days = spec.card.maxAgeDays if spec.card else None
    named = {
        MonitoredCondition.DRIFT: monitoring is not None and monitoring.drift is not None,
        MonitoredCondition.DATA_QUALITY: freshness is not None
        or model_days is not None
        or (monitoring is not None and monitoring.dataQuality is not None),
    }
    return MonitoringPolicy(
        drift=DriftLimits(
            warning=float(drift.psi.warning),
            critical=float(drift.psi.critical),
            significance=float(drift.significance),
            minimum_rows=drift.minimumRows,
            minimum_reference_rows=_least_reference_rows(drift),
        ),
        compare_with=CompareWith(drift.compareWith),
        inputs_seconds=float(drift.windowSeconds),
        quality=QualityLimits(
            share(quality.maxMissingRatio),
            share(quality.maxViolationRatio),
            data_age_seconds=float(freshness.maxAgeSeconds) if freshness else None,
            model_age_days=float(model_days) if model_days else None,
        ),
        objectives=tuple(
            Objective(PerformanceMetric(one.metric), share(one.minimum), one.minimumLabels, one.outcome or "")
            for one in (performance.objectives if performance else ())
        ),
        **_fairness(spec.fairness),
        named=frozenset(condition for condition, is_named in named.items() if is_named),
    )


def acts_on_breach(spec: ModelDeploymentSpec) -> bool:
    """Whether a breach of a model that knows its callers does more than to be told."""
    on_breach = spec.monitoring.onBreach if spec.monitoring is not None else None
    return spec.access is not None and on_breach is not None and on_breach.action != "Alert"


def _least_reference_rows(drift: Drift) -> int:
    """Of a profile as many as ever; of yesterday's window as many as of today's."""
    is_reference = CompareWith(drift.compareWith) is CompareWith.REFERENCE
    return DriftLimits().minimum_reference_rows if is_reference else drift.minimumRows


def _fairness(fairness: Fairness | None) -> dict[str, Any]:
    if fairness is None:
        return {}
    return {
        "fairness": FairnessLimits(
            tuple(
                FairnessLimit(FairnessMetric(one.name), share(one.minimum or one.maximum or "0%"))
                for one in fairness.metrics
            ),
            share(fairness.confidence),
            fairness.minimumGroupRows,
        ),
        "attributes": tuple(
            # Without a ratio no group is the reference, and any will do.
            (one.name, one.referenceGroup or one.groups[0], one.groups)
            for one in fairness.sensitiveAttributes
        ),
        "groups_seconds": float(fairness.windowSeconds),
    }


def attributes_of(asked: MonitoringPolicy, counts: Values) -> list[Attribute]:
    """What the groups of each sensitive attribute got."""
    return [series.attribute(counts, name, reference, groups) for name, reference, groups in asked.attributes]
