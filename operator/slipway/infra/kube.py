"""The Kubernetes API by the official client, in plain dicts.

Typed models are left alone: they drop fields they do not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from slipway.api.types import GROUP, KIND, VERSION
from slipway.core import naming
from slipway.core.observed import Manifest
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, Page, Patch, typed
from slipway.engine.ownership import REPLICA_SET

#: Seconds until a read without an answer counts as failed; how long a write may take, the fence says.
TIMEOUT = 30.0
#: Objects of a page of a list: a page is decoded at once, and what that takes stays with the process.
PAGE = 100
#: Seconds after which the API server, then the client, ends a watch: a connection that something in between
#: has dropped in silence is noticed.
WATCH_TIMEOUT, WATCH_PATIENCE = 240, 300.0
_JSON, _APPLY = "application/json", "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PATCH = "application/json-patch+json"

#: Of ReplicaSets it is only asked whose they are; each would come with a template of pods.
_METADATA = "as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"

Observer = Callable[[str, int], None]


class KubeClient:
    """Implements :class:`slipway.engine.kube.Kube`."""

    def __init__(self, client: ApiClient, observe: Observer, left: Callable[[], float]) -> None:
        """
        Args:
            client: of the API server.
            observe: is told method and status code of every request.
            left: seconds that a write which begins now may take; 0 where none may begin.
        """
        self._client = client
        self._observe = observe
        self._left = left

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None if there is none of that name."""
        try:
            return typed(await self._read(RESOURCES[kind].path(namespace, name)), kind)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def list(self, kind: str, namespace: str | None) -> tuple[list[Manifest], int]:
        """All objects of a kind that concern Slipway, and the version of the list."""
        found: list[Manifest] = []
        version = 0
        async for page in self.pages(kind, namespace):
            found.extend(page.items)
            version = page.version
        return found, version

    async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[Page]:
        """All objects of a kind that concern Slipway, page by page; the next comes while one is taken in."""
        coming = self._begin_page(kind, namespace, None)
        try:
            while True:
                page = await coming
                if "items" not in page or "resourceVersion" not in page.get("metadata", {}):
                    raise ApiError(0, "NotAList", f"the answer to a list of {kind} is no list")
                more, version = page["metadata"].get("continue"), int(page["metadata"]["resourceVersion"])
                # An empty list of metadata alone has null for its items.
                items = tuple(typed(item, kind) for item in page["items"] or ())
                if more:
                    coming = self._begin_page(kind, namespace, more)
                del page
                yield Page(items, version)
                if not more:
                    return
        finally:
            coming.cancel()

    def _begin_page(self, kind: str, namespace: str | None, more: str | None) -> asyncio.Task[dict[str, Any]]:
        query = {"limit": str(PAGE), **_selector(kind), **({} if more is None else {"continue": more})}
        path = f"{RESOURCES[kind].path(namespace)}?{urlencode(query)}"
        return asyncio.create_task(self._read(path, _accept(kind, "List")))

    async def watch(
        self, kind: str, namespace: str | None, version: int
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """What happens to objects of a kind that concern Slipway, from a resource version on."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(WATCH_TIMEOUT),
            **_selector(kind),
        }
        path = f"{RESOURCES[kind].path(namespace)}?{urlencode(query)}"
        async with aclosing(_lines(self._client, self._observe, path, _accept(kind))) as lines:
            async for line in lines:
                event = _decode(line)
                found = event.get("object") if event is not None else None
                if event is None or not isinstance(found, dict):
                    raise ApiError(0, "NotAnEvent", f"the watch told no event: {_text(line)}")
                if event["type"] == "ERROR":
                    raise ApiError(int(found.get("code") or 0), str(found.get("reason")), _text(line))
                yield event["type"], typed(found, kind)

    async def openapi(self) -> dict[str, Any]:
        """What the API server says of the schema of ModelDeployments; every authenticated client may ask."""
        return await self._read(f"/openapi/v3/apis/{GROUP}/{VERSION}")

    async def create(self, manifest: Manifest, manager: str) -> Manifest:
        """Create an object, 409 ``AlreadyExists`` where there is one of that name; the object as it is."""
        path = RESOURCES[manifest["kind"]].path(manifest["metadata"]["namespace"])
        made = await self._write("POST", path, {"fieldManager": manager}, manifest)
        return typed(made, manifest["kind"])

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply; the object as it is now."""
        return await self._apply(manifest, manager, "")

    async def patch(self, manifest: Manifest, operations: Patch, manager: str) -> Manifest:
        """JSON Patch of this very object as it was read, 409 if it has changed since."""
        return await self._patch(manifest, operations, manager, "")

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply to the ``status`` subresource; the object as it is now."""
        return await self._apply(manifest, manager, "/status")

    async def replace_status(self, manifest: Manifest, manager: str) -> Manifest:
        """All of ``status``, whoever wrote what is in it, 409 if the object has changed since."""
        whole = [{"op": "add", "path": "/status", "value": manifest["status"]}]
        return await self._patch(manifest, whole, manager, "/status")

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object, by uid, in the background; nothing if it is gone already."""
        meta = manifest["metadata"]
        body = {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}}
        try:
            path = RESOURCES[manifest["kind"]].path(meta["namespace"], meta["name"])
            await self._write("DELETE", path, {}, body)
        except ApiError as error:
            # 409: another object has taken the name.
            if error.code not in (404, 409):
                raise

    async def emit(self, namespace: str, event: dict[str, Any]) -> None:
        """Create an ``events.k8s.io/v1`` Event."""
        await self._write("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", {}, event)

    async def repeat(self, namespace: str, name: str, series: dict[str, Any]) -> None:
        """Say of an Event that it happened again."""
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}"
        await self._write("PATCH", path, {}, {"series": series}, _MERGE)

    async def _patch(self, manifest: Manifest, operations: Patch, manager: str, subresource: str) -> Manifest:
        meta, kind = manifest["metadata"], manifest["kind"]
        is_same = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            # The API server compares it, and answers 409 rather than 422.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        ]
        path = f"{RESOURCES[kind].path(meta['namespace'], meta['name'])}{subresource}"
        body = [*is_same, *operations]
        return typed(await self._write("PATCH", path, {"fieldManager": manager}, body, _PATCH), kind)

    async def _apply(self, manifest: Manifest, manager: str, subresource: str) -> Manifest:
        meta, kind = manifest["metadata"], manifest["kind"]
        query = {"fieldManager": manager, "force": "true"}
        path = f"{RESOURCES[kind].path(meta['namespace'], meta['name'])}{subresource}"
        return typed(await self._write("PATCH", path, query, manifest, _APPLY), kind)

    async def _read(self, path: str, accept: str = _JSON) -> dict[str, Any]:
        return await call(self._client, self._observe, "GET", path, TIMEOUT, accept=accept)

    async def _write(
        self, method: str, path: str, query: dict[str, str], body: Any, content_type: str = _JSON
    ) -> dict[str, Any]:
        """The only way to write.

        Raises:
            ApiError: ``Fenced`` where this replica does not hold the lease.
        """
        seconds = self._left()
        if seconds < 1.0:
            raise ApiError(0, "Fenced", "this replica does not hold the lease; nothing was written")
        # The API server gives up too: a request that waits there is not carried out for a leader of the past.
        where = f"{path}?{urlencode({**query, 'timeout': f'{int(seconds)}s'})}"
        return await call(self._client, self._observe, method, where, seconds, body, content_type)


