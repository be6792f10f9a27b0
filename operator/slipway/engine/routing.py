"""The routers of each namespace: told what to do, and read for what they do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slipway.api.reasons import Reason
from slipway.core import names
from slipway.core.diagnosis import diagnose_pods
from slipway.core.observed import Fault, Kind, Manifest, Observed, Traffic, is_ready
from slipway.core.resource import Resource, read
from slipway.core.router.build import ROUTES_MAP, RouterSettings, is_router, router_objects, told
from slipway.core.router.config import admit
from slipway.core.router.envoy import ROUTER_ADMIN_PORT
from slipway.core.router.readback import RouterState
from slipway.core.router.routes import Route, next_state
from slipway.core.traffic import free_port, has_routers, routes_of, traffic_of
from slipway.engine.apply import Writer
from slipway.engine.outcome import Outcome
from slipway.engine.store import Key, Store
from slipway.engine.tally import Tally

log = logging.getLogger(__name__)

#: Seconds between two looks at the routers: while they follow, while a rollout goes on, and at rest.
FOLLOWING, ROLLING, RESTING = 0.05, 2.0, 30.0
#: A router that does not follow by then will not do so within moments.
SOON = timedelta(seconds=5)
#: How long a router that was made to look may take before it is made to look again; then twice as long.
AGAIN = timedelta(seconds=1)
#: How long a route outlives the Service that led to it: every node has to learn the new endpoints first.
LEAVING = timedelta(seconds=15)


@dataclass
class _Namespace:
    """What is remembered of one namespace's routers; all of it can be had again."""

    looked: bool = False
    #: By name of the pod; those that could not be read are missing.
    states: dict[str, RouterState] = field(default_factory=dict)
    routers: tuple[str, ...] = ()
    fault: Fault | None = None
    #: What the routers were told last, by name of the ModelDeployment.
    told: dict[str, Route] = field(default_factory=dict)
    #: Everything that a router may still do, by name: what was told since all were last seen to follow.
    possible: dict[str, tuple[Route, ...]] = field(default_factory=dict)
    #: When the routers were told something that not all were seen to do yet.
    asked: dict[str, datetime] = field(default_factory=dict)
    #: When a route was first found to be wanted no more.
    left: dict[str, datetime] = field(default_factory=dict)
    #: What each router pod was last made to read, how often, and when.
    touched: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    #: Ports given out, by name, until status remembers them.
    ports: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    seen: dict[str, Traffic | None] = field(default_factory=dict)


