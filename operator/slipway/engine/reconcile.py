"""One ModelDeployment, from what is seen to what is written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from slipway.core import plan as planning
from slipway.core.observed import Fault, observe
from slipway.core.resource import read
from slipway.core.revision import Settings
from slipway.core.status import report, report_unreadable
from slipway.engine.apply import Writer
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What is left to do for a key.

    Attributes:
        requeue_after: seconds until it should be looked at again though nothing changed, or None.
        failed: whether something could not be written; it is tried again with back-off.
    """

    requeue_after: float | None = None
    failed: bool = False


class Reconciler:
    """Reads a ModelDeployment from the store, plans, writes, reports. Safe to repeat at any point."""

    def __init__(
        self, store: Store, writer: Writer, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        """``clock`` tells the time, with a time zone."""
        self._store = store
        self._writer = writer
        self._settings = settings
        self._clock = clock

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one ModelDeployment nearer to what it asks for.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """
        manifest = self._store.resource(key)
        if manifest is None:
            return Outcome()
        resource = read(manifest)
        if resource.deleting:
            # Its children go with it, by their owner reference.
            return Outcome()
        now = self._clock()
        if isinstance(resource.spec, Fault):
            told = report_unreadable(resource, resource.spec, now)
            await self._writer.write_status(manifest, told.status)
            await self._writer.tell(manifest, told.notices, now)
            return Outcome()

        planned = planning.plan(
            resource, resource.spec, observe(self._store.children(key)), self._settings, now
        )
        faults = await self._writer.apply(resource, planned.apply)
        await self._writer.delete(planned.delete)
        told = report(resource, resource.spec, planned, observe(self._store.children(key), faults), now)
        await self._writer.write_status(manifest, told.status)
        await self._writer.tell(manifest, told.notices, now)
        requeue_after = (planned.requeue_at - now).total_seconds() if planned.requeue_at else None
        return Outcome(requeue_after=requeue_after, failed=bool(faults))
