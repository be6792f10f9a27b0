"""The routers of namespaces and of ModelDeployments: told what to do, and read for what they do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.reasons import Reason
from slipway.core import naming
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods
from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Fault, Manifest, ObjectKind, Observed, ObservedTraffic, is_ready, observe
from slipway.core.pod_counters import life_of
from slipway.core.resource import Resource
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.traffic.envoy.config import admit
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT
from slipway.core.traffic.envoy.objects import (
    CONTAINER,
    RouterSettings,
    is_router,
    router_objects,
    routes_map,
    told,
)
from slipway.core.traffic.envoy.readback import RouterState
from slipway.core.traffic.envoy.routes import Route
from slipway.core.traffic.routed import free_port, has_routers, merged, routed_group, router_group, routes_of
from slipway.core.upgrade import as_it_is, is_behind, is_late, is_replacing, ready
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.upgrades import STUCK, UPGRADING, WAITING, Upgrades
from slipway.engine.observers.router_group import Group
from slipway.engine.result import Result
from slipway.engine.store import Key, Store, is_orphan

log = logging.getLogger(__name__)

#: Seconds between two looks at the routers: while they follow, while a rollout goes on, and at rest.
FOLLOWING, ROLLING, RESTING = 0.05, 2.0, 30.0
#: While a canary has ready pods that they do not know yet.
AWAITING = 0.3
#: A router that does not follow by then will not do so within moments.
SOON = timedelta(seconds=5)
#: How long a router that was made to look may take before it is made to look again; then twice as long.
AGAIN = timedelta(seconds=1)


@dataclass
class _Model:
    """What is remembered of one ModelDeployment; likewise."""

    #: Given out until status remembers it.
    port: int | None = None
    counter: ArmCounter | None = None
    #: What it was last told that routers do for it.
    seen: ObservedTraffic | None = None


class Routers:
    """Follows what the ModelDeployments' status says, and tells them what their routers were seen to do."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        settings: RouterSettings,
        read_router: Callable[[Endpoint], Awaitable[RouterState | None]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        upgrades: Upgrades,
        moved: Callable[[float], None] = lambda _: None,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            writer: writes the routers' objects.
            settings: of the installation.
            read_router: reads the router whose own port it is; None where it cannot be read.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            upgrades: gives out turns.
            moved: is told how many seconds every router took to do something new.
        """
        self._moved = moved
        self._upgrades = upgrades
        self._store = store
        self._writer = writer
        self._settings = settings
        self._read = read_router
        self._changed = changed
        self._clock = clock
        self._groups: dict[Key, Group] = {}
        self._groups_in: dict[str, set[Key]] = {}
        self._models: dict[Key, _Model] = {}

    async def reconcile(self, key: Key) -> Result:
        """Bring a group of routers nearer to what its ModelDeployments ask of it.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        here = self._groups.setdefault(key, Group())
        self._groups_in.setdefault(key.namespace, set()).add(key)
        resources = self._resources(key)
        children = self._store.children(key)
        told_before = _told(children, key.name)
        await self._look(here, children)
        if isinstance(told_before, Fault):
            # Whatever would be written could take away what they serve.
            here.fault = told_before
            self._tell(resources)
            return Result(requeue_after=RESTING)
        here.told = {route.name: route for route in told_before}
        readable = [found for found in resources if found.status_fault is None]
        # What a status asks for that cannot be read is what routers were told last.
        held = [
            here.told[found.owner.name]
            for found in resources
            if _is_held(found) and found.owner.name in here.told
        ]
        asked = [found for found in readable if self._belongs(found, key)]
        wanted, here.refused = admit((*routes_of(asked), *held))
        targets = {**here.told, **{route.name: route for route in (*routes_of(readable), *wanted)}}
        kept = {route.name for route in wanted} | {
            found.owner.name
            for found in resources
            if not found.deleting and self._leads(found.owner) == key.name
        }
        drain = timedelta(seconds=self._settings.drain_seconds)
        routes = here.next(targets, kept, drain, self._clock(), self._moved)
        served = {route.name for route in routes}
        owners = [_owner(found) for found in resources if found.owner.name in served and not found.deleting]
        faults = {}
        # Routers whose ModelDeployments are all deleted, or on their way out, go with them.
        if owners:
            objects = router_objects(key.namespace, routes, self._settings, owners, key.name)
            objects = self._in_turn(key, objects, children)
            faults = await self._writer.apply(key, objects, lambda found: is_router(found, key.name))
            here.told = {route.name: route for route in routes}
            here.unwritten = next(iter(faults.values()), None)
            await self._touch(here, children)
        else:
            self._upgrades.note(key, None)
        if not owners and not self._lead_here(key):
            routes = []
            await self._writer.delete(_objects(children))
            here.told = {}
        self._tell(resources)
        if not routes and not self._store.children(key):
            del self._groups[key]
            self._groups_in[key.namespace].discard(key)
        return Result(requeue_after=self._patience(key, here, routes, wanted), failed=bool(faults))

    def _in_turn(
        self, key: Key, objects: Iterable[dict[str, Any]], children: Iterable[Manifest]
    ) -> list[dict[str, Any]]:
        """The objects; ready pods are replaced only if it is the turn of these routers."""
        there = list(children)
        found: list[dict[str, Any]] = []
        for made in objects:
            name = made["metadata"]["name"]
            live = next((child for child in _deployments(there) if child["metadata"]["name"] == name), None)
            if made["kind"] != ObjectKind.DEPLOYMENT:
                found.append(made)
            elif live is None or not ready(live):
                self._upgrades.note(key, None)
                found.append(made)
            elif not is_behind(live, made) or self._upgrades.may_begin(key):
                replaces = is_behind(live, made) or is_replacing(live)
                pods = (child for child in there if child["kind"] == ObjectKind.POD)
                phase = STUCK if is_late(live, pods, self._clock()) else UPGRADING
                self._upgrades.note(key, phase if replaces else None)
                found.append(made)
            else:
                self._upgrades.note(key, WAITING)
                same_pods = as_it_is(live, made)
                found += [same_pods] if same_pods is not None else []
        return found

    def is_blind(self, key: Key) -> bool:
        """Whether there are routers that were not looked at yet: nothing can be decided then."""
        return any(
            self._store.children(group) and not (group in self._groups and self._groups[group].looked)
            for group in _groups_of(key)
        )

    async def apply(self, desired: Resource, _: Observed, /) -> ObservedTraffic | None:
        """See :class:`slipway.engine.providers.Provider`; :meth:`follow` has the routers told."""
        return self.traffic(desired)

    def traffic(self, resource: Resource) -> ObservedTraffic | None:
        """What the routers were seen to do for a ModelDeployment, and to count since its last look.

        None where they have nothing to do for it.
        """
        traffic = self._done(resource)
        if traffic is None:
            return None
        shown = {name: state.arms for here in self._serving(resource) for name, state in here.states.items()}
        model = self._model(resource.owner)
        model.counter, arms = count_arms(model.counter, resource, shown, self.lives(resource), traffic)
        canary, stable = arms or (None, None)
        return replace(traffic, canary=canary, stable=stable)

    def lives(self, resource: Resource) -> dict[str, str]:
        """By name, the life of the counters of each router of a ModelDeployment that is ready and stays."""
        return {name: here.lives[name] for here in self._serving(resource) for name in here.routers}

    def free_port(self, resource: Resource) -> int | None:
        """A port of the namespace's routers for a ModelDeployment that needs one; None where none is left.

        No two ModelDeployments of a namespace have the same, so that each can move to the shared routers.
        """
        model = self._model(resource.owner)
        if isinstance(resource.spec, Fault) or not has_routers(resource.spec) or resource.status.routerPort:
            model.port = None
            return None
        taken = self._taken_ports(resource.owner)
        if model.port is None or model.port in taken:
            own = (found.told.get(resource.owner.name) for found in self._serving(resource))
            had = next((route.listener for route in own if route is not None), None)
            # What routers do for it already, should status have been lost.
            model.port = had if had is not None and had not in taken else free_port(taken)
        return model.port

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone; its routers have memories of their own, until they are gone too."""
        self._models.pop(key, None)

    def follow(self, key: Key) -> None:
        """Have routers looked at if they were told something else than a ModelDeployment asks for now."""
        resource = self._store.read(key)
        if resource is not None and resource.status_fault is not None:
            return
        for group in _groups_of(key):
            asked = [resource] if resource is not None and self._belongs(resource, group) else []
            wanted = next(iter(routes_of(asked)), None)
            known = self._groups[group].told.get(key.name) if group in self._groups else None
            if wanted != known or self._awaits(group, key):
                self._changed(group)

    def _model(self, owner: Owner) -> _Model:
        return self._models.setdefault(Key(owner.namespace, owner.name), _Model())

    def _belongs(self, resource: Resource, group: Key) -> bool:
        """Whether a ModelDeployment should have these routers, or its clients still come by them."""
        spec, owner = resource.spec, resource.owner
        if not isinstance(spec, Fault) and router_group(spec, owner.name) == group.name:
            return True
        return self._leads(owner) == group.name

    def _leads(self, owner: Owner) -> str | None:
        """The routers by which clients come to a ModelDeployment, as :func:`routed_group` names them."""
        children = self._store.children(Key(owner.namespace, owner.name))
        services = (found for found in children if found["kind"] == ObjectKind.SERVICE)
        return routed_group(
            next((found for found in services if found["metadata"]["name"] == owner.name), None)
        )

    def _lead_here(self, group: Key) -> bool:
        """Whether clients still come by these routers, though no ModelDeployment is there.

        One that was deleted without its children leaves them behind, for the next of its name.
        """
        services = self._store.services(group.namespace)
        return any(routed_group(found) == group.name and is_orphan(found) for found in services)

    def _serving(self, resource: Resource) -> list[Group]:
        """The groups that do something for a ModelDeployment, the one that it should have first."""
        owner, spec = resource.owner, resource.spec
        asked = None if isinstance(spec, Fault) or not has_routers(spec) else router_group(spec, owner.name)
        found: list[Group] = []
        for group in _groups_of(Key(owner.namespace, owner.name)):
            here = self._groups.get(group, Group())
            if group.name == asked:
                found.insert(0, here)
            elif owner.name in here.told:
                found.append(here)
        return found

    def _done(self, resource: Resource) -> ObservedTraffic | None:
        """What routers were seen to do for a ModelDeployment, without what they counted."""
        parts = [here.traffic(resource.owner.name) for here in self._serving(resource)]
        return merged(parts[0], parts[1:]) if parts else None

    def _taken_ports(self, owner: Owner) -> set[int]:
        """Ports of the namespace's other ModelDeployments."""
        here = owner.namespace
        others = [found for found in self._resources(Key(here, "", routers=True)) if found.owner != owner]
        taken = {found.status.routerPort for found in others if found.status.routerPort is not None}
        keys = (Key(here, found.owner.name) for found in others)
        known = (self._models[key] for key in keys if key in self._models)
        taken |= {found.port for found in known if found.port}
        groups = [self._groups[key] for key in self._groups_in.get(here, ())]
        taken |= {
            route.listener for found in groups for route in found.told.values() if route.name != owner.name
        }
        return taken

    def _resources(self, group: Key) -> list[Resource]:
        """The ModelDeployments that may come by these routers."""
        if not group.name:
            return self._store.resources_in(group.namespace)
        found = self._store.read(Key(group.namespace, group.name))
        return [found] if found is not None else []

    async def _look(self, here: Group, children: Iterable[Manifest]) -> None:
        """Read every router that is there, the leaving ones too: those still send traffic."""
        pods = [child for child in children if child["kind"] == ObjectKind.POD]
        alive = [pod for pod in pods if is_ready(pod) and (pod.get("status") or {}).get("podIP")]
        read_out = await asyncio.gather(*(self._read(endpoint_of(pod, ROUTER_ADMIN_PORT)) for pod in alive))
        here.states = {
            str(pod["metadata"]["name"]): state for pod, state in zip(alive, read_out, strict=True) if state
        }
        here.lives = {str(pod["metadata"]["name"]): life_of(pod, CONTAINER) for pod in alive}
        here.looked = True
        here.routers = tuple(
            str(pod["metadata"]["name"]) for pod in alive if not pod["metadata"].get("deletionTimestamp")
        )
        here.fault = None if here.routers else self._fault(here, children, pods)
        here.touched = {name: what for name, what in here.touched.items() if name in here.routers}

    def _fault(self, here: Group, children: Iterable[Manifest], pods: list[Manifest]) -> Fault | None:
        """Why there is no router: by admission, which refused an object or its pods, or by the pods."""
        deployments = (child for child in children if child["kind"] == ObjectKind.DEPLOYMENT)
        refused = (found for found in map(diagnose_deployment, deployments) if found is not None)
        return here.unwritten or next(refused, None) or diagnose_pods(pods, self._clock())

    async def _touch(self, here: Group, children: Iterable[Manifest]) -> None:
        """Make the kubelets of routers that lag behind bring the files now rather than within a minute.

        Again, later and later, where that did not help: a kubelet may look before it has heard of the change.
        """
        content = naming.content_hash(sorted(repr(route) for route in here.told.values()))
        for pod in children:
            name = str(pod["metadata"]["name"])
            if pod["kind"] != ObjectKind.POD or name not in here.routers:
                continue
            before, times, at = here.touched.get(name, ("", 0, self._clock()))
            times = times if before == content else 0
            if times and self._clock() - at < AGAIN * 2.0 ** (times - 1):
                continue
            state = here.states.get(name)
            if state is None or not all(state.does(route) for route in here.told.values()):
                await self._writer.touch(pod, f"{content}.{times}")
                here.touched[name] = (content, times + 1, self._clock())

    def _tell(self, resources: Iterable[Resource]) -> None:
        """Have every ModelDeployment looked at for which routers now do something else."""
        for resource in resources:
            found, model = self._done(resource), self._model(resource.owner)
            if model.seen != found:
                model.seen = found
                self._changed(Key(resource.owner.namespace, resource.owner.name))

    def _patience(self, key: Key, here: Group, routes: list[Route], wanted: list[Route]) -> float | None:
        if not routes:
            return None
        if not here.routers:
            return ROLLING
        if routes != wanted or not all(here.follows(route) for route in routes):
            lately = bool(here.asked) and self._clock() - min(here.asked.values()) < SOON
            return FOLLOWING if lately else ROLLING
        if any(self._awaits(key, Key(key.namespace, route.name)) for route in routes):
            return AWAITING
        return ROLLING if any(route.canary is not None for route in routes) else RESTING

    def _awaits(self, group: Key, key: Key) -> bool:
        """Whether a canary has ready pods that one of these routers does not find well yet."""
        here = self._groups.get(group, Group())
        route = here.told.get(key.name)
        if route is None or route.canary is None or not here.routers:
            return False
        revision = route.canary.revision
        ready = sum(
            is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
            for pod in observe(self._store.children(key)).pods(revision)
        )
        arms = (state.arms.get((key.name, revision)) for state in here.states.values())
        return ready > min((arm.healthy_pods if arm is not None else 0 for arm in arms), default=ready)


def _groups_of(key: Key) -> tuple[Key, Key]:
    """The routers that a ModelDeployment may have: those of its namespace, and its own."""
    return Key(key.namespace, "", routers=True), Key(key.namespace, key.name, routers=True)


def _is_held(resource: Resource) -> bool:
    return resource.status_fault is not None and not resource.deleting


def _told(children: Iterable[Manifest], model: str) -> tuple[Route, ...] | Fault:
    """What routers were told last, or why it cannot be read."""
    name = routes_map(model)
    for child in children:
        if child["kind"] == ObjectKind.CONFIG_MAP and child["metadata"]["name"] == name:
            try:
                return told(child)
            except ValueError as error:
                log.warning("the routers' ConfigMap cannot be read", extra={"error": str(error)})
                return Fault(
                    Reason.ROUTES_FROM_ANOTHER_VERSION,
                    f"routers go on as they are: ConfigMap {name} cannot be read ({error}); run the operator "
                    "that wrote it or a newer one, or delete that ConfigMap",
                )
    return ()


def _deployments(children: Iterable[Manifest]) -> Iterator[Manifest]:
    return (child for child in children if child["kind"] == ObjectKind.DEPLOYMENT)


def _owner(resource: Resource) -> dict[str, object]:
    """No controller: the routers belong to several."""
    return {**resource.owner.reference(), "controller": False, "blockOwnerDeletion": False}


#: The autoscaler first, so that it does not act on a Deployment that is going.
_ORDER = (
    ObjectKind.AUTOSCALER,
    ObjectKind.DISRUPTION_BUDGET,
    ObjectKind.DEPLOYMENT,
    ObjectKind.CONFIG_MAP,
    ObjectKind.SERVICE_ACCOUNT,
)


def _objects(children: Iterable[Manifest]) -> list[Manifest]:
    found = list(children)
    return [child for kind in _ORDER for child in found if child["kind"] == kind]
