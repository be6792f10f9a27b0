"""Serves over HTTP within bounds, on every address that the pod has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_LOG = logging.getLogger(f"{__name__}.requests")
# Anybody may send bytes that are no HTTP; the answer is 400, and nothing for the log.
_LOG.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))

#: Seconds between two looks at the connections.
SWEEP_SECONDS = 1.0


async def serve_on(
    app: web.Application, port: int, most_connections: int, most_age: float | None = None
) -> web.AppRunner:
    """Serve an application; the caller cleans the runner up.

    Args:
        app: to be served.
        port: on IPv4 and IPv6, as far as the pod has them.
        most_connections: beyond which the oldest are closed: callers that never end their request hold
            nothing that others need.
        most_age: seconds after which a connection is closed, or None.
    """

    async def sweeping(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(runner, most_connections, most_age))
        yield
        task.cancel()

    app.cleanup_ctx.append(sweeping)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, lingering_time=1.0, logger=_LOG)
    await runner.setup()
    # No host is every address, one socket for each family.
    await web.TCPSite(runner, port=port).start()
    return runner


async def _sweep(runner: web.AppRunner, most: int, most_age: float | None) -> None:
    seen: dict[object, float] = {}
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        server, now = runner.server, time.monotonic()
        if server is None:
            continue
        seen = {one: seen.get(one, now) for one in server.connections}
        oldest = sorted(server.connections, key=lambda one: seen[one])
        for place, connection in enumerate(oldest):
            old = most_age is not None and now - seen[connection] > most_age
            if (old or place < len(oldest) - most) and connection.transport is not None:
                connection.transport.abort()
