"""The operator's own health and metrics server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from slipway.infra.serving import serve_on

log = logging.getLogger(__name__)

PORT = 8082
#: Probes and a Prometheus or two need less.
MOST_CONNECTIONS = 512
BEAT_SECONDS = 0.25
#: An event loop that is this late is stuck.
MOST_LAG_SECONDS = 10.0


class Pulse:
    """Notices an event loop that is late or stuck: a task that should run four times a second."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def beat(self, lagged: Callable[[float], None]) -> None:
        """Beat until cancelled; ``lagged`` is told how many seconds late each beat was."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(BEAT_SECONDS)
            lagged(max(0.0, time.monotonic() - self._last - BEAT_SECONDS))

    def lag(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last


async def serve(
    page: Callable[[], Awaitable[bytes]],
    pulse: Pulse,
    is_ready: Callable[[], bool],
    port: int = PORT,
) -> web.AppRunner:
    """Serve ``/healthz``, ``/readyz`` and ``/metrics``, the page; the caller cleans the runner up."""

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
        return web.Response(body=await page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return await serve_on(app, port, MOST_CONNECTIONS)
