"""The operator's own health and metrics server."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from slipway.engine.errors import ApiError

log = logging.getLogger(__name__)

PORT = 8082
#: An event loop that is this late is stuck.
MOST_LAG_SECONDS = 10.0


class Pulse:
    """Notices an event loop that is stuck: a task that should run every second."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(1.0)

    def lag(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last


@dataclass(frozen=True)
class Webhook:
    """How somebody outside says that a model is to be looked up again.

    Attributes:
        token: that the caller has to bear.
        refresh: is told namespace and name; whether there is such a ModelDeployment.
    """

    token: str
    refresh: Callable[[str, str], Awaitable[bool]]

    async def answer(self, request: web.Request) -> web.Response:
        """Answer ``POST /refresh/NAMESPACE/NAME``."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return web.Response(status=401, text="the bearer token is missing or wrong\n")
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        try:
            found = await self.refresh(namespace, name)
        except ApiError as error:
            return web.Response(status=503, text=f"{error}; try again\n", headers={"Retry-After": "5"})
        if not found:
            return web.Response(status=404, text=f"there is no ModelDeployment {namespace}/{name}\n")
        return web.Response(status=202, text="its model is looked up again\n")


async def serve(
    registry: CollectorRegistry,
    pulse: Pulse,
    is_ready: Callable[[], bool],
    port: int = PORT,
    webhook: Webhook | None = None,
) -> web.AppRunner:
    """Serve ``/healthz``, ``/readyz``, ``/metrics`` and the webhook; the caller cleans the runner up."""

    async def healthz(_: web.Request) -> web.Response:
        lag = pulse.lag()
        if lag > MOST_LAG_SECONDS:
            return web.Response(status=500, text=f"event loop is {lag:.0f} s late\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if not is_ready():
            return web.Response(status=503, text="not synced yet\n")
        return web.Response(text="ok\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    if webhook is not None:
        app.add_routes([web.post("/refresh/{namespace}/{name}", webhook.answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
