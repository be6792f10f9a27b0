"""What a ModelDeployment's rollout is judged by, from all who counted something of it."""

from __future__ import annotations

from slipway.core.observed import Observed, ObservedTraffic
from slipway.core.resource import Resource
from slipway.engine.observers.pod_counts import Served
from slipway.engine.observers.prometheus import PrometheusCounts
from slipway.engine.observers.providers import Providers
from slipway.engine.observers.routers import Routers
from slipway.engine.observers.shadow_answers import Pairs
from slipway.engine.store import Key


class Evidence:
    """Has traffic follow, and adds to what its provider was seen to do what others counted."""

    def __init__(
        self,
        providers: Providers,
        routers: Routers,
        prometheus: PrometheusCounts,
        served: Served,
        pairs: Pairs,
    ) -> None:
        """
        Args:
            providers: split traffic, and count it where they are routers.
            routers: of which Prometheus is asked.
            prometheus: counts in the place of routers, where a spec asks for it.
            served: what pods counted, for gates that routers cannot answer.
            pairs: how alike pods answered to copies.
        """
        self._providers = providers
        self._routers = routers
        self._prometheus = prometheus
        self._served = served
        self._pairs = pairs

    async def gather(self, resource: Resource, observed: Observed) -> ObservedTraffic | None:
        """Traffic as it is, with what was counted of it; None where there is nothing to split.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        traffic = await self._providers.apply(resource, observed)
        traffic = await self._prometheus.count(resource, traffic, self._routers.lives(resource))
        traffic = await self._served.count(resource, traffic)
        return await self._pairs.count(resource, traffic)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        for source in (self._providers, self._prometheus, self._served, self._pairs):
            source.forget(key)

    def retry_after(self, key: Key, traffic: ObservedTraffic | None) -> float | None:
        """Seconds until there may be more of it without anything in the cluster changing; None if not."""
        waits = (traffic.wait if traffic is not None else None, self._prometheus.retry_after(key))
        return min((wait for wait in waits if wait is not None), default=None)
