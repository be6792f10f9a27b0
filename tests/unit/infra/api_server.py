"""A web server that answers as a test tells it to, and the official client pointed at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

#: Reading the system's certificates takes longer than most tests.
_AUTHORITY = trustme.CA().cert_pem.bytes().decode()

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ApiServer:
    """What was asked, and the client that asks."""

    client: ApiClient
    server: BaseTestServer
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


@asynccontextmanager
async def api_server(answer: Answer) -> AsyncIterator[ApiServer]:
    """Every request gets this answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        found.asked.append((request.method, request.path_qs))
        text = await request.text()
        found.bodies.append({"type": request.content_type, "text": text})
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(app) as server:
        configuration = Configuration(host=str(server.make_url("")).rstrip("/"))
        configuration.ca_cert_data = _AUTHORITY
        configuration.api_key = {"authorization": "Bearer secret"}
        async with ApiClient(configuration) as client:
            found = ApiServer(client, server)
            yield found
