"""What the routers of namespaces and of ModelDeployments are told, and what they were seen to do of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from slipway.api.pods import NOTHING
from slipway.core import naming
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods
from slipway.core.endpoint import ready_pods
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Fault, Manifest, ObjectKind, ObservedTraffic, is_ready, observe
from slipway.core.pod_counters import life_of
from slipway.core.resource import Resource
from slipway.core.rollout.arms import Shown
from slipway.core.traffic.envoy.config import admit
from slipway.core.traffic.envoy.objects import (
    CONTAINER,
    RouterSettings,
    is_router,
    router_objects,
)
from slipway.core.traffic.envoy.routes import Route
from slipway.core.traffic.polling import FOLLOWING, RESTING, ROLLING, RouterInterest, poll_seconds
from slipway.core.traffic.routed import (
    has_routers,
    is_shared,
    merged,
    routed_group,
    router_group,
    routes_of,
    shared_group,
)
from slipway.core.upgrade import as_it_is, is_late, is_of_one_installation, is_replacing, ready
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.ports import Ports
from slipway.engine.controller.router_group import Group
from slipway.engine.controller.router_objects import (
    deployments,
    in_order_of_deletion,
    is_held,
    owner_reference,
    pod_options,
    told_to,
)
from slipway.engine.controller.upgrades import STUCK, UPGRADING, WAITING, Upgrades
from slipway.engine.observers.routers import RouterObserver
from slipway.engine.result import Result
from slipway.engine.store import Key, Store

#: How long a router that was made to look may take before it is made to look again; then twice as long.
AGAIN = timedelta(seconds=1)


class Routes:
    """Follows what the ModelDeployments' status says, and tells them what their routers were seen to do."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        settings: RouterSettings,
        observer: RouterObserver,
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
            observer: reads the routers.
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
        self._observer = observer
        self._changed = changed
        self._clock = clock
        self._groups: dict[Key, Group] = {}
        self._groups_in: dict[str, set[Key]] = {}
        self._ports = Ports(store)
        #: What each ModelDeployment was last told that routers do for it.
        self._seen: dict[Key, ObservedTraffic | None] = {}

    async def reconcile(self, key: Key) -> Result:
        """Bring a group of routers nearer to what its ModelDeployments ask of it.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        here = self._groups.setdefault(key, Group())
        self._groups_in.setdefault(key.namespace, set()).add(key)
        children = self._store.children(key)
        told_before = told_to(children, key.name)
        if not isinstance(told_before, Fault):
            here.told = {route.name: route for route in told_before}
        resources = self._resources(key, here)
        if not here.take(children, self._observer.reading(key)):
            # It comes back with what is read.
            self._subscribe(key, here, children, FOLLOWING)
            return Result()
        here.fault = None if here.routers else self._fault(here, children)
        if isinstance(told_before, Fault):
            # Whatever would be written could take away what they serve.
            here.fault = told_before
            self._tell(resources)
            self._subscribe(key, here, children, RESTING)
            return Result(requeue_after=RESTING)
        readable = [found for found in resources if found.status_fault is None]
        # What a status asks for that cannot be read is what routers were told last.
        held = [
            here.told[found.owner.name]
            for found in resources
            if is_held(found) and found.owner.name in here.told
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
        owners = [
            owner_reference(found) for found in resources if found.owner.name in served and not found.deleting
        ]
        faults = {}
        # Routers whose ModelDeployments are all deleted, or on their way out, go with them.
        if owners:
            own = NOTHING if is_shared(key.name) else pod_options(resources)
            objects = router_objects(key.namespace, routes, self._settings, owners, key.name, own or NOTHING)
            if own is None:
                # What their pods are to have cannot be read; those that are there stay.
                objects = [found for found in objects if found["kind"] != ObjectKind.DEPLOYMENT]
            objects = self._in_turn(key, objects, children)
            faults = await self._writer.apply(key, objects, lambda found: is_router(found, key.name))
            here.tell(routes, self._clock())
            here.unwritten = next(iter(faults.values()), None)
            await self._touch(here, children)
        else:
            self._upgrades.note(key, None)
        if not owners and not self._lead_here(key):
            routes = []
            await self._writer.delete(in_order_of_deletion(children))
            here.told = {}
        self._tell(resources)
        if not routes and not self._store.children(key):
            self._forget_group(key)
            return Result(failed=bool(faults))
        settled = routes == wanted and all(here.follows(route) for route in routes)
        seconds = self._poll_seconds(key, here, routes, settled) if routes else RESTING
        self._subscribe(key, here, self._store.children(key), seconds)
        waits = ROLLING if not here.routers else RESTING if settled else AGAIN.total_seconds()
        return Result(requeue_after=waits if routes else None, failed=bool(faults))

    def _in_turn(
        self, key: Key, objects: Iterable[dict[str, Any]], children: Iterable[Manifest]
    ) -> list[dict[str, Any]]:
        """The objects; ready pods are replaced only if it is the turn of these routers."""
        there = list(children)
        found: list[dict[str, Any]] = []
        for made in objects:
            name = made["metadata"]["name"]
            live = next((child for child in deployments(there) if child["metadata"]["name"] == name), None)
            if made["kind"] != ObjectKind.DEPLOYMENT:
                found.append(made)
            elif live is None or not ready(live):
                self._upgrades.note(key, None)
                found.append(made)
            elif is_of_one_installation(live, made) or self._upgrades.may_begin(key):
                had, of_spec = self._upgrades.has_turn(key), is_of_one_installation(live, made)
                replaces = not of_spec or (had and is_replacing(live))
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
        """Whether there are routers that nobody has looked at yet: nothing can be decided then."""
        unseen = (
            group
            for group in self._groups_of(key)
            if group not in self._groups or not self._groups[group].seen
        )
        return any(self._store.children(group) for group in unseen)

    def traffic(self, resource: Resource) -> ObservedTraffic | None:
        """What routers were seen to do for a ModelDeployment; None where they have nothing to do for it."""
        parts = [here.traffic(resource.owner.name) for here in self._serving(resource)]
        return merged(parts[0], parts[1:]) if parts else None

    def shown(self, resource: Resource, after: datetime) -> dict[str, Shown] | None:
        """What all routers of a ModelDeployment count, by life; None where that is not known as of a time."""
        found = {
            life: state
            for key, here in self._keyed(resource)
            for life, state in here.living(self._observer.reading(key), after).items()
        }
        shown = {life: state.arms for life, state in found.items() if state is not None}
        return shown if found and len(shown) == len(found) else None

    def lives(self, resource: Resource) -> dict[str, str]:
        """By name, the life of the counters of each router of a ModelDeployment that is ready and stays."""
        return {name: here.lives[name] for here in self._serving(resource) for name in here.routers}

    def free_port(self, resource: Resource) -> int | None:
        """See :meth:`slipway.engine.controller.ports.Ports.free`."""
        groups = (self._groups[key] for key in self._groups_in.get(resource.owner.namespace, ()))
        return self._ports.free(resource, (route for here in groups for route in here.told.values()))

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone; its routers have memories of their own, until they are gone too."""
        self._seen.pop(key, None)
        self._ports.forget(key)
        self.subscribe_look(key, None)

    def subscribe_look(self, key: Key, due: datetime | None) -> None:
        """Have a ModelDeployment's routers read when its look is due; None where it needs none of that."""
        for group in self._groups_of(key):
            serves = group in self._groups and key.name in self._groups[group].told
            self._observer.subscribe_look(group, key, due if serves else None)

    def follow(self, key: Key) -> None:
        """Have routers looked at if they were told something else than a ModelDeployment asks for now."""
        resource = self._store.read(key)
        if resource is not None and resource.status_fault is not None:
            return
        for group in self._groups_of(key):
            asked = [resource] if resource is not None and self._belongs(resource, group) else []
            wanted = next(iter(routes_of(asked)), None)
            known = self._groups[group].told.get(key.name) if group in self._groups else None
            if wanted != known or self._awaits(group, key):
                self._changed(group)

    def _belongs(self, resource: Resource, group: Key) -> bool:
        """Whether a ModelDeployment should have these routers, or its clients still come by them."""
        spec, owner = resource.spec, resource.owner
        if (
            not isinstance(spec, Fault)
            and router_group(spec, owner.name, resource.status.routerPort) == group.name
        ):
            return True
        return self._leads(owner) == group.name

    def _leads(self, owner: Owner) -> str | None:
        """The routers by which clients come to a ModelDeployment, as :func:`routed_group` names them."""
        key = Key(owner.namespace, owner.name)
        return routed_group(self._store.child(key, ObjectKind.SERVICE, owner.name))

    def _lead_here(self, group: Key) -> bool:
        """Whether clients still come by these routers, though no ModelDeployment is there.

        One that is deleted without its children leaves them behind, for the next of its name. Where they go
        with it, the collector takes the Service, and these routers too: what the watch has not told yet of a
        Service that is there may be that it has no owner any more.
        """
        services = self._store.services(group.namespace)
        return any(
            routed_group(found) == group.name and "deletionTimestamp" not in found["metadata"]
            for found in services
        )

    def _serving(self, resource: Resource) -> list[Group]:
        return [here for _, here in self._keyed(resource)]

    def _keyed(self, resource: Resource) -> list[tuple[Key, Group]]:
        """The groups that do something for a ModelDeployment, the one that it should have first."""
        owner, spec = resource.owner, resource.spec
        asked = None
        if not isinstance(spec, Fault) and has_routers(spec):
            asked = router_group(spec, owner.name, resource.status.routerPort)
        found: list[tuple[Key, Group]] = []
        for group in self._groups_of(Key(owner.namespace, owner.name)):
            here = self._groups.get(group, Group())
            if group.name == asked:
                found.insert(0, (group, here))
            elif owner.name in here.told:
                found.append((group, here))
        return found

    def _groups_of(self, key: Key) -> list[Key]:
        """The routers that a ModelDeployment may have: its own, and those that its namespace shares."""
        resource = self._store.read(key)
        asked = shared_group(resource.status.routerPort if resource is not None else None)
        shared = {"", asked, *self._store.shared_routers(key.namespace)}
        return [Key(key.namespace, name, routers=True) for name in (*sorted(shared), key.name)]

    def _resources(self, group: Key, here: Group) -> list[Resource]:
        """The ModelDeployments that these routers serve, or are to serve."""
        if is_shared(group.name):
            there = self._store.resources_in(group.namespace)
            return [found for found in there if found.owner.name in here.told or self._belongs(found, group)]
        found = self._store.read(Key(group.namespace, group.name))
        return [found] if found is not None else []

    def _fault(self, here: Group, children: Iterable[Manifest]) -> Fault | None:
        """Why there is no router: by admission, which refused an object or its pods, or by the pods."""
        pods = [child for child in children if child["kind"] == ObjectKind.POD]
        now = self._clock()
        refused = (
            fault for found in deployments(children) if (fault := diagnose_deployment(found, now)) is not None
        )
        return here.unwritten or next(refused, None) or diagnose_pods(pods, now)

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
            found, key = self.traffic(resource), Key(resource.owner.namespace, resource.owner.name)
            if self._seen.get(key) != found:
                self._seen[key] = found
                self._changed(key)

    def _poll_seconds(self, key: Key, here: Group, routes: list[Route], settled: bool) -> float:
        return poll_seconds(
            bool(here.routers),
            settled,
            min(here.asked.values(), default=None),
            any(self._awaits(key, Key(key.namespace, route.name)) for route in routes),
            any(route.canary is not None for route in routes),
            self._clock(),
        )

    def _subscribe(self, key: Key, here: Group, children: Iterable[Manifest], seconds: float) -> None:
        lives = frozenset(life_of(pod, CONTAINER) for pod in ready_pods(children))
        self._observer.subscribe(key, RouterInterest(seconds, lives, here.wanted_after))

    def _forget_group(self, key: Key) -> None:
        self._observer.forget(key)
        del self._groups[key]
        self._groups_in[key.namespace].discard(key)
        if not self._groups_in[key.namespace]:
            del self._groups_in[key.namespace]

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
