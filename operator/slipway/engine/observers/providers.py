"""What splits traffic, each behind the same one verb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from slipway.api.reasons import Reason
from slipway.core.allowed import Allowed
from slipway.core.observed import Fault, ObjectKind, Observed, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.traffic import gateway_api, replica_ratio
from slipway.core.traffic.routed import is_routed
from slipway.core.traffic.split import split_of
from slipway.engine.observers.routers import Routers
from slipway.engine.store import Key, Store

#: How long the newest state of a route has to have been accepted before every proxy is taken to do it.
SETTLING = timedelta(seconds=5)
#: Seconds until a cluster without the Gateway API is asked again.
MISSING = 60.0


class Provider(Protocol):
    """Brings traffic to where a ModelDeployment's status wants it."""

    async def apply(self, desired: Resource, observed: Observed, /) -> ObservedTraffic | None:
        """Have traffic follow, and tell what it was seen to do; None where there is nothing to split.

        Args:
            desired: whose status says which revisions there are, and what share the canary is to have.
            observed: its children.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """


class ReplicaRatio:
    """The Service of the ModelDeployment, which the plan writes; nothing else is needed."""

    async def apply(self, desired: Resource, observed: Observed, /) -> ObservedTraffic | None:
        """See :class:`Provider`."""
        split = split_of(desired.status)
        if isinstance(desired.spec, Fault) or not is_routed(desired.spec) or split is None:
            return None
        return replica_ratio.traffic(desired.owner, split, observed)


class Gateways:
    """HTTPRoutes, which the plan writes and Gateways of whatever make carry out."""

    def __init__(self, store: Store, allowed: Allowed, clock: Callable[[], datetime]) -> None:
        """
        Args:
            store: what the cluster holds.
            allowed: by the installation.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._allowed = allowed
        self._clock = clock
        #: When the newest state of a route was first seen to be accepted.
        self._accepted: dict[Key, tuple[object, datetime]] = {}

    async def apply(self, desired: Resource, observed: Observed, /) -> ObservedTraffic | None:
        """See :class:`Provider`."""
        owner, split = desired.owner, split_of(desired.status)
        gateways = None if isinstance(desired.spec, Fault) else desired.spec.traffic.gatewayAPI
        key = Key(owner.namespace, owner.name)
        if split is None or gateways is None:
            self._accepted.pop(key, None)
            return None
        if ObjectKind.HTTP_ROUTE in self._store.unknown:
            words = "the cluster does not know HTTPRoutes; install the Gateway API, or use provider Router"
            return ObservedTraffic(
                fault=Fault(Reason.GATEWAY_API_MISSING, words), obstacle=words, wait=MISSING
            )
        refused = self._allowed.gateway_fault(owner.namespace, gateways)
        if refused is not None:
            self._accepted.pop(key, None)
            return ObservedTraffic(fault=refused, obstacle=refused.message)
        left = self._until_settled(key, observed, gateway_api.is_accepted(owner, gateways, observed))
        traffic = gateway_api.traffic(owner, gateways, split, observed, settled=left == 0)
        return replace(traffic, wait=left or None)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._accepted.pop(key, None)

    def _until_settled(self, key: Key, observed: Observed, accepted: bool) -> float | None:
        """Seconds until every proxy is taken to have followed; None while no controller has."""
        live = observed.find(ObjectKind.HTTP_ROUTE, key.name)
        if not accepted or live is None:
            self._accepted.pop(key, None)
            return None
        state = (live["metadata"]["uid"], live["metadata"]["generation"])
        known, since = self._accepted.get(key, (None, self._clock()))
        if known != state:
            since = self._clock()
            self._accepted[key] = (state, since)
        return max(0.0, (SETTLING - (self._clock() - since)).total_seconds())


class Providers:
    """Picks the provider that a ModelDeployment names."""

    def __init__(
        self, routers: Routers, store: Store, allowed: Allowed, clock: Callable[[], datetime]
    ) -> None:
        """``routers`` is the first of them, and may still have a route that another provider took over."""
        self._routers = routers
        self._gateways = Gateways(store, allowed, clock)
        self._others: dict[str, Provider] = {"GatewayAPI": self._gateways, "ReplicaRatio": ReplicaRatio()}

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._gateways.forget(key)

    async def apply(self, desired: Resource, observed: Observed, /) -> ObservedTraffic | None:
        """See :class:`Provider`."""
        before = await self._routers.apply(desired, observed)
        provider = (
            None if isinstance(desired.spec, Fault) else self._others.get(desired.spec.traffic.provider)
        )
        if provider is None:
            return before
        traffic = await provider.apply(desired, observed)
        if traffic is None or before is None:
            return traffic
        return replace(traffic, receiving=traffic.receiving | before.receiving)
