"""The Kubernetes API by the official client, in plain dicts.

Typed models are left alone: they drop fields they do not know.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from slipway.api.types import KIND
from slipway.core import names
from slipway.core.observed import Manifest
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, Page, typed

#: Seconds until a request without an answer counts as failed.
TIMEOUT = 30.0
PAGE = 500
_APPLY = "application/apply-patch+yaml"

Observer = Callable[[str, int], None]


class KubeClient:
    """Implements :class:`slipway.engine.kube.Kube`."""

    def __init__(self, client: ApiClient, observe: Observer) -> None:
        """``observe`` is told method and status code of every request."""
        self._client = client
        self._observe = observe

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None if there is none of that name."""
        try:
            return typed(await self._call("GET", RESOURCES[kind].path(namespace, name)), kind)
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
        """All objects of a kind that concern Slipway, page by page."""
        query = {"limit": str(PAGE)}
        if kind != KIND:
            query["labelSelector"] = names.MODEL_LABEL
        while True:
            page = await self._call("GET", f"{RESOURCES[kind].path(namespace)}?{urlencode(query)}")
            if "items" not in page or "resourceVersion" not in page.get("metadata", {}):
                raise ApiError(0, "NotAList", f"the answer to a list of {kind} is no list")
            meta = page["metadata"]
            yield Page(tuple(typed(item, kind) for item in page["items"]), int(meta["resourceVersion"]))
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply; the object as it is now."""
        return await self._apply(manifest, manager, "")

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply to the ``status`` subresource; the object as it is now."""
        return await self._apply(manifest, manager, "/status")

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object, by uid, in the background; nothing if it is gone already."""
        meta = manifest["metadata"]
        body = {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}}
        try:
            await self._call(
                "DELETE", RESOURCES[manifest["kind"]].path(meta["namespace"], meta["name"]), body
            )
        except ApiError as error:
            # 409: another object has taken the name.
            if error.code not in (404, 409):
                raise

    async def emit(self, namespace: str, event: dict[str, Any]) -> None:
        """Create an ``events.k8s.io/v1`` Event."""
        await self._call("POST", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)

    async def _apply(self, manifest: Manifest, manager: str, subresource: str) -> Manifest:
        meta, kind = manifest["metadata"], manifest["kind"]
        query = urlencode({"fieldManager": manager, "force": "true"})
        path = f"{RESOURCES[kind].path(meta['namespace'], meta['name'])}{subresource}?{query}"
        return typed(await self._call("PATCH", path, manifest, _APPLY), kind)

    async def _call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        request = await self._client.param_serialize(
            method,
            path,
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT)
            data = await response.response.read()
        except ApiException as error:
            self._observe(method, int(error.status or 0))
            raise ApiError(int(error.status or 0), str(error.reason), str(error.body)) from error
        except (TimeoutError, aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
            self._observe(method, 0)
            raise ApiError(0, "NoAnswer", f"{type(error).__name__}: {error}") from error
        self._observe(method, response.status)
        content = _decode(data)
        if response.status >= 400:
            raise ApiError.from_status(response.status, content or {"message": _text(data)})
        if content is None:
            raise ApiError(0, "NotJSON", f"the answer is no JSON object: {_text(data)}")
        return content


def _decode(data: bytes) -> dict[str, Any] | None:
    """An object, or None: what stands before the API server may answer in other words than JSON."""
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _text(data: bytes) -> str:
    return data[:500].decode("utf-8", "replace")
