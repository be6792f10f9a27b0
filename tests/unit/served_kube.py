"""The fake API server behind HTTP, so that clients, kopf and whole processes can speak to it.

It adds what only HTTP shows: discovery, watches and their history, lists page by page, Leases, selectors,
faults in their shape on the wire, and a log of who asked for what.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from slipway.core.observed import Manifest
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, ApiResource
from tests.unit.fake import FakeKube, Place, copied, place_of

_ALL: Mapping[str, ApiResource] = {
    **RESOURCES,
    "Lease": ApiResource("coordination.k8s.io", "v1", "leases"),
    "Event": ApiResource("events.k8s.io", "v1", "events"),
}


@dataclass(frozen=True)
class Logged:
    """One request: when it arrived by the loop's clock, whose token it bore, and how it ended."""

    at: float
    caller: str
    method: str
    path: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it could have changed something, other than a Lease."""
        return self.method not in ("GET", "HEAD") and "/leases" not in self.path


@dataclass
class ServedKube:
    """Serves a :class:`FakeKube`.

    Attributes:
        kube: what is served.
        log: every request, by its end.
        hanging: whose requests are taken and not answered; "*" for all.
        hangs_for: which requests, by caller and path, are not answered either.
        refusing: whose connections are broken.
    """

    kube: FakeKube
    log: list[Logged] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    hangs_for: Callable[[str, str], bool] = lambda _caller, _path: False

    def __post_init__(self) -> None:
        self._history: list[tuple[int, str, Manifest]] = []
        #: Of the oldest state that is still known.
        self._oldest = self.kube._version
        self._changed = asyncio.Event()
        self._names = 0
        for place in self.kube.places():
            self._tell("ADDED", self.kube.find(*place))
        self.kube.listeners.append(self._tell)

    def compact(self) -> None:
        """Forget the past, as etcd does every few minutes; watches under way end."""
        self._oldest = self.kube._version
        self._wake()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer one request and write it down."""
        caller = request.headers.get("Authorization", "").removeprefix("Bearer ")
        at = asyncio.get_running_loop().time()
        code = 0
        try:
            response = await self._faulty(request, caller)
            code = response.status
            return response
        finally:
            self.log.append(Logged(at, caller, request.method, request.path_qs, code))

    async def _faulty(self, request: web.Request, caller: str) -> web.StreamResponse:
        while self.hanging & {caller, "*"} or self.hangs_for(caller, request.path):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if self.refusing & {caller, "*"}:
            assert request.transport is not None
            request.transport.close()
            return web.Response(status=503)
        try:
            return await self._answer(request)
        except LookupError:
            # Not even a Status.
            return web.Response(text="404 page not found\n", status=404)
        except ApiError as error:
            return web.json_response(_status(error), status=error.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/api", "/apis") or any(request.path == _root(found) for found in _ALL.values()):
            return web.json_response(_discovery(request.path))
        kind, namespace, name, subresource = _parse(request.path)
        if kind in self.kube.unknown:
            raise LookupError(kind)
        if request.method == "GET" and name is None:
            if request.query.get("watch") in ("1", "true"):
                return await self._watch(request, kind, namespace)
            return web.json_response(self._list(request.query, kind, namespace))
        body = json.loads(await request.text() or "{}")
        if request.method == "GET":
            return web.json_response(self._find(kind, namespace, name))
        if request.method == "PATCH":
            return web.json_response(
                await self._apply(request, (kind, str(namespace), str(name)), body, subresource)
            )
        if request.method == "POST":
            manager = request.query.get("fieldManager")
            made = (
                await self._create(kind, str(namespace), body)
                if manager is None
                else await self.kube.create({**body, "kind": kind}, manager)
            )
            return web.json_response(made, status=201)
        if request.method == "PUT":
            return web.json_response(self._replace(kind, namespace, name, body))
        if request.method == "DELETE":
            live = self._find(kind, namespace, name)
            uid = (body.get("preconditions") or {}).get("uid")
            if uid not in (None, live["metadata"]["uid"]):
                raise _mismatch(kind, str(name), uid, live["metadata"]["uid"])
            await self.kube.delete(live)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        raise ApiError(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def _find(self, kind: str, namespace: str | None, name: str | None) -> dict[str, Any]:
        place = (kind, str(namespace), str(name))
        if not self.kube.has(*place):
            raise ApiError(404, "NotFound", f'{_ALL[kind].plural} "{name}" not found')
        return self.kube.find(*place)

    async def _apply(
        self, request: web.Request, place: Place, body: Any, subresource: str | None
    ) -> Manifest:
        manager = request.query["fieldManager"]
        if request.content_type == "application/json-patch+json":
            values = {operation["path"]: operation.get("value") for operation in body}
            kind, namespace, name = place
            meta = {"namespace": namespace, "name": name, "uid": values["/metadata/uid"]}
            meta["resourceVersion"] = values["/metadata/resourceVersion"]
            if subresource == "status":
                whole = {"kind": kind, "metadata": meta, "status": values["/status"]}
                return await self.kube.replace_status(whole, manager)
            return await self.kube.patch({"kind": kind, "metadata": meta}, body[2:], manager)
        body = {**body, "kind": place[0]}
        if request.query.get("force") != "true":
            self.kube.refuse_conflicts(place, body, manager)
        if subresource == "status":
            return await self.kube.apply_status(body, manager)
        return await self.kube.apply(body, manager)

    async def _create(self, kind: str, namespace: str, body: dict[str, Any]) -> Manifest:
        meta = {**body["metadata"], "namespace": namespace}
        if not meta.get("name"):
            self._names += 1
            meta["name"] = f"{meta['generateName']}{self._names:05}"
        manifest = {**body, "kind": kind, "metadata": meta}
        if kind == "Event":
            await self.kube.emit(namespace, manifest)
        if self.kube.has(*place_of(manifest)):
            raise ApiError(409, "AlreadyExists", f'{_ALL[kind].plural} "{meta["name"]}" already exists')
        return self.kube.update(manifest, "create")

    def _replace(self, kind: str, namespace: str | None, name: str | None, body: dict[str, Any]) -> Manifest:
        live = self._find(kind, namespace, name)
        self.kube.refuse_if_old(place_of(live), body)
        kept = {
            key: live["metadata"][key]
            for key in ("uid", "generation", "creationTimestamp", "resourceVersion")
        }
        return self.kube.update({**body, "kind": kind, "metadata": {**body["metadata"], **kept}}, "replace")

    def _list(self, query: Mapping[str, str], kind: str, namespace: str | None) -> dict[str, Any]:
        version, start = self.kube._version, ""
        if token := query.get("continue"):
            found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            version, start = int(found["rv"]), str(found["start"])
            if version < self._oldest:
                raise ApiError(410, "Expired", "The provided continue parameter is too old")
        items = sorted(
            (f"{meta['namespace']}/{meta['name']}\0", item)
            for item in self._at(version)
            if item["kind"] == kind
            and (meta := item["metadata"])
            and namespace in (None, meta["namespace"])
            and _selected(item, query.get("labelSelector", ""))
        )
        rest = [pair for pair in items if pair[0] > start]
        page = rest[: int(query.get("limit") or 0) or None]
        meta = {"resourceVersion": str(version)}
        if len(page) < len(rest):
            token = {"v": "meta.k8s.io/v1", "rv": version, "start": page[-1][0]}
            meta["continue"] = base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")
        # Items of a list come without their kind.
        plain = [
            {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
            for _, item in page
        ]
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": meta, "items": plain}

    def _at(self, version: int) -> list[Manifest]:
        """Every object as it was at a version."""
        if version == self.kube._version:
            return [self.kube.find(*place) for place in self.kube.places()]
        found: dict[Place, Manifest] = {}
        for at, type_, manifest in self._history:
            if at <= version:
                found.pop(place_of(manifest), None)
                if type_ != "DELETED":
                    found[place_of(manifest)] = manifest
        return list(found.values())

    async def _watch(self, request: web.Request, kind: str, namespace: str | None) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or self.kube._version)
        loop = asyncio.get_running_loop()
        until = loop.time() + float(request.query.get("timeoutSeconds") or 300)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        place = 0
        while loop.time() < until and not self.refusing | self.hanging:
            if since < self._oldest:
                expired = ApiError(410, "Expired", f"too old resource version: {since} ({self._oldest})")
                await _send(response, "ERROR", _status(expired))
                return response
            for at, type_, manifest in self._history[place:]:
                meta = manifest["metadata"]
                if (
                    at > since
                    and manifest["kind"] == kind
                    and namespace in (None, meta["namespace"])
                    and _selected(manifest, request.query.get("labelSelector", ""))
                ):
                    await _send(response, type_, manifest)
            place, since = len(self._history), max(since, self.kube._version)
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), min(0.5, max(until - loop.time(), 0.01)))
            except TimeoutError:
                continue
        return response

    def _tell(self, type_: str, manifest: Manifest) -> None:
        self._history.append((int(manifest["metadata"]["resourceVersion"]), type_, copied(dict(manifest))))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _send(response: web.StreamResponse, type_: str, manifest: Mapping[str, Any]) -> None:
    await response.write(json.dumps({"type": type_, "object": manifest}).encode() + b"\n")


