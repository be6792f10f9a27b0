"""A Prometheus that scrapes the fake routers at every moment that anything happens, and keeps raw samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

from slipway.core.traffic.envoy.prometheus import WINDOW_SECONDS, Samples
from slipway.engine.observers.prometheus import PrometheusError
from tests.unit.fake_routers import RouterPods

Series = tuple[tuple[str, str], ...]


class FakePrometheus:
    """Attributes:
    down: why it does not answer, or empty.
    blind: names of router pods that it does not scrape.
    asked: addresses and queries, as they came.
    """

    def __init__(self, routers: RouterPods, clock: Callable[[], datetime]) -> None:
        self._routers = routers
        self._clock = clock
        self.down = ""
        self.blind: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self._points: dict[Series, list[tuple[float, float]]] = defaultdict(list)

    def scrape(self) -> None:
        """Take what every router has counted by now."""
        now = self._clock().timestamp()
        for (pod, name, revision), (requests, errors) in self._routers.counted().items():
            if pod in self.blind:
                continue
            for metric, more, value in (
                ("upstream_rq_completed", (), requests),
                ("upstream_rq_total", (), requests),
                ("upstream_rq_xx", (("envoy_response_code_class", "5"),), errors),
            ):
                labels = (
                    ("__name__", f"envoy_cluster_{metric}"),
                    ("envoy_cluster_name", f"{name}/{revision}"),
                    ("pod", pod),
                    *more,
                )
                points = self._points[labels]
                points.append((now, float(int(value))))
                while points[0][0] < now - WINDOW_SECONDS:
                    points.pop(0)

    async def ask(self, _: str, address: str, query: str) -> list[Samples]:
        """As :func:`slipway.infra.prometheus.ask` does."""
        self.asked.append((address, query))
        if self.down:
            raise PrometheusError(self.down)
        since = self._clock().timestamp() - WINDOW_SECONDS
        return [
            Samples(dict(labels), [point for point in points if point[0] >= since])
            for labels, points in self._points.items()
        ]