def _selector(kind: str) -> dict[str, str]:
    return {} if kind == KIND else {"labelSelector": naming.MODEL_LABEL}


def _accept(kind: str, suffix: str = "") -> str:
    return f"{_JSON};{_METADATA.format(suffix)}" if kind == REPLICA_SET else _JSON


async def _lines(client: ApiClient, observe: Observer, path: str, accept: str) -> AsyncGenerator[bytes, None]:
    """Lines of an answer that lasts, as they come.

    Raises:
        ApiError: where it does not begin or breaks off.
    """
    headers, held, began = {"Accept": accept}, b"", False
    try:
        request = await client.param_serialize(
            "GET", path, header_params=headers, auth_settings=["BearerToken"]
        )
        answer = await client.call_api(*request, _request_timeout=WATCH_PATIENCE)
        observe("GET", answer.status)
        began = True
        async with answer.response as response:
            if answer.status >= 400:
                data = await response.read()
                retry_after = response.headers.get("Retry-After")
                raise ApiError.from_status(
                    answer.status, _decode(data) or {"message": _text(data)}, retry_after
                )
            async for chunk in response.content.iter_any():
                *whole, held = (held + chunk).split(b"\n")
                for line in whole:
                    yield line
    except ApiException as error:
        observe("GET", int(error.status or 0))
        raise ApiError(int(error.status or 0), str(error.reason), str(error.body)) from error
    except (TimeoutError, aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
        if not began:
            observe("GET", 0)
        raise ApiError(0, "NoAnswer", f"{type(error).__name__}: {error}") from error


async def call(
    client: ApiClient,
    observe: Observer,
    method: str,
    path: str,
    seconds: float,
    body: Any = None,
    content_type: str = _JSON,
    accept: str = _JSON,
) -> dict[str, Any]:
    """One request, whose answer is an object.

    Args:
        client: of the API server.
        observe: is told method and status code.
        method: of HTTP.
        path: with its query.
        seconds: until no answer counts as a failure.
        body: plain JSON.
        content_type: of the body.
        accept: of the answer.

    Raises:
        ApiError: for any other answer, and for none.
    """
    headers = {"Accept": accept, "Content-Type": content_type}
    try:
        # Around all that waits: after a stall this is due before anything goes on.
        async with asyncio.timeout(seconds):
            where = await client.param_serialize(
                method, path, header_params=headers, auth_settings=["BearerToken"]
            )
            # Past the client's serializer, which copies a body that is plain JSON already.
            response = await client.call_api(*where[:3], body, _request_timeout=seconds)
            data = await response.response.read()
    except ApiException as error:
        observe(method, int(error.status or 0))
        raise ApiError(int(error.status or 0), str(error.reason), str(error.body)) from error
    except (TimeoutError, aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
        observe(method, 0)
        raise ApiError(0, "NoAnswer", f"{type(error).__name__}: {error}") from error
    observe(method, response.status)
    content = _decode(data)
    if response.status >= 400:
        retry_after = response.response.headers.get("Retry-After")
        raise ApiError.from_status(response.status, content or {"message": _text(data)}, retry_after)
    if content is None:
        raise ApiError(0, "NotJSON", f"the answer is no JSON object: {_text(data)}")
    return content


def _decode(data: bytes) -> dict[str, Any] | None:
    """An object, or None: what stands before the API server may answer in other words than JSON."""
    try:
        # Faster, and names of fields are the same strings in all answers.
        content = orjson.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _text(data: bytes) -> str:
    return data[:500].decode("utf-8", "replace")
