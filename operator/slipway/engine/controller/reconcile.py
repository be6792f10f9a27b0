"""One ModelDeployment, from what is seen to what is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from slipway.core import naming
from slipway.core import plan as planning
from slipway.core.observed import Fault, Manifest, ObjectKind, observe
from slipway.core.revision import Settings
from slipway.core.status.report import report, report_foreign, report_unreadable
from slipway.core.upgrade import ready
from slipway.engine.controller.apply import Writer
from slipway.engine.controller.claims import Claims
from slipway.engine.controller.revisions import Memory
from slipway.engine.controller.upgrades import Upgrades
from slipway.engine.observers.aliases import Aliases
from slipway.engine.observers.evidence import Evidence
from slipway.engine.observers.monitoring import Judge
from slipway.engine.observers.routers import Routers
from slipway.engine.result import Result
from slipway.engine.store import Key, Store, is_orphan, is_owned

log = logging.getLogger(__name__)


class Reconciler:
    """Reads a ModelDeployment from the store, plans, writes, reports. Safe to repeat at any point."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        routers: Routers,
        evidence: Evidence,
        aliases: Aliases,
        judge: Judge,
        claims: Claims,
        upgrades: Upgrades,
        settings: Settings,
        clock: Callable[[], datetime],
    ) -> None:
        """``clock`` tells the time, with a time zone."""
        self._routers = routers
        self._evidence = evidence
        self._aliases = aliases
        self._judge = judge
        self._claims = claims
        self._upgrades = upgrades
        self._store = store
        self._writer = writer
        self._settings = settings
        self._clock = clock
        #: Of each ModelDeployment that others may remember something of.
        self._uids: dict[Key, str] = {}
        self._memory = Memory()

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
            self._upgrades.note(key, None)
            return Result()
        if key.routers:
            return await self._routers.reconcile(key)
        outcome = await self._reconcile(key)
        self._routers.follow(key)
        return outcome

    def _forget_former(self, key: Key) -> None:
        """Have everybody forget a ModelDeployment that is gone, or gave way to another of its name."""
        resource = self._store.read(key)
        uid = resource.owner.uid if resource is not None else None
        if uid is None or self._uids.get(key, uid) != uid:
            remembering = (self._routers, self._evidence, self._aliases, self._judge, self._writer)
            for keeper in (*remembering, self._memory):
                keeper.forget(key)
        if uid is None:
            self._uids.pop(key, None)
        else:
            self._uids[key] = uid

    async def _reconcile(self, key: Key) -> Result:
        manifest, resource = self._store.resource(key), self._store.read(key)
        if manifest is None or resource is None:
            self._upgrades.note(key, None)
            return Result()
        if resource.deleting:
            # Its children go with it, by their owner reference.
            self._upgrades.note(key, None)
            return Result()
        now = self._clock()
        if resource.status_fault is not None:
            self._upgrades.note(key, None)
            told = report_foreign(resource, resource.status_fault, now)
            await self._writer.write_status(manifest, told.status)
            await self._writer.record_events(manifest, told.events, now)
            return Result()
        if isinstance(resource.spec, Fault):
            self._upgrades.note(key, None)
            told = report_unreadable(resource, resource.spec, now)
            await self._writer.write_status(manifest, told.status)
            await self._writer.record_events(manifest, told.events, now)
            return Result()

        if self._routers.is_blind(key):
            return Result(requeue_after=1.0)
        port, token = self._routers.free_port(resource), self._aliases.refresh_token(resource)
        monitoring = self._judge.monitoring(resource)
        children = self._memory.complete(resource, self._store.children(key))
        refresh = self._aliases.fault(resource, token)
        observed = observe(
            children, free_port=port, refresh_token=token, monitoring=monitoring, refresh_fault=refresh
        )
        traffic = await self._evidence.gather(resource, observed)
        # From here to the note nothing else runs: no turn is given twice.
        observed = replace(
            observed,
            traffic=traffic,
            may_upgrade=self._upgrades.may_begin(key),
            upgrades_halted=self._upgrades.is_halted,
        )
        planned = planning.plan(resource, resource.spec, observed, self._settings, now)
        self._upgrades.note(
            key,
            planned.upgrade.phase if planned.upgrade is not None else None,
            serves=any(ready(found) for found in observed.of(ObjectKind.DEPLOYMENT)),
        )
        uid, name = resource.owner.uid, resource.owner.name

        def is_own(found: Manifest) -> bool:
            is_left = is_orphan(found) and found["metadata"]["labels"].get(naming.MODEL_LABEL) == name
            return is_owned(found, uid) or is_left

        faults = await self._writer.apply(key, planned.apply, is_own)
        await self._writer.delete(planned.delete)
        after = observe(self._store.children(key), faults, traffic, monitoring=monitoring)
        told = report(resource, resource.spec, planned, after, now)
        await self._writer.write_status(manifest, told.status)
        self._aliases.settle(resource, token, planned)
        await self._writer.record_events(manifest, told.events, now)
        waits = [(planned.requeue_at - now).total_seconds()] if planned.requeue_at else []
        if (wait := self._evidence.retry_after(key, traffic)) is not None:
            waits.append(wait)
        return Result(requeue_after=min(waits, default=None), failed=bool(faults))