class Routers:
    """Follows what the ModelDeployments' status says, and tells them what their routers were seen to do."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        settings: RouterSettings,
        read_router: Callable[[str], Awaitable[RouterState | None]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        moved: Callable[[float], None] = lambda _: None,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            writer: writes the routers' objects.
            settings: of the installation.
            read_router: reads the router at ``host:port``; None where it cannot be read.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            moved: is told how many seconds every router took to do something new.
        """
        self._moved = moved
        self._store = store
        self._writer = writer
        self._settings = settings
        self._read = read_router
        self._changed = changed
        self._clock = clock
        self._namespaces: dict[str, _Namespace] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """Bring the routers of a namespace nearer to what its ModelDeployments ask of them.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        here = self._here(key.namespace)
        resources = self._resources(key.namespace)
        children = self._store.children(key)
        wanted, here.refused = admit(routes_of(resources))
        here.told = {route.name: route for route in _told(children)}
        await self._look(here, children)
        routes = self._next(here, {route.name: route for route in wanted})
        if routes:
            owners = [_owner(found) for found in resources if found.owner.name in {r.name for r in routes}]
            objects = router_objects(key.namespace, routes, self._settings, owners or _owners(children))
            faults = await self._writer.apply(key, objects, is_router)
            here.told = {route.name: route for route in routes}
            await self._touch(here, children)
        else:
            faults = {}
            await self._writer.delete(_objects(children))
            here.told = {}
        self._tell(here, resources)
        return Outcome(requeue_after=self._patience(here, routes, wanted), failed=bool(faults))

    def is_blind(self, namespace: str) -> bool:
        """Whether there are routers that were not looked at yet: nothing can be decided then."""
        here = self._namespaces.get(namespace)
        return (here is None or not here.looked) and bool(self._store.children(Key(namespace, "")))

    async def apply(self, desired: Resource, _: Observed, /) -> Traffic | None:
        """See :class:`slipway.engine.providers.Provider`; :meth:`follow` has the routers told."""
        return self.traffic(desired)

    def traffic(self, resource: Resource) -> Traffic | None:
        """What the routers were seen to do for a ModelDeployment, and to count since its last look.

        None where they have nothing to do for it.
        """
        here = self._here(resource.owner.namespace)
        traffic = self._done(here, resource)
        if traffic is None:
            return None
        tally = here.tallies.setdefault(resource.owner.name, Tally())
        canary, stable = tally.count(resource, here.states, here.routers, traffic)
        return replace(traffic, canary=canary, stable=stable)

    def names(self, resource: Resource) -> tuple[str, ...]:
        """Pods of a ModelDeployment's routers that are ready and stay."""
        return self._here(resource.owner.namespace).routers

    def free_port(self, resource: Resource) -> int | None:
        """A port of the namespace's routers for a ModelDeployment that needs one; None where none is left."""
        if isinstance(resource.spec, Fault) or not has_routers(resource.spec) or resource.status.routerPort:
            return None
        here = self._here(resource.owner.namespace)
        name = resource.owner.name
        others = [found for found in self._resources(resource.owner.namespace) if found.owner.name != name]
        taken = {found.status.routerPort for found in others if found.status.routerPort is not None}
        taken |= {port for other, port in here.ports.items() if other != name}
        taken |= {route.listener for route in here.told.values() if route.name != name}
        if here.ports.get(name, 0) in taken or name not in here.ports:
            port = free_port(taken)
            if port is None:
                return None
            here.ports[name] = port
        return here.ports[name]

    def follow(self, key: Key) -> None:
        """Have the routers looked at if they were told something else than a ModelDeployment asks for now."""
        here = self._namespaces.get(key.namespace)
        manifest = self._store.resource(key)
        wanted = routes_of([read(manifest)]) if manifest is not None else ()
        known = here.told.get(key.name) if here is not None else None
        if (wanted[0] if wanted else None) != known:
            self._changed(Key(key.namespace, ""))

    def _here(self, namespace: str) -> _Namespace:
        return self._namespaces.setdefault(namespace, _Namespace())

    def _done(self, here: _Namespace, resource: Resource) -> Traffic | None:
        """What the routers were seen to do for a ModelDeployment, without what they counted."""
        name = resource.owner.name
        if name not in here.told and (isinstance(resource.spec, Fault) or not has_routers(resource.spec)):
            return None
        living = [state for pod, state in here.states.items() if pod in here.routers]
        leaving = [state for pod, state in here.states.items() if pod not in here.routers]
        traffic = traffic_of(name, here.told.get(name), len(here.routers), living, leaving)
        refused = here.refused.get(name)
        return replace(traffic, fault=Fault(Reason.ROUTER_FULL, refused) if refused else here.fault)

    def _resources(self, namespace: str) -> list[Resource]:
        keys = (key for key in self._store.resources() if key.namespace == namespace)
        found = (self._store.resource(key) for key in keys)
        return [read(manifest) for manifest in found if manifest is not None]

    async def _look(self, here: _Namespace, children: Iterable[Manifest]) -> None:
        """Read every router that is there, the leaving ones too: those still send traffic."""
        pods = [child for child in children if child["kind"] == Kind.POD]
        alive = [pod for pod in pods if is_ready(pod) and (pod.get("status") or {}).get("podIP")]
        read_out = await asyncio.gather(
            *(self._read(f"{pod['status']['podIP']}:{ROUTER_ADMIN_PORT}") for pod in alive)
        )
        here.states = {
            str(pod["metadata"]["name"]): state for pod, state in zip(alive, read_out, strict=True) if state
        }
        here.looked = True
        here.routers = tuple(
            str(pod["metadata"]["name"]) for pod in alive if not pod["metadata"].get("deletionTimestamp")
        )
        here.fault = None if here.routers else diagnose_pods(pods, self._clock())
        here.touched = {name: what for name, what in here.touched.items() if name in here.routers}

    def _next(self, here: _Namespace, wanted: dict[str, Route]) -> list[Route]:
        """The next state of every route, safe whichever of the earlier ones each router is in."""
        routes = []
        for name in sorted({*wanted, *here.told}):
            before = here.told.get(name)
            if name not in wanted:
                since = here.left.setdefault(name, self._clock())
                if before is not None and self._clock() - since < LEAVING:
                    routes.append(before)
                continue
            here.left.pop(name, None)
            possible = here.possible.get(name, ())
            if before is not None and self._all_do(here, before):
                possible = (before,)
                if (asked := here.asked.pop(name, None)) is not None and here.routers:
                    self._moved((self._clock() - asked).total_seconds())
            elif before is not None and before not in possible:
                possible = (*possible, before)
            found = next_state(possible, wanted[name])
            if found != before:
                here.asked.setdefault(name, self._clock())
            here.possible[name] = possible if found in possible else (*possible, found)
            routes.append(found)
        gone = set(here.possible) - {route.name for route in routes}
        for name in gone:
            del here.possible[name]
            here.left.pop(name, None)
            here.asked.pop(name, None)
            here.tallies.pop(name, None)
        return routes

    def _all_do(self, here: _Namespace, route: Route) -> bool:
        return all(name in here.states and here.states[name].does(route) for name in here.routers)

    async def _touch(self, here: _Namespace, children: Iterable[Manifest]) -> None:
        """Make the kubelets of routers that lag behind bring the files now rather than within a minute.

        Again, later and later, where that did not help: a kubelet may look before it has heard of the change.
        """
        content = names.content_hash(sorted(repr(route) for route in here.told.values()))
        for pod in children:
            name = str(pod["metadata"]["name"])
            if pod["kind"] != Kind.POD or name not in here.routers:
                continue
            before, times, at = here.touched.get(name, ("", 0, self._clock()))
            times = times if before == content else 0
            if times and self._clock() - at < AGAIN * 2.0 ** (times - 1):
                continue
            state = here.states.get(name)
            if state is None or not all(state.does(route) for route in here.told.values()):
                await self._writer.touch(pod, f"{content}.{times}")
                here.touched[name] = (content, times + 1, self._clock())

    def _tell(self, here: _Namespace, resources: Iterable[Resource]) -> None:
        """Have every ModelDeployment looked at for which the routers now do something else."""
        for resource in resources:
            name = resource.owner.name
            if name in here.told or name in here.seen:
                found = self._done(here, resource)
                if here.seen.get(name) != found:
                    here.seen[name] = found
                    self._changed(Key(resource.owner.namespace, name))

    def _patience(self, here: _Namespace, routes: list[Route], wanted: list[Route]) -> float | None:
        if not routes:
            return None
        if not here.routers:
            return ROLLING
        if routes != wanted or not all(self._all_do(here, route) for route in routes):
            lately = bool(here.asked) and self._clock() - min(here.asked.values()) < SOON
            return FOLLOWING if lately else ROLLING
        return ROLLING if any(route.canary is not None for route in routes) else RESTING


def _told(children: Iterable[Manifest]) -> tuple[Route, ...]:
    for child in children:
        if child["kind"] == Kind.CONFIG_MAP and child["metadata"]["name"] == ROUTES_MAP:
            try:
                return told(child)
            except ValueError as error:
                log.warning("the routers' ConfigMap is not ours any more", extra={"error": str(error)})
    return ()


def _owner(resource: Resource) -> dict[str, object]:
    """No controller: the routers belong to several."""
    return {**resource.owner.reference(), "controller": False, "blockOwnerDeletion": False}


def _owners(children: Iterable[Manifest]) -> list[dict[str, object]]:
    return [owner for child in children for owner in child["metadata"].get("ownerReferences") or ()][:1]


#: The autoscaler first, so that it does not act on a Deployment that is going.
_ORDER = (
    Kind.AUTOSCALER,
    Kind.DISRUPTION_BUDGET,
    Kind.DEPLOYMENT,
    Kind.CONFIG_MAP,
    Kind.SERVICE_ACCOUNT,
)


def _objects(children: Iterable[Manifest]) -> list[Manifest]:
    found = list(children)
    return [child for kind in _ORDER for child in found if child["kind"] == kind]
