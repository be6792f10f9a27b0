"""The only writer: applies what is not there yet, deletes what is not wanted, and tells what it met with."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from slipway.api.reasons import Reason
from slipway.api.types import API_VERSION, GROUP, KIND
from slipway.core import naming
from slipway.core.diagnosis import knob_of
from slipway.core.objects.diff import contains, surplus
from slipway.core.observed import Fault, Manifest, ObjectKind, ObjectReference
from slipway.core.status.events import Event
from slipway.core.status.report import OF_OTHERS, REFRESH_REQUESTED
from slipway.core.upgrade import applied_mark, has_mark
from slipway.engine.controller.events import Events
from slipway.engine.controller.one_object import OneObject, place_of
from slipway.engine.errors import ApiError, NameTakenError, fault_of
from slipway.engine.kube import Kube
from slipway.engine.projection import WORKLOAD_MANAGER
from slipway.engine.store import Key, Store, owner_key

#: Field managers; fixed as that of children is.
STATUS_MANAGER = f"{GROUP}/status"
ROUTER_MANAGER = f"{GROUP}/router"
WEBHOOK_MANAGER = f"{GROUP}/webhook"
#: Of its own, since an apply that leaves ``replicas`` out would set them to 1.
SCALE_MANAGER = f"{GROUP}/scale"
#: Of its own, so that an operator that knows no claims does not take one away.
CLAIM_MANAGER = f"{GROUP}/claim"

log = logging.getLogger(__name__)


class Writer:
    """Brings children and status to what was planned, with as few requests as will do."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        identity: str,
        fit: Callable[[dict[str, Any]], dict[str, Any]] = lambda status: status,
    ) -> None:
        """
        Args:
            kube: the API.
            store: what the cluster holds; what is written goes there too.
            identity: names this operator in Events.
            fit: a status without what the installed CRD does not declare.
        """
        self._fit = fit
        self._kube = kube
        self._store = store
        self._events = Events(kube, identity)
        self._one = OneObject(kube, store)
        #: What the API server made of manifests that it rewrites: applying them again would change nothing.
        self._rewritten: dict[Key, dict[str, str]] = defaultdict(dict)
        #: What was taken back of others' changes of an object: when, and what it was like.
        self._taken_back: dict[Key, dict[str, list[tuple[float, str]]]] = defaultdict(dict)
        #: What was told of them to stay.
        self._left: dict[Key, dict[str, str]] = defaultdict(dict)

    async def apply(
        self, key: Key, manifests: Iterable[dict[str, Any]], is_own: Callable[[Manifest], bool]
    ) -> dict[ObjectReference, Fault]:
        """Apply manifests in their order; the faults of those that could not be.

        Args:
            key: whose they are.
            manifests: to be applied.
            is_own: whether an object that is there already may be taken over.

        Raises:
            ApiError: where all that can be done is to try again later.
        """
        live = {_name(child): child for child in self._store.children(key)}
        manifests = list(manifests)
        least = {
            found["spec"]["scaleTargetRef"]["name"]: int(found["spec"]["minReplicas"])
            for found in manifests
            if found["kind"] == ObjectKind.AUTOSCALER
        }
        if new := [f"{kind} {name}" for kind, name in map(_name, manifests) if (kind, name) not in live]:
            # One line for all of them.
            log.info("creating", extra={"key": str(key), "objects": ", ".join(new)})
        faults: dict[ObjectReference, Fault] = {}
        for manifest in manifests:
            name = str(manifest["metadata"]["name"])
            try:
                now = await self._apply_one(key, manifest, live.get((manifest["kind"], name)), is_own)
                if (
                    manifest["kind"] == ObjectKind.DEPLOYMENT
                    and now["spec"].get("replicas") == 0
                    and name in least
                ):
                    await self._switch_on(now, least[name])
            except (ApiError, NameTakenError) as error:
                fault = fault_of(error, knob_of(manifest))
                if fault is None:
                    raise
                faults[ObjectReference(ObjectKind(manifest["kind"]), name)] = fault
        return faults

    async def delete(self, children: Iterable[Manifest]) -> None:
        """Delete children by uid; pods stay known until they are gone, as they drain first."""
        for child in children:
            log.info("deleting", extra={"object": place_of(child)})
            await self._kube.delete(child)
            if (key := owner_key(child)) is not None:
                for memory in (self._rewritten, self._taken_back, self._left):
                    memory.get(key, {}).pop(place_of(child), None)
            if child["kind"] != ObjectKind.POD:
                self._store.remove(child)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone, and its children go with it."""
        self._rewritten.pop(key, None)
        self._events.forget(key)
        self._taken_back.pop(key, None)
        self._left.pop(key, None)

    async def request_refresh(self, key: Key, now: datetime) -> bool:
        """Note in status that a model is to be looked up again, which the leader sees; False without one."""
        manifest = self._store.resource(key)
        if manifest is None:
            return False
        asked = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {name: manifest["metadata"][name] for name in ("name", "namespace", "uid")},
            "status": {REFRESH_REQUESTED: now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
        }
        self._store.put(await self._kube.apply_status(asked, WEBHOOK_MANAGER))
        return True

    async def touch(self, pod: Manifest, content: str) -> None:
        """Note in a pod's annotations what its volumes hold, so that its kubelet brings them now.

        A kubelet otherwise looks at ConfigMaps once a minute or so.
        """
        meta = pod["metadata"]
        mark = {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
        annotations = {naming.TOUCHED_ANNOTATION: content}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {**mark, "annotations": annotations}}
        self._store.put(await self._kube.apply(manifest, ROUTER_MANAGER))

    async def write_status(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Write status if it says anything new.

        Raises:
            ApiError: 409 where it was made from an older state than the one that is known after that.
        """
        status = self._fit(status)
        if _own_status(manifest) != status:
            await self._apply_whole_status(manifest, status)

    async def _apply_whole_status(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Status as it is to be, also where others wrote some of it, as whoever restores a backup does.

        An apply takes back only what its manager wrote: the rest would stay, or be refused as half a block.
        """
        try:
            written = await self._apply_status(manifest, status, STATUS_MANAGER)
        except ApiError as error:
            if error.code != 422:
                raise
            written = manifest
        if written is not manifest and not _has_more(_own_status(written), status):
            return
        theirs = {name: value for name, value in _status(written).items() if name in OF_OTHERS}
        meta = written["metadata"]
        mark = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        whole = {"apiVersion": API_VERSION, "kind": KIND, "metadata": mark, "status": {**status, **theirs}}
        log.info(
            "replacing a status that others wrote", extra={"object": f"{meta['namespace']}/{meta['name']}"}
        )
        await self._write_status(manifest, self._kube.replace_status(whole, STATUS_MANAGER))

    async def claim(self, manifest: Manifest, operator: str) -> None:
        """Note in status which installation looks after a resource, before anything else is written for it.

        Raises:
            ApiError: 409 where somebody else wrote meanwhile.
        """
        await self._apply_status(manifest, {"operator": operator}, CLAIM_MANAGER)

    async def _apply_status(self, manifest: Manifest, status: dict[str, Any], manager: str) -> Manifest:
        meta = manifest["metadata"]
        # The version keeps a status that was made from the past from undoing what a later leader wrote, and
        # from reaching another resource of that name: the API server does not look at the uid of a status.
        mark = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion")}
        made = {"apiVersion": API_VERSION, "kind": KIND, "metadata": mark, "status": status}
        return await self._write_status(manifest, self._kube.apply_status(made, manager))

    async def _write_status(self, manifest: Manifest, request: Awaitable[Manifest]) -> Manifest:
        try:
            written = await request
        except ApiError as error:
            if error.code == 409:
                await self._one.read_again(manifest)
            raise
        self._store.put(written)
        return written

    async def record_events(self, manifest: Manifest, events: Iterable[Event], now: datetime) -> None:
        """Emit Events; one that cannot be written is no reason to do the work again."""
        await self._events.record(manifest, events, now)

    async def _switch_on(self, deployment: Manifest, replicas: int) -> None:
        """Give a Deployment pods again: at 0 its autoscaler is off for good, whatever its minimum."""
        log.info("a Deployment was scaled to 0", extra={"object": place_of(deployment)})
        operations = [{"op": "replace", "path": "/spec/replicas", "value": replicas}]
        self._store.put(await self._kube.patch(deployment, operations, SCALE_MANAGER))

    async def _take_back(self, key: Key, written: Manifest, wanted: Manifest) -> Manifest:
        """Remove what others put into lists of a pod template, which no apply can; told by an Event.

        Elsewhere, such as in the ports of a Service, it runs nothing as Slipway's: it stays, and is told.

        Once for each thing, and three times an hour: what comes again is put there by a webhook or a
        controller, and taking it away each time would replace the pods each time.
        """
        place, now = place_of(written), time.monotonic()
        # An autoscaler changes the rest all the time.
        essence = naming.content_hash({**(written.get("spec") or {}), "replicas": None})
        found = list(surplus(_template(written), _template(wanted), "/spec/template"))
        if not found:
            await self._tell_of_surplus(key, written, wanted, essence)
            return written
        before = [taken for taken in self._taken_back[key].get(place, ()) if now - taken[0] < 3600.0]
        where = f"{', '.join(found)} of {written['kind']} {written['metadata']['name']}"
        if len(before) >= 3 or essence in (taken[1] for taken in before):
            if self._left[key].get(place) != essence:
                await self._tell_of(key, f"{where} was put there by another again; it stays")
            self._left[key][place] = essence
            return written
        self._taken_back[key][place] = [*before, (now, essence)]
        operations = [{"op": "remove", "path": path} for path in found]
        left = await self._kube.patch(written, operations, WORKLOAD_MANAGER)
        self._store.put(left)
        stays = not contains(left, wanted)
        if stays:
            self._left[key][place] = naming.content_hash({**(left.get("spec") or {}), "replicas": None})
        await self._tell_of(
            key, f"{where} {'is put there by the cluster; it stays' if stays else 'was taken back'}"
        )
        return left

    async def _tell_of_surplus(self, key: Key, written: Manifest, wanted: Manifest, essence: str) -> None:
        place = place_of(written)
        found = list(surplus(written.get("spec"), wanted.get("spec"), "/spec"))
        if found and self._left[key].get(place) != essence:
            where = f"{', '.join(found)} of {written['kind']} {written['metadata']['name']}"
            await self._tell_of(key, f"{where} was put there by another; it stays")
            self._left[key][place] = essence

    async def _tell_of(self, key: Key, words: str) -> None:
        manifest = self._store.resource(key)
        if manifest is not None:
            message = f"{words}; change the ModelDeployment or the chart's values instead"
            await self.record_events(
                manifest, [Event(False, Reason.FOREIGN_CHANGE, message)], datetime.now(UTC)
            )

    async def _apply_one(
        self,
        key: Key,
        manifest: dict[str, Any],
        live: Manifest | None,
        is_own: Callable[[Manifest], bool],
    ) -> Manifest:
        """The object as it is now."""
        mark = applied_mark(manifest)
        wanted = _annotated(manifest, mark)
        place = place_of(manifest)
        if (
            live is not None
            and has_mark(live, mark)
            and (contains(live, wanted) or self._rewritten.get(key, {}).get(place) == _essence(live))
        ):
            return live
        written = await self._one.write(wanted, live, is_own)
        self._store.put(written)
        if not contains(written, wanted):
            written = await self._take_back(key, written, wanted)
        if not contains(written, wanted):
            log.warning("the API server rewrote a manifest", extra={"object": place})
            self._rewritten[key][place] = _essence(written)
        elif key in self._rewritten:
            self._rewritten[key].pop(place, None)
        return written


def _status(manifest: Manifest) -> Mapping[str, Any]:
    return manifest.get("status") or {}


def _own_status(manifest: Manifest) -> dict[str, Any]:
    """Status without what is written under other managers."""
    return {name: value for name, value in _status(manifest).items() if name not in OF_OTHERS}


def _has_more(found: Any, wanted: Any) -> bool:
    """Whether anything is in an object that is not wanted there; what differs otherwise does not count."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return any(name not in wanted or _has_more(value, wanted[name]) for name, value in found.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) > len(wanted) or any(map(_has_more, found, wanted))
    return False


def _annotated(manifest: dict[str, Any], mark: str) -> dict[str, Any]:
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), naming.APPLIED_ANNOTATION: mark}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


def _essence(live: Manifest) -> str:
    """Hash of what a person would call the object's content."""
    content: Mapping[str, Any] = {
        key: value for key, value in live.items() if key not in ("metadata", "status")
    }
    return naming.content_hash(content)


def _template(manifest: Manifest) -> Any:
    return (manifest.get("spec") or {}).get("template")


def _name(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
