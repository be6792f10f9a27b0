"""Reads router pods: what they do, and what they counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from slipway.core.router.readback import (
    CLUSTERS_QUERY,
    COUNTERS_QUERY,
    FLUSH_QUERY,
    LISTENERS_QUERY,
    ROUTES_QUERY,
    ArmCounters,
    ArmState,
    RouterState,
    RouteState,
    read_arms,
    read_names,
    read_routes,
)

__all__ = [
    "ArmCounters",
    "ArmState",
    "RouteState",
    "RouterError",
    "RouterState",
    "read_router",
    "router_reader",
]

log = logging.getLogger(__name__)

#: Seconds until a router that does not answer counts as unreadable.
TIMEOUT = 5.0


class RouterError(Exception):
    """A router pod that cannot be read; its message says why."""


async def read_router(address: str, session: aiohttp.ClientSession | None = None) -> RouterState:
    """What one router pod really does now, and what it counted.

    Args:
        address: ``host:port`` of its own listener (:data:`slipway.core.router.envoy.ROUTER_ADMIN_PORT`).
        session: to ask with; where none is given, one of its own.

    Raises:
        RouterError: if it cannot be reached, or does not answer as a router does.
    """
    if session is None:
        async with aiohttp.ClientSession() as own:
            return await read_router(address, own)
    try:
        async with asyncio.timeout(TIMEOUT):
            await _get(session, address, FLUSH_QUERY)
            routes = await _get(session, address, ROUTES_QUERY)
            clusters = await _get(session, address, CLUSTERS_QUERY)
            listeners = await _get(session, address, LISTENERS_QUERY)
            counters = await _get(session, address, COUNTERS_QUERY)
        return RouterState(
            read_routes(routes), read_arms(counters), read_names(clusters), read_names(listeners)
        )
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise RouterError(f"router {address} does not answer: {type(error).__name__} {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RouterError(f"router {address} answers as no router does: {error!r}") from error


@asynccontextmanager
async def router_reader() -> AsyncIterator[Callable[[str], Awaitable[RouterState | None]]]:
    """Reads routers over kept connections; None for one that cannot be read, and the log says why."""

    async def read(address: str) -> RouterState | None:
        try:
            return await read_router(address, session)
        except RouterError as error:
            log.info("router not read", extra={"error": str(error)})
            return None

    async with aiohttp.ClientSession() as session:
        yield read


async def _get(session: aiohttp.ClientSession, address: str, query: str) -> dict[str, Any]:
    # The query is escaped as Envoy wants it, which aiohttp would undo.
    url = URL(f"http://{address}{query}", encoded=True)
    async with session.get(url) as response:
        response.raise_for_status()
        found = await response.json(content_type=None)
        return found if isinstance(found, dict) else {}
