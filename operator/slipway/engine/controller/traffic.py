"""How traffic of a ModelDeployment is split, and what is known of what it answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from slipway.api.reasons import Reason
from slipway.core.allowed import Allowed
from slipway.core.observed import Fault, ObjectKind, Observed, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.rollout.interest import Interest, Interests, interests
from slipway.core.rollout.reading import with_readings
from slipway.core.traffic import gateway_api, replica_ratio
from slipway.core.traffic.routed import is_routed
from slipway.core.traffic.split import split_of
from slipway.engine.controller.routes import Routes
from slipway.engine.observers.observers import Observers
from slipway.engine.store import Key, Store

#: How long the newest state of a route has to have been accepted before every proxy is taken to do it.
SETTLING = timedelta(seconds=5)
#: Seconds until a cluster without the Gateway API is asked again.
MISSING = 60.0


class TrafficView:
    """Puts together what the store and the observers know. It asks nobody."""

    def __init__(
        self,
        store: Store,
        routes: Routes,
        observers: Observers,
        allowed: Allowed,
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            routes: what routers do.
            observers: what was counted.
            allowed: by the installation.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._routes = routes
        self._observers = observers
        self._allowed = allowed
        self._clock = clock
        #: What routers showed of each rollout; soft state.
        self._arms: dict[Key, ArmCounter] = {}
        #: When the newest state of a route was first seen to be accepted.
        self._accepted: dict[Key, tuple[object, datetime]] = {}

    def of(self, resource: Resource, observed: Observed) -> ObservedTraffic | None:
        """Traffic as it is, with what was counted of it; None where there is nothing to split.

        Args:
            resource: whose status says which revisions there are, and what share the canary is to have.
            observed: its children.
        """
        key, traffic = _key(resource), self._split(resource, observed)
        asked = self.interests(resource, traffic)
        if resource.status.rollout is None or resource.status.canary is None:
            self._arms.pop(key, None)
        now = self._clock()
        if traffic is not None and asked.arms is not None and _is_by_routers(resource):
            traffic = self._with_arms(resource, traffic, asked.arms, now)
        return with_readings(resource, traffic, asked, self._observers.readings(key), self._allowed, now)

    def subscribe(self, resource: Resource, traffic: ObservedTraffic | None) -> None:
        """Have observed what the next look at a rollout needs; nothing where there is no traffic."""
        key, asked = _key(resource), self.interests(resource, traffic)
        by_routers = asked.arms is not None and asked.prometheus is None and _is_by_routers(resource)
        self._routes.subscribe_look(key, asked.arms.due if asked.arms and by_routers else None)
        self._observers.subscribe(key, asked)

    def interests(self, resource: Resource, traffic: ObservedTraffic | None) -> Interests:
        """What has to be observed of it."""
        return interests(resource, traffic, self._routes.lives(resource), self._allowed)

    def _with_arms(
        self, resource: Resource, traffic: ObservedTraffic, interest: Interest, now: datetime
    ) -> ObservedTraffic:
        """With what routers counted; a look that is due needs what they did when it was, or later."""
        key, after = _key(resource), interest.due if interest.due <= now else datetime.min.replace(tzinfo=UTC)
        shown = self._routes.shown(resource, after)
        if shown is None:
            return traffic
        self._arms[key], (canary, stable) = count_arms(self._arms.get(key), interest, key.name, shown)
        return replace(traffic, canary=canary, stable=stable)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._arms.pop(key, None)
        self._accepted.pop(key, None)

    def _split(self, resource: Resource, observed: Observed) -> ObservedTraffic | None:
        """What was seen to be done by whatever splits it, routers that it had before included."""
        via_routers = self._routes.traffic(resource)
        if _is_by_routers(resource):
            return via_routers
        is_gateway = not isinstance(resource.spec, Fault) and resource.spec.traffic.provider == "GatewayAPI"
        traffic = self._by_gateways(resource, observed) if is_gateway else _by_replicas(resource, observed)
        if traffic is None or via_routers is None:
            return traffic
        return replace(traffic, receiving=traffic.receiving | via_routers.receiving)

    def _by_gateways(self, resource: Resource, observed: Observed) -> ObservedTraffic | None:
        """HTTPRoutes, which the plan writes and Gateways of whatever make carry out."""
        owner, key, split = resource.owner, _key(resource), split_of(resource.status)
        gateways = None if isinstance(resource.spec, Fault) else resource.spec.traffic.gatewayAPI
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


def _by_replicas(resource: Resource, observed: Observed) -> ObservedTraffic | None:
    """The Service of the ModelDeployment, which the plan writes; nothing else is needed."""
    split = split_of(resource.status)
    if isinstance(resource.spec, Fault) or not is_routed(resource.spec) or split is None:
        return None
    return replica_ratio.traffic(resource.owner, split, observed)


def _is_by_routers(resource: Resource) -> bool:
    return isinstance(resource.spec, Fault) or resource.spec.traffic.provider == "Router"


def _key(resource: Resource) -> Key:
    return Key(resource.owner.namespace, resource.owner.name)
