"""Events of ModelDeployments: what happens again is counted, and no object has more than a few of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from slipway.api.types import API_VERSION, GROUP, KIND
from slipway.core import naming
from slipway.core.observed import Manifest
from slipway.core.status.events import Event
from slipway.engine.errors import ApiError
from slipway.engine.kube import Kube
from slipway.engine.store import Key

log = logging.getLogger(__name__)

#: Events that one object may have at once, and the time after which it may have one more; as client-go's.
BURST, REFILL = 25, timedelta(minutes=5)
#: What happens again is written down no more often than this.
REPEAT = timedelta(seconds=30)
#: An Event that was not seen again for so long is over, and the next one is another.
SERIES = timedelta(minutes=30)


@dataclass
class _Told:
    """An Event that was written."""

    name: str
    at: datetime
    written: datetime
    count: int = 1


@dataclass
class _Object:
    """What is remembered of one object."""

    uid: str
    since: datetime
    left: float = BURST
    told: dict[tuple[bool, str, str], _Told] = field(default_factory=dict)


class Events:
    """Writes Events; one that cannot be written is no reason to do the work again."""

    def __init__(self, kube: Kube, identity: str) -> None:
        """``identity`` names this operator in them."""
        self._kube = kube
        self._identity = identity
        self._objects: dict[Key, _Object] = {}

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._objects.pop(key, None)

    async def record(self, manifest: Manifest, events: Iterable[Event], now: datetime) -> None:
        """Write an Event for each event, or count it where it was told before."""
        for event in events:
            try:
                await self._record(manifest, event, now)
            except ApiError as error:
                log.warning("event not written", extra={"reason": event.reason.value, "error": str(error)})

    async def _record(self, manifest: Manifest, event: Event, now: datetime) -> None:
        meta = manifest["metadata"]
        here = self._of(Key(meta["namespace"], meta["name"]), meta["uid"], now)
        what = (event.normal, event.reason.value, event.message)
        told = here.told.get(what)
        if told is not None:
            told.count, told.at = told.count + 1, now
            if now - told.written < REPEAT:
                return
            told.written = now
            try:
                series = {"count": told.count, "lastObservedTime": _time(now)}
                await self._kube.repeat(meta["namespace"], told.name, series)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
                # The API server keeps Events for an hour or so.
        if here.left < 1.0:
            log.info("too many events of one object", extra={"reason": event.reason.value})
            return
        here.left -= 1.0
        event_object = self._event(meta, event, now)
        here.told[what] = _Told(event_object["metadata"]["name"], now, now)
        await self._kube.emit(meta["namespace"], event_object)

    def _of(self, key: Key, uid: str, now: datetime) -> _Object:
        here = self._objects.get(key)
        if here is None or here.uid != uid:
            here = self._objects[key] = _Object(uid, now)
        here.left = min(float(BURST), here.left + (now - here.since) / REFILL)
        here.since = now
        here.told = {what: told for what, told in here.told.items() if now - told.at < SERIES}
        return here

    def _event(self, meta: Manifest, event: Event, now: datetime) -> dict[str, Any]:
        mark = naming.content_hash([meta["uid"], event.reason.value, event.message, now.timestamp()])
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{mark}", "namespace": meta["namespace"]},
            "eventTime": _time(now),
            "type": "Normal" if event.normal else "Warning",
            "reason": event.reason.value,
            "note": event.message[:1024],
            "action": "Reconcile",
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._identity[:128],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
            },
        }


def _time(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
