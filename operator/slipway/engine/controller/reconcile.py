"""One ModelDeployment, from what is seen to what is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime

from slipway.api.access import key_addresses
from slipway.api.reasons import Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core import plan as planning
from slipway.core.allowed import access_fault, device_fault, issuer_fault
from slipway.core.objects.cluster_keys import kept_cluster_keys, needs_cluster_keys
from slipway.core.objects.issuer_keys import key_sets
from slipway.core.observed import Fault, Manifest, ObjectKind, ObjectReference, Observed, observe
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.revision import Settings
from slipway.core.rollout.interest import Interests
from slipway.core.status.decisions import decisions
from slipway.core.status.report import Report, report, report_foreign, report_unreadable
from slipway.core.upgrade import ready
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.audit_turns import AuditTurns
from slipway.engine.controller.claims import Claims
from slipway.engine.controller.resolvers import PATIENCE, Resolvers
from slipway.engine.controller.revisions import Memory
from slipway.engine.controller.routes import Routes
from slipway.engine.controller.traffic import TrafficView
from slipway.engine.controller.upgrades import Upgrades
from slipway.engine.observers.observers import Observers
from slipway.engine.ownership import is_orphan, is_owned
from slipway.engine.result import Result
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)
#: Has one line for each decision about a rollout.
decided = logging.getLogger("slipway.decisions")


class Reconciler:
    """Reads a ModelDeployment from the store, plans, writes, reports. Safe to repeat at any point."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        routes: Routes,
        traffic: TrafficView,
        observers: Observers,
        claims: Claims,
        upgrades: Upgrades,
        settings: Settings,
        clock: Callable[[], datetime],
        changed: Callable[[Key], None],
    ) -> None:
        """``clock`` tells the time, with a time zone; ``changed`` has a key worked on."""
        self._routes = routes
        self._traffic = traffic
        self._observers = observers
        self._claims = claims
        self._upgrades = upgrades
        self._store = store
        self._writer = writer
        self._settings = settings
        self._clock = clock
        #: Of each ModelDeployment that others may remember something of.
        self._uids: dict[Key, str] = {}
        self._memory = Memory()
        self._resolvers = Resolvers(store, changed, clock)
        self._audits = AuditTurns(store)

    async def reconcile(self, key: Key) -> Result:
        """Bring one ModelDeployment nearer to what it asks for.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        if not key.routers:
            self._forget_former(key)
        if key.namespace in self._store.unseen:
            return Result()
        if not await self._claims.hold(key):
            self._leave(key)
            return Result()
        if key.routers:
            return await self._routes.reconcile(key)
        outcome = await self._reconcile(key)
        self._routes.follow(key)
        return outcome

    def _forget_former(self, key: Key) -> None:
        """Have everybody forget a ModelDeployment that is gone, or gave way to another of its name."""
        resource = self._store.read(key)
        uid = resource.owner.uid if resource is not None else None
        if uid is None or self._uids.get(key, uid) != uid:
            keepers = (self._observers, self._traffic, self._routes, self._writer)
            for keeper in (*keepers, self._memory, self._resolvers):
                keeper.forget(key)
        if uid is None:
            self._uids.pop(key, None)
        else:
            self._uids[key] = uid

    async def _reconcile(self, key: Key) -> Result:
        manifest, resource, now = self._store.resource(key), self._store.read(key), self._clock()
        if manifest is None or resource is None or resource.deleting:
            # Its children go with it, by their owner reference.
            self._leave(key)
            return Result()
        resource = replace(resource, raw_status=manifest.get("status") or {})
        if resource.status_fault is not None or isinstance(resource.spec, Fault):
            self._leave(key)
            await self._say(manifest, _why_not(resource, now), now)
            return Result()
        refused = (
            access_fault(resource.spec, self._settings.access_required)
            or issuer_fault(resource.spec, self._settings.issuers)
            or device_fault(resource.spec, self._settings.cuda_image)
        )
        if refused is not None:
            self._leave(key)
            await self._say(manifest, report_unreadable(resource, refused, now), now)
            return Result()
        if self._routes.is_blind(key):
            return Result(requeue_after=1.0)
        if self._lacks_keys(key, resource, resource.spec):
            self._leave(key)
            fault = self._why_no_keys(resource.spec)
            if fault is not None:
                await self._say(manifest, report_unreadable(resource, fault, now), now)
            return Result()

        snapshot = self._snapshot(key, resource)
        planned = planning.plan(resource, resource.spec, snapshot, self._settings, now)
        self._note_upgrade(key, planned, snapshot)
        with self._audits.taken(key, planned.audits.job is not None):
            faults = await self._write(key, resource, planned)
        refused = faults.get(ObjectReference(ObjectKind.POD, planned.resolver))
        self._resolvers.note(key, planned.resolver, refused)
        after = observe(self._store.children(key), faults, snapshot.traffic, monitoring=snapshot.monitoring)
        after = replace(after, crashes=snapshot.crashes)
        await self._say(manifest, report(resource, resource.spec, planned, after, now), now)
        _log_decisions(resource, planned)
        self._observe(key, resource, planned, snapshot)
        return Result(requeue_after=_wait(planned, snapshot, now), failed=bool(faults))

    def _lacks_keys(self, key: Key, resource: Resource, spec: ModelDeploymentSpec) -> bool:
        """Whether its pods would start without the cluster's keys; whoever has them goes on with those."""
        needs = needs_cluster_keys(spec)
        self._observers.cluster_keys.subscribe(key, needs)
        self._observers.issuer_keys.subscribe(key, key_addresses(spec.access))
        observed = replace(observe(self._store.children(key)), issuer_keys=self._observers.issuer_keys.texts)
        if None in key_sets(spec, resource.owner, observed).values():
            return True
        if not needs or self._observers.cluster_keys.text is not None:
            return False
        return not kept_cluster_keys(resource.owner, observed)

    def _why_no_keys(self, spec: ModelDeploymentSpec) -> Fault | None:
        """None before they could be read."""
        for address in sorted(key_addresses(spec.access)):
            unread = self._observers.issuer_keys.error(address)
            if unread is not None:
                return Fault(Reason.ISSUER_KEYS_UNREAD, unread)
        unread = self._observers.cluster_keys.error if needs_cluster_keys(spec) else None
        return None if unread is None else Fault(Reason.CLUSTER_KEYS_UNREAD, unread)

    def _leave(self, key: Key) -> None:
        """Nothing is done for it: it has no turn, asks for nobody, and its endpoints are left alone."""
        self._upgrades.note(key, None)
        self._resolvers.leave(key)
        if key.routers:
            self._observers.routers.forget(key)
        else:
            self._routes.subscribe_look(key, None)
            self._observers.subscribe(key, Interests())

    def _snapshot(self, key: Key, resource: Resource) -> Observed:
        """All that is known: of the cluster by the store, and of the rest by the observers."""
        token = self._observers.aliases.refresh_token(resource)
        observed = observe(
            self._memory.complete(resource, self._store.children(key)),
            free_port=self._routes.free_port(resource),
            refresh_token=token,
            monitoring=self._observers.monitoring.monitoring(resource),
            refresh_fault=self._observers.aliases.fault(resource, token),
        )
        return replace(
            observed,
            traffic=self._traffic.of(resource, observed),
            crashes=self._observers.monitoring.crashes(resource),
            neighbour_resolver=self._resolvers.find(key, resource, token),
            neighbour_fault=self._resolvers.refusal(key),
            cluster_keys=self._observers.cluster_keys.text,
            issuer_keys=self._observers.issuer_keys.texts,
            may_upgrade=self._upgrades.may_begin(key),
            upgrades_halted=self._upgrades.is_halted,
            may_audit=self._audits.may_begin(key),
        )

    def _note_upgrade(self, key: Key, planned: Plan, snapshot: Observed) -> None:
        """Before anything else runs, so that no turn is given twice."""
        self._upgrades.note(
            key,
            # What a spec asks for is nobody's turn.
            planned.upgrade.phase if planned.upgrade is not None and planned.upgrade.cause is None else None,
            serves=any(ready(found) for found in snapshot.of(ObjectKind.DEPLOYMENT)),
        )

    async def _write(self, key: Key, resource: Resource, planned: Plan) -> Mapping[ObjectReference, Fault]:
        uid, name = resource.owner.uid, resource.owner.name

        def is_own(found: Manifest) -> bool:
            is_left = is_orphan(found) and found["metadata"]["labels"].get(naming.MODEL_LABEL) == name
            return is_owned(found, uid) or is_left

        faults = await self._writer.apply(key, planned.apply, is_own)
        await self._writer.delete(planned.delete)
        return faults

    async def _say(self, manifest: Manifest, told: Report, now: datetime) -> None:
        await self._writer.write_status(manifest, told.status)
        await self._writer.record_events(manifest, told.events, now)

    def _observe(self, key: Key, before: Resource, planned: Plan, snapshot: Observed) -> None:
        """Have observed what the next look needs, by what status says now."""
        self._observers.aliases.settle(before, snapshot.refresh_token, planned)
        resource = self._store.read(key)
        if resource is not None:
            self._traffic.subscribe(resource, snapshot.traffic)


def _log_decisions(before: Resource, planned: Plan) -> None:
    """Once status says them, so that no decision is told twice."""
    for found in decisions(before, planned):
        place = {"namespace": before.owner.namespace, "modeldeployment": before.owner.name}
        decided.info("decided", extra={**place, **asdict(found)})


def _why_not(resource: Resource, now: datetime) -> Report:
    """Why nothing is done for a ModelDeployment that cannot be read."""
    if resource.status_fault is not None:
        return report_foreign(resource, resource.status_fault, now)
    assert isinstance(resource.spec, Fault)
    return report_unreadable(resource, resource.spec, now)


def _wait(planned: Plan, snapshot: Observed, now: datetime) -> float | None:
    """Seconds until time alone may change anything, or None."""
    left = (planned.requeue_at - now).total_seconds() if planned.requeue_at is not None else None
    waits = (
        left,
        snapshot.traffic.wait if snapshot.traffic is not None else None,
        PATIENCE.total_seconds() if snapshot.neighbour_resolver is not None else None,
    )
    return min((wait for wait in waits if wait is not None), default=None)
