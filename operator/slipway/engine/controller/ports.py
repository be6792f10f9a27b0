"""Which listener of a namespace's routers each ModelDeployment has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from slipway.core.observed import Fault
from slipway.core.resource import Resource
from slipway.core.traffic.envoy.routes import Route
from slipway.core.traffic.routed import free_port, has_routers
from slipway.engine.store import Key, Store


class Ports:
    """Gives out ports, each until a status remembers it. Soft state."""

    def __init__(self, store: Store) -> None:
        """``store`` holds what the cluster holds."""
        self._store = store
        self._changed = store.subscribe()
        self._given: dict[Key, int] = {}
        #: What status remembers, and the other way round: by namespace and port.
        self._ports: dict[Key, int] = {}
        self._holders: dict[tuple[str, int], set[Key]] = defaultdict(set)

    def free(self, resource: Resource, told: Iterable[Route]) -> int | None:
        """A port for a ModelDeployment that needs one; None where it needs none, or none is left.

        No two ModelDeployments of a namespace have the same, so that each can move between groups of routers.

        Args:
            resource: the ModelDeployment.
            told: the routes that routers of its namespace have, its own included.
        """
        key = Key(resource.owner.namespace, resource.owner.name)
        if isinstance(resource.spec, Fault) or not has_routers(resource.spec) or self._keeps(resource):
            self._given.pop(key, None)
            return None
        routes = list(told)
        taken = self._taken(key) | {route.listener for route in routes if route.name != key.name}
        given = self._given.pop(key, None)
        if given is None or given in taken:
            # What routers do for it already, should status have been lost.
            own = (route.listener for route in routes if route.name == key.name)
            given = next((port for port in own if port not in taken), None) or free_port(taken)
        if given is not None:
            self._given[key] = given
        return given

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._given.pop(key, None)
        self._catch_up()

    def _keeps(self, resource: Resource) -> bool:
        """Whether a ModelDeployment has a port, and no other one had it first.

        Two may have the same that were restored from different backups, or one next to another.
        """
        port, own = resource.status.routerPort, resource.owner
        if port is None:
            return False
        self._catch_up()
        holders = (self._store.read(key) for key in self._holders.get((own.namespace, port), ()))
        return all(_rank(found) >= _rank(resource) for found in holders if found is not None)

    def _catch_up(self) -> None:
        """Take in whose status has changed."""
        while self._changed:
            key = self._changed.pop()
            before = self._ports.pop(key, None)
            if before is not None:
                holders = self._holders[key.namespace, before]
                holders.discard(key)
                if not holders:
                    del self._holders[key.namespace, before]
            found = self._store.read(key)
            if found is not None and found.status.routerPort is not None and not found.deleting:
                self._ports[key] = found.status.routerPort
                self._holders[key.namespace, found.status.routerPort].add(key)

    def _taken(self, key: Key) -> set[int]:
        """Ports of the namespace's other ModelDeployments."""
        others = [found for found in self._store.resources_in(key.namespace) if found.owner.name != key.name]
        ports = [found.status.routerPort for found in others]
        ports += [self._given.get(Key(key.namespace, found.owner.name)) for found in others]
        return {port for port in ports if port is not None}


def _rank(resource: Resource) -> tuple[datetime, str]:
    """Which of several has a port first."""
    return resource.created_at or datetime.max.replace(tzinfo=UTC), resource.owner.name
