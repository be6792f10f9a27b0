"""Just enough of an API server to watch, which tests tell what to say."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from typing import Any

from aiohttp import web


class WatchedCluster:
    """Just enough of an API server to list and to watch.

    Attributes:
        since: the resource versions from which each path was watched.
        version: of lists.
        items: objects by the path of their list.
        forbidden: paths that may be neither listed nor watched.
        watched: how often each path was watched.
    """

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.items: dict[str, list[dict[str, Any]]] = {}
        self.forbidden: set[str] = set()
        self.watched: Counter[str] = Counter()
        self.since: defaultdict[str, list[str]] = defaultdict(list)
        self.version = 1
        self.events: defaultdict[str, asyncio.Queue[dict[str, Any]]] = defaultdict(asyncio.Queue)

    def tell(self, path: str, type_: str, manifest: dict[str, Any]) -> None:
        """Send an event to whoever watches a path."""
        self.events[path].put_nowait({"type": type_, "object": manifest})

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.forbidden:
            return web.json_response(error(403), status=403)
        if "watch" in request.query:
            self.watched[request.path] += 1
            self.since[request.path].append(request.query["resourceVersion"])
            return await self._stream(request)
        items = self.items.get(request.path, [])
        begin = int(request.query.get("continue") or 0)
        page = items[begin : begin + 500]
        more = str(begin + 500) if begin + 500 < len(items) else ""
        return web.json_response(
            {"metadata": {"resourceVersion": str(self.version), "continue": more}, "items": page}
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        ended = asyncio.create_task(self.told.wait())
        while not ended.done():
            coming = asyncio.create_task(self.events[request.path].get())
            await asyncio.wait((coming, ended), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                break
            event = coming.result()
            if event["type"] != "END":
                await response.write(json.dumps(event).encode() + b"\n")
            if event["type"] in ("ERROR", "END"):
                break
        ended.cancel()
        return response


def error(code: int) -> dict[str, Any]:
    """What the API server answers where it cannot."""
    return {"kind": "Status", "code": code, "reason": "Sorry", "message": "etcdserver: request timed out"}
