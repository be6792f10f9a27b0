"""Limits as numbers with names: what the operator exports of each model's spec, and rules fall back to."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from slipway.core.monitoring.drift import DriftLimits
from slipway.core.monitoring.fairness import FairnessLimits
from slipway.core.monitoring.intervals import deviations
from slipway.core.monitoring.performance import Objective, PerformanceMetric
from slipway.core.monitoring.quality import QualityLimits


class Limit(StrEnum):
    """A number that an alert is held against; ratios lie between 0 and 1."""

    PSI_WARNING = "psi_warning"
    PSI_CRITICAL = "psi_critical"
    DRIFT_ROWS = "drift_rows"
    DRIFT_REFERENCE_ROWS = "drift_reference_rows"
    MISSING_RATIO = "missing_ratio"
    VIOLATION_RATIO = "violation_ratio"
    QUALITY_ROWS = "quality_rows"
    QUALITY_DEVIATIONS = "quality_deviations"
    ACCURACY = "accuracy"
    LABELS = "labels"
    ACCURACY_DEVIATIONS = "accuracy_deviations"
    GROUP_ROWS = "group_rows"
    FAIRNESS_DEVIATIONS = "fairness_deviations"
    DISPARATE_IMPACT_RATIO = "disparate_impact_ratio"
    DEMOGRAPHIC_PARITY_DIFFERENCE = "demographic_parity_difference"
    EQUAL_OPPORTUNITY_DIFFERENCE = "equal_opportunity_difference"
    EQUALIZED_ODDS_DIFFERENCE = "equalized_odds_difference"
    AVAILABILITY = "availability"
    LATENCY = "latency"


_DRIFT, _QUALITY, _FAIRNESS = DriftLimits(), QualityLimits(), FairnessLimits(())
_OBJECTIVE = Objective(PerformanceMetric.ACCURACY, 0.0)
#: Features that share the significance where the operator does not say how many there are.
USUAL_FEATURES = 20

#: What holds where the operator exports nothing for a model. What is not here is off unless it is exported.
DEFAULTS: Mapping[Limit, float] = {
    Limit.PSI_WARNING: _DRIFT.warning,
    Limit.PSI_CRITICAL: _DRIFT.critical,
    Limit.DRIFT_ROWS: _DRIFT.minimum_rows,
    Limit.DRIFT_REFERENCE_ROWS: _DRIFT.minimum_reference_rows,
    Limit.MISSING_RATIO: _QUALITY.missing_ratio,
    Limit.VIOLATION_RATIO: _QUALITY.violation_ratio,
    Limit.QUALITY_ROWS: _QUALITY.minimum_rows,
    Limit.QUALITY_DEVIATIONS: deviations(_QUALITY.confidence, USUAL_FEATURES),
    Limit.LABELS: _OBJECTIVE.minimum_labels,
    Limit.ACCURACY_DEVIATIONS: deviations(0.95),
    Limit.GROUP_ROWS: _FAIRNESS.minimum_group_rows,
    Limit.FAIRNESS_DEVIATIONS: deviations(_FAIRNESS.confidence),
    Limit.AVAILABILITY: 0.999,
}
