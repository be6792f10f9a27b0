"""The operator's own metrics, under controller-runtime's names so that existing dashboards work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.api.types import KIND
from slipway.core.observed import Fault, timestamp
from slipway.core.resource import Resource
from slipway.engine.installed_crd import InstalledCrd
from slipway.engine.store import Store
from slipway.names import OperatorMetric

_CONTROLLER = KIND.lower()
_RESULTS = ("success", "error", "requeue", "requeue_after")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


_TRAFFIC_BUCKETS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 60.0)


_LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of the work queue, of reconciles, of requests and of leadership."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything with every series at 0, so that a rate is right from the first event on."""
        labels = ("controller",)
        self._reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by result",
            ("controller", "result"),
            registry=registry,
        )
        for result in _RESULTS:
            self._reconciles.labels(_CONTROLLER, result)
        self._errors = Counter(
            "controller_runtime_reconcile_errors", "Reconciles that failed", labels, registry=registry
        ).labels(_CONTROLLER)
        self._reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Length of reconciles",
            labels,
            buckets=_BUCKETS,
            registry=registry,
        ).labels(_CONTROLLER)
        self.active_workers = Gauge(
            "controller_runtime_active_workers", "Workers at work", labels, registry=registry
        ).labels(_CONTROLLER)
        self.max_workers = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Workers", labels, registry=registry
        ).labels(_CONTROLLER)
        queue = ("name",)
        self._depth = Gauge("workqueue_depth", "Keys waiting", queue, registry=registry).labels(_CONTROLLER)
        self._traffic = Histogram(
            "slipway_rollout_traffic_seconds",
            "From a change of a route until every router of the namespace was seen to do it",
            buckets=_TRAFFIC_BUCKETS,
            registry=registry,
        )
        self._adds = Counter("workqueue_adds", "Keys added", queue, registry=registry).labels(_CONTROLLER)
        self._waited = Histogram(
            "workqueue_queue_duration_seconds", "Wait of a key", queue, buckets=_BUCKETS, registry=registry
        ).labels(_CONTROLLER)
        self._worked = Histogram(
            "workqueue_work_duration_seconds", "Work on a key", queue, buckets=_BUCKETS, registry=registry
        ).labels(_CONTROLLER)
        self._lag = Histogram(
            OperatorMetric.LOOP_LAG,
            "How late the event loop was, looked at four times a second",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self._retries = Counter("workqueue_retries", "Keys put back", queue, registry=registry).labels(
            _CONTROLLER
        )
        self._requests = Counter(
            "rest_client_requests", "Requests to the API server", ("code", "method"), registry=registry
        )
        self._elsewhere = Gauge(
            "slipway_modeldeployments_claimed_elsewhere",
            "ModelDeployments that another installation looks after",
            registry=registry,
        )
        self._leader = Gauge(
            "leader_election_master_status", "1 while this replica leads", queue, registry=registry
        ).labels("slipway-operator")

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended with this result."""
        self._reconciles.labels(_CONTROLLER, result).inc()
        if result == "error":
            self._errors.inc()
        self._reconcile_seconds.observe(seconds)
        self._worked.observe(seconds)

    def added(self, depth: int) -> None:
        """See :class:`slipway.engine.queue.QueueObserver`."""
        self._adds.inc()
        self._depth.set(depth)

    def taken(self, waited: float, depth: int) -> None:
        """See :class:`slipway.engine.queue.QueueObserver`."""
        self._waited.observe(waited)
        self._depth.set(depth)

    def retried(self) -> None:
        """See :class:`slipway.engine.queue.QueueObserver`."""
        self._retries.inc()

    def requested(self, method: str, code: int) -> None:
        """The API server answered a request with this HTTP status, or 0 for no answer."""
        self._requests.labels(str(code) if code else "<error>", method).inc()

    def lagged(self, seconds: float) -> None:
        """The event loop did what was due so many seconds late."""
        self._lag.observe(seconds)

    def moved_traffic(self, seconds: float) -> None:
        """Every router was seen to do what it was told so many seconds ago."""
        self._traffic.observe(seconds)

    def count_elsewhere(self, count: Callable[[], int]) -> None:
        """How many ModelDeployments another installation looks after, by a function that tells."""
        self._elsewhere.set_function(lambda: float(count()))

    def lead(self, left: Callable[[], float]) -> None:
        """This replica leads while the seconds that it may write are more than none."""
        self._leader.set_function(lambda: 1.0 if left() else 0.0)


PHASES = ("Progressing", "Paused", "Promoting", "Aborting")
VERDICTS = ("Pass", "Fail", "Inconclusive")


class InstalledCollector(Collector):
    """Whether the installed CRD is as new as the operator."""

    def __init__(self, installed: InstalledCrd) -> None:
        self._installed = installed

    def collect(self) -> Iterable[Metric]:
        """How many fields the CRD lacks."""
        lacking = GaugeMetricFamily(
            OperatorMetric.CRD_MISSING_FIELDS, "Fields that the operator knows and the installed CRD does not"
        )
        lacking.add_metric((), float(len(self._installed.missing)))
        return (lacking,)


class UnseenCollector(Collector):
    """Which namespaces may not be listed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """One series for each."""
        unseen = GaugeMetricFamily(
            OperatorMetric.NAMESPACE_UNSEEN,
            "1 for a namespace of watchNamespaces that may not be listed and is left alone",
            labels=("namespace",),
        )
        for namespace in sorted(self._store.unseen):
            unseen.add_metric((namespace,), 1.0)
        return (unseen,)


class ModelDeploymentCollector(Collector):
    """What ModelDeployments are and whether they serve, read from the store when asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """One series a ModelDeployment and metric."""
        return self.of(self._store.all())

    def others(self) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        return ()

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        place = ("namespace", "name")
        info = GaugeMetricFamily(
            "slipway_modeldeployment_info",
            "The model that a ModelDeployment serves",
            labels=(*place, "revision", "version", "digest"),
        )
        ready = GaugeMetricFamily("slipway_modeldeployment_ready", "1 while Ready is True", labels=place)
        replicas = GaugeMetricFamily(
            "slipway_modeldeployment_replicas", "Pods of all revisions", labels=place
        )
        revision = GaugeMetricFamily(
            "slipway_modeldeployment_revision_ready_replicas",
            "Ready pods of a revision",
            labels=(*place, "revision", "role"),
        )
        refresh = GaugeMetricFamily(
            OperatorMetric.REFRESH_FAILING_SINCE,
            "Since when the name that a ModelDeployment follows cannot be looked up, since the epoch",
            labels=place,
        )
        created = GaugeMetricFamily(
            OperatorMetric.MODEL_CREATED,
            "When the model that serves was made, since the epoch",
            labels=("namespace", "model", "model_version"),
        )
        most = GaugeMetricFamily(
            OperatorMetric.MODEL_MAX_AGE,
            "How old a model may be while it serves, by spec.card.maxAgeDays",
            labels=("namespace", "model"),
        )
        for resource in resources:
            where = (resource.owner.namespace, resource.owner.name)
            failing = timestamp(resource.status.refreshFailingSince)
            if failing is not None:
                refresh.add_metric(where, failing.timestamp())
            status, spec = resource.status, resource.spec
            if not isinstance(spec, Fault) and spec.card is not None and spec.card.maxAgeDays is not None:
                most.add_metric(where, spec.card.maxAgeDays * 86_400.0)
            is_ready = any(found.type == "Ready" and found.status == "True" for found in status.conditions)
            ready.add_metric(where, 1.0 if is_ready else 0.0)
            replicas.add_metric(where, float(status.replicas))
            for role, found in (("stable", status.stable), ("canary", status.canary)):
                if found is not None:
                    revision.add_metric((*where, found.revision, role), float(found.readyReplicas))
            if status.stable is not None:
                stable = status.stable
                info.add_metric((*where, stable.revision, stable.version, stable.digest), 1.0)
                made = timestamp(stable.modelCreatedAt)
                if made is not None:
                    created.add_metric((*where, stable.version), made.timestamp())
        return (info, ready, replicas, revision, created, most, refresh)


class RolloutCollector(Collector):
    """How far rollouts are, read from the store when asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Series of rollouts that are under way, and of rejections that are remembered."""
        return self.of(self._store.all())

    def others(self) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        return ()

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        """See :class:`slipway.engine.metrics.kept.OfResources`."""
        place = ("namespace", "name")
        weight = GaugeMetricFamily(
            "slipway_rollout_weight", "Percent of traffic meant for the canary", labels=place
        )
        mirror = GaugeMetricFamily(
            "slipway_rollout_mirror_percent", "Percent of requests copied to the canary", labels=place
        )
        step = GaugeMetricFamily("slipway_rollout_step", "Steps that are done", labels=place)
        phase = GaugeMetricFamily(
            "slipway_rollout_phase", "1 for the phase that a rollout is in", labels=(*place, "phase")
        )
        gate = GaugeMetricFamily(
            "slipway_rollout_gate_verdict",
            "1 for what a gate says",
            labels=(*place, "gate", "verdict"),
        )
        rejected = GaugeMetricFamily(
            "slipway_rollout_rejected_revisions", "Revisions that are not tried again", labels=place
        )
        for resource in resources:
            where, status = (resource.owner.namespace, resource.owner.name), resource.status
            rejected.add_metric(where, float(len(status.rejected)))
            rollout = status.rollout
            if rollout is None:
                continue
            weight.add_metric(where, float(rollout.weight))
            mirror.add_metric(where, float(rollout.mirrorPercent))
            step.add_metric(where, float(rollout.step))
            for name in PHASES:
                phase.add_metric((*where, name), 1.0 if rollout.phase == name else 0.0)
            for found in rollout.gates:
                for verdict in VERDICTS:
                    gate.add_metric((*where, found.name, verdict), 1.0 if found.verdict == verdict else 0.0)
        return (weight, mirror, step, phase, gate, rejected)
