"""What the operator tells Prometheus of each model's limits, and what monitoring says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.api.base import share
from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring.drift import critical_value
from slipway.core.monitoring.fairness import FairnessMetric, comparisons
from slipway.core.monitoring.intervals import deviations
from slipway.core.monitoring.limits import Limit
from slipway.core.monitoring.performance import PerformanceMetric
from slipway.core.monitoring.policy import CONFIDENCE, attributes_of, monitoring_policy
from slipway.core.monitoring.verdict import MonitoredCondition
from slipway.core.observed import Fault
from slipway.core.resource import Resource
from slipway.engine.observers.monitoring import Judge
from slipway.engine.store import Store
from slipway.names import OperatorMetric

STATUSES = ("True", "False", "Unknown")
_FAIRNESS = {
    FairnessMetric.DISPARATE_IMPACT_RATIO: Limit.DISPARATE_IMPACT_RATIO,
    FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE: Limit.DEMOGRAPHIC_PARITY_DIFFERENCE,
    FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE: Limit.EQUAL_OPPORTUNITY_DIFFERENCE,
    FairnessMetric.EQUALIZED_ODDS_DIFFERENCE: Limit.EQUALIZED_ODDS_DIFFERENCE,
}


def limits_of(spec: ModelDeploymentSpec) -> Iterator[tuple[Limit, float]]:
    """The numbers that alerts are held against instead of the defaults, so far as a spec says them."""
    asked, monitoring = monitoring_policy(spec), spec.monitoring
    if monitoring is not None and monitoring.drift is not None:
        yield Limit.PSI_WARNING, asked.drift.warning
        yield Limit.PSI_CRITICAL, asked.drift.critical
        yield Limit.DRIFT_ROWS, asked.drift.minimum_rows
        yield Limit.DRIFT_REFERENCE_ROWS, asked.drift.minimum_reference_rows
    if monitoring is not None and monitoring.dataQuality is not None:
        yield Limit.MISSING_RATIO, asked.quality.missing_ratio
        yield Limit.VIOLATION_RATIO, asked.quality.violation_ratio
    for objective in asked.objectives:
        if objective.metric is PerformanceMetric.ACCURACY:
            yield Limit.ACCURACY, objective.minimum
            yield Limit.LABELS, objective.minimum_labels
            yield Limit.ACCURACY_DEVIATIONS, deviations(CONFIDENCE, len(asked.objectives))
    if spec.fairness is not None:
        yield Limit.GROUP_ROWS, asked.fairness.minimum_group_rows
        if asked.fairness.limits:
            pairs = comparisons(attributes_of(asked, {}), asked.fairness)
            yield Limit.FAIRNESS_DEVIATIONS, deviations(asked.fairness.confidence, max(1, pairs))
        for limit in asked.fairness.limits:
            yield _FAIRNESS[limit.metric], limit.limit
    if monitoring is not None and monitoring.slos is not None:
        yield Limit.AVAILABILITY, share(monitoring.slos.availability)
        if monitoring.slos.latency is not None:
            yield Limit.LATENCY, share(monitoring.slos.latency.objective)


class MonitoringCollector(Collector):
    """Limits and verdicts, read from the store when asked; quantiles of what this replica judges itself."""

    def __init__(self, store: Store, judge: Judge) -> None:
        self._store = store
        self._judge = judge

    def collect(self) -> Iterable[Metric]:
        """Series of those limits that are not the defaults, and of every verdict."""
        found = {metric.name: metric for metric in self.of(self._store.all())}
        for metric in self.others():
            if metric.name in found:
                found[metric.name].samples.extend(metric.samples)
            else:
                found[metric.name] = metric
        return tuple(found.values())

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        model = ("namespace", "model")
        limit = _limit()
        compared = GaugeMetricFamily(
            OperatorMetric.DRIFT_COMPARED_WITH,
            "1 for what windows of inputs are compared with",
            labels=(*model, "with"),
        )
        group = GaugeMetricFamily(
            OperatorMetric.FAIRNESS_REFERENCE,
            "1 for the group that ratios are to",
            labels=(*model, "attribute", "group"),
        )
        bound = GaugeMetricFamily(
            OperatorMetric.LATENCY_BOUND,
            "1 for the bound of the latency histogram that is fast enough",
            labels=(*model, "le"),
        )
        verdict = GaugeMetricFamily(
            OperatorMetric.VERDICT,
            "1 for what monitoring says",
            labels=("namespace", "name", "condition", "status"),
        )
        for resource in resources:
            where = (resource.owner.namespace, resource.owner.name)
            for found in resource.status.monitoring.verdicts if resource.status.monitoring else ():
                for status in STATUSES:
                    verdict.add_metric((*where, found.type, status), float(found.status == status))
            if isinstance(resource.spec, Fault):
                continue
            for name, value in limits_of(resource.spec):
                limit.add_metric((*where, name), value)
            monitoring, fairness = resource.spec.monitoring, resource.spec.fairness
            if monitoring is not None and monitoring.drift is not None:
                compared.add_metric((*where, monitoring.drift.compareWith), 1.0)
            if monitoring is not None and monitoring.slos is not None and monitoring.slos.latency is not None:
                seconds = monitoring.slos.latency.thresholdMilliseconds / 1000
                bound.add_metric((*where, str(seconds)), 1.0)
            for attribute in fairness.sensitiveAttributes if fairness is not None else ():
                if attribute.referenceGroup is not None:
                    group.add_metric((*where, attribute.name, attribute.referenceGroup), 1.0)
        return (limit, compared, group, bound, verdict)

    def others(self) -> Iterable[Metric]:
        """What depends on how many features are counted, and on their bins."""
        limit = _limit()
        critical = GaugeMetricFamily(
            OperatorMetric.DRIFT_CRITICAL,
            "The chi-square value that chance does not exceed",
            labels=("namespace", "model", "model_version", "feature"),
        )
        for key, version, asked, features, findings in self._judge.judged():
            quality = findings.get(MonitoredCondition.DATA_QUALITY)
            if quality is not None and quality.comparisons:
                z = deviations(asked.quality.confidence, quality.comparisons)
                limit.add_metric((key.namespace, key.name, Limit.QUALITY_DEVIATIONS), z)
            for feature, bins in features.items():
                if bins > 1:
                    value = critical_value(bins - 1, asked.drift.significance, len(features))
                    critical.add_metric((key.namespace, key.name, version, feature), value)
        return (limit, critical)


def _limit() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        OperatorMetric.LIMIT,
        "A limit that the spec sets, by its name",
        labels=("namespace", "model", "limit"),
    )
