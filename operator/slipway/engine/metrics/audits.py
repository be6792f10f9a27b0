"""What audits said of versions, read from the store when it is scraped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.api.audits import AuditResult
from slipway.api.reasons import ConditionType
from slipway.api.status import ModelDeploymentStatus
from slipway.core.observed import timestamp
from slipway.core.resource import Resource
from slipway.engine.store import Store
from slipway.names import OperatorMetric

VERDICTS = ("Pass", "Fail", "Inconclusive", "Error")


class AuditCollector(Collector):
    """Series of the results that status holds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Series of all ModelDeployments."""
        return self.of(self._store.all())

    def others(self) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        return ()

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        place = ("namespace", "name")
        audit = (*place, "audit", "revision")
        passed = GaugeMetricFamily(
            OperatorMetric.AUDITS_PASSED,
            "1 for what the condition AuditsPassed is, which speaks of the stable revision",
            labels=(*place, "status"),
        )
        verdict = GaugeMetricFamily(
            OperatorMetric.AUDIT_VERDICT, "1 for what an audit said of a revision", labels=(*audit, "verdict")
        )
        value = GaugeMetricFamily(
            OperatorMetric.AUDIT_VALUE,
            "What an audit measured: the value, and where the true one lies",
            labels=(*audit, "metric", "of", "bound"),
        )
        finished = GaugeMetricFamily(
            OperatorMetric.AUDIT_FINISHED, "When an audit said so, since the epoch", labels=audit
        )
        for resource in resources:
            where, status = (resource.owner.namespace, resource.owner.name), resource.status
            for condition in status.conditions:
                if condition.type == ConditionType.AUDITS_PASSED:
                    for name in ("True", "False", "Unknown"):
                        passed.add_metric((*where, name), 1.0 if condition.status == name else 0.0)
            for found in _told(status):
                of = (*where, found.name, found.revision)
                for name in VERDICTS:
                    verdict.add_metric((*of, name), 1.0 if found.verdict == name else 0.0)
                at = timestamp(found.finishedAt)
                if at is not None:
                    finished.add_metric(of, at.timestamp())
                for figure in found.figures:
                    for bound in ("value", "low", "high"):
                        number = float(getattr(figure, bound))
                        value.add_metric((*of, figure.metric, figure.of, bound), number)
        return (passed, verdict, value, finished)


def _told(status: ModelDeploymentStatus) -> Iterator[AuditResult]:
    """The newest result of each audit of the stable revision, and of the one that was audited last."""
    results = status.audits or ()
    newest = max(results, key=lambda found: found.finishedAt, default=None)
    shown = {status.stable.revision if status.stable is not None else "", newest.revision if newest else ""}
    seen: set[tuple[str, str]] = set()
    for found in sorted(results, key=lambda found: found.finishedAt, reverse=True):
        if found.revision in shown and (found.name, found.revision) not in seen:
            seen.add((found.name, found.revision))
            yield found