def _selected(manifest: Manifest, selector: str) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        name, is_equal, value = term.partition("=")
        if name not in labels or (is_equal and labels[name] != value.removeprefix("=")):
            return False
    return True


def _root(resource: ApiResource) -> str:
    return resource.path().rpartition("/")[0]


def _parse(path: str) -> tuple[str, str | None, str | None, str | None]:
    for kind, resource in _ALL.items():
        pattern = rf"{_root(resource)}(?:/namespaces/([^/]+))?/{resource.plural}(?:/([^/]+))?(?:/(status))?"
        if found := re.fullmatch(pattern, path):
            return kind, *found.groups()
    raise LookupError(path)


def _discovery(path: str) -> dict[str, Any]:
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = sorted({(found.group, found.version) for found in _ALL.values() if found.group})
        return {"groups": list(_groups(groups))}
    found = [(resource.plural, kind, True) for kind, resource in _ALL.items() if _root(resource) == path]
    if path == "/api/v1":
        # kopf begins with what it needs itself, whether it may look at it or not.
        found += [("namespaces", "Namespace", False), ("events", "Event", True)]
    verbs = ["list", "watch", "patch"]
    listed = [
        {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": namespaced, "verbs": verbs}
        for plural, kind, namespaced in found
    ]
    return {"resources": listed}


def _groups(found: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for group, version in found:
        known = {"version": version, "groupVersion": f"{group}/{version}"}
        yield {"name": group, "versions": [known], "preferredVersion": known}


def _mismatch(kind: str, name: str, asked: str, live: str) -> ApiError:
    message = f"Precondition failed: UID in precondition: {asked}, UID in object meta: {live}"
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {_ALL[kind].plural} "{name}": {message}'
    )


def _status(error: ApiError) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": error.reason,
        "message": error.message,
        "code": error.code,
        "details": {"causes": [{"reason": cause} for cause in sorted(error.causes)]},
    }
