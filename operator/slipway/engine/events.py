"""Events of ModelDeployments: what happens again is counted, and no object has more than a few of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from slipway.api.types import API_VERSION, GROUP, KIND
from slipway.core import names
from slipway.core.observed import Manifest
from slipway.core.status.notices import Notice
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

    async def tell(self, manifest: Manifest, notices: Iterable[Notice], now: datetime) -> None:
        """Write an Event for each notice, or count it where it was told before."""
        for notice in notices:
            try:
                await self._tell(manifest, notice, now)
            except ApiError as error:
                log.warning("event not written", extra={"reason": notice.reason.value, "error": str(error)})

    async def _tell(self, manifest: Manifest, notice: Notice, now: datetime) -> None:
        meta = manifest["metadata"]
        here = self._of(Key(meta["namespace"], meta["name"]), meta["uid"], now)
        what = (notice.normal, notice.reason.value, notice.message)
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
            log.info("too many events of one object", extra={"reason": notice.reason.value})
            return
        here.left -= 1.0
        event = self._event(meta, notice, now)
        here.told[what] = _Told(event["metadata"]["name"], now, now)
        await self._kube.emit(meta["namespace"], event)

    def _of(self, key: Key, uid: str, now: datetime) -> _Object:
        here = self._objects.get(key)
        if here is None or here.uid != uid:
            here = self._objects[key] = _Object(uid, now)
        here.left = min(float(BURST), here.left + (now - here.since) / REFILL)
        here.since = now
        here.told = {what: told for what, told in here.told.items() if now - told.at < SERIES}
        return here

    def _event(self, meta: Manifest, notice: Notice, now: datetime) -> dict[str, Any]:
        mark = names.content_hash([meta["uid"], notice.reason.value, notice.message, now.timestamp()])
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{mark}", "namespace": meta["namespace"]},
            "eventTime": _time(now),
            "type": "Normal" if notice.normal else "Warning",
            "reason": notice.reason.value,
            "note": notice.message[:1024],
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
