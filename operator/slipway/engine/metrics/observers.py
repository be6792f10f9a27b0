"""How well observers keep up: a few series each, whatever they look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.engine.observers.pool import Pool
from slipway.names import OperatorMetric


class ObserverCollector(Collector):
    """Looks of each observer, read from its pool when asked."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        """``pools`` are the observers' by their names."""
        self._pools = pools

    def collect(self) -> Iterable[Metric]:
        """Series by observer."""
        waiting = GaugeMetricFamily(
            OperatorMetric.OBSERVER_WAITING, "What is due and waits for a place", labels=("observer",)
        )
        failing = GaugeMetricFamily(
            OperatorMetric.OBSERVER_FAILING,
            "What could not be read last",
            labels=("observer",),
        )
        looks = CounterMetricFamily(
            OperatorMetric.OBSERVER_LOOKS.removesuffix("_total"),
            "Looks, by whether all that was asked could be read",
            labels=("observer", "result"),
        )
        waited = CounterMetricFamily(
            OperatorMetric.OBSERVER_WAITED.removesuffix("_total"),
            "Seconds for which what was due waited for a place, added up",
            labels=("observer",),
        )
        for name, pool in self._pools.items():
            waiting.add_metric((name,), float(pool.waiting))
            failing.add_metric((name,), float(pool.failing))
            looks.add_metric((name, "read"), float(pool.read))
            looks.add_metric((name, "unread"), float(pool.unread))
            waited.add_metric((name,), pool.waited)
        return (waiting, failing, looks, waited)
