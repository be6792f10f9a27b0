"""The model server's own series, all of them there from the start; no label comes from a request."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from slipway.contract import Metric, ServingConfig
from slipway_server.errors import Reason

CODES = (200, 400, 404, 408, 411, 413, 415, 499, 500, 503)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LABELS = ("model", "model_version")


class Metrics:
    """Counters of one server; every child is made once, since looking one up costs more than counting."""

    def __init__(self, config: ServingConfig) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        names = (config.modelName, config.modelVersion)
        requests = Counter(
            Metric.REQUESTS,
            "Inference requests answered, by HTTP status.",
            (*_LABELS, "code"),
            registry=registry,
        )
        rejected = Counter(
            Metric.REJECTED,
            "Inference requests that got no answer from the model, by why.",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self._requests = {code: requests.labels(*names, str(code)) for code in CODES}
        self._rejected = {reason: rejected.labels(*names, reason) for reason in Reason}
        self.duration = Histogram(
            Metric.DURATION,
            "Seconds from the arrival of an inference request's head to its answer.",
            _LABELS,
            buckets=_SECONDS,
            registry=registry,
        ).labels(*names)
        self.rows = Counter(
            Metric.ROWS, "Rows in answered inference requests.", _LABELS, registry=registry
        ).labels(*names)
        self.in_flight = Gauge(
            Metric.IN_FLIGHT, "Inference requests being answered now.", _LABELS, registry=registry
        ).labels(*names)
        self.load_seconds = Gauge(
            Metric.LOAD_SECONDS,
            "Seconds it took to verify, load and warm up the model.",
            _LABELS,
            registry=registry,
        ).labels(*names)
        self.info = Gauge(
            Metric.MODEL_INFO,
            "1 once the model with this digest is loaded.",
            (*_LABELS, "digest"),
            registry=registry,
        ).labels(*names, config.digest)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._registry = registry

    def answered(self, code: int, seconds: float) -> None:
        """Count one inference request that was answered with ``code`` after ``seconds``."""
        self._requests[code if code in self._requests else 500].inc()
        self.duration.observe(seconds)

    def refused(self, reason: Reason) -> None:
        self._rejected[reason].inc()

    def text(self) -> bytes:
        """All series in the Prometheus text format."""
        return generate_latest(self._registry)
