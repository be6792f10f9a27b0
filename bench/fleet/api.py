"""The API server, as its administrator: the little that the bench and its paper kubelet ask of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.fleet.processes import SERVER

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
#: Largest line of a watch, in bytes: a CRD's is the longest.
_MOST_LINE = 4 * 1024 * 1024


class ApiError(Exception):
    """The API server refused; ``code`` is its status."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code


class Api:
    """One client's connections."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Json:
        """One request.

        Raises:
            ApiError: if the API server refuses it.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.request(method, f"{SERVER}{path}", data=data, headers=headers) as answer:
            text = await answer.text()
            if answer.status >= 300:
                raise ApiError(answer.status, f"{method} {path}: {text[:400]}")
            found: Json = json.loads(text)
            return found

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Json]]:
        """Each object of a collection as ``LISTED``, then each event, for ever; lists again where it must."""
        while True:
            try:
                listed = await self.call("GET", path)
            except ApiError as error:
                # The kind is new, or the API server is busy.
                if error.code not in (404, 429, 503):
                    raise
                await asyncio.sleep(1.0)
                continue
            for item in listed["items"]:
                yield "LISTED", item
            version = listed["metadata"]["resourceVersion"]
            query = f"watch=true&allowWatchBookmarks=true&resourceVersion={version}"
            try:
                async with self._session.get(f"{SERVER}{path}?{query}") as answer:
                    async for line in _lines(answer):
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1.0)


@asynccontextmanager
async def api(trust: ssl.SSLContext, connections: int = 32) -> AsyncIterator[Api]:
    """A client of so many connections at most."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=trust),
        timeout=aiohttp.ClientTimeout(total=None, connect=60),
        read_bufsize=_MOST_LINE,
    ) as session:
        yield Api(session)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    held = bytearray()
    async for chunk in answer.content.iter_any():
        held += chunk
        *whole, rest = held.split(b"\n")
        held = bytearray(rest)
        for line in whole:
            yield bytes(line)
