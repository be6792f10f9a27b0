"""Reads router pods: what they do, and what they counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from slipway.core.endpoint import Endpoint
from slipway.core.traffic.envoy.readback import (
    CLUSTERS_QUERY,
    COUNTERS_QUERY,
    FLUSH_QUERY,
    LISTENERS_QUERY,
    ROUTES_QUERY,
    VERSION_QUERY,
    ArmCounters,
    ArmState,
    RouterState,
    RouteState,
    read_arms,
    read_names,
    read_routes,
    read_version,
)
from slipway.infra.bounded import TIMEOUT, Answer, Budget, Charge, ReadError, read_bounded, reading_session

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

#: Of each of its answers, in bytes and in values of JSON: three times what a full router says.
MOST_BYTES, MOST_VALUES = 2 * 1024 * 1024, 100_000


class RouterError(Exception):
    """A router pod that cannot be read; its message says why."""


async def read_router(
    address: str,
    session: aiohttp.ClientSession | None = None,
    charge: Charge | None = None,
    known: RouterState | None = None,
) -> RouterState:
    """What one router pod really does now, and what it counted.

    Args:
        address: ``host:port`` of its own listener (:data:`slipway.core.router.envoy.ROUTER_ADMIN_PORT`).
        session: of :func:`slipway.infra.bounded.reading_session`; where none is given, one of its own.
        charge: what the answers are charged to.
        known: what it did before, which is returned, counts and all, if its routes have the same version.

    Raises:
        RouterError: if it cannot be reached, or does not answer as a router does.
        TimeoutError: if it takes too long.
    """
    if session is None:
        async with reading_session() as own:
            return await read_router(address, own, charge, known)
    try:
        async with asyncio.timeout(TIMEOUT):
            if known is not None and known.version:
                found = read_version(await _document(session, address, VERSION_QUERY, charge))
                if found == known.version:
                    return known
            await _get(session, address, FLUSH_QUERY, charge)
            dump = await _document(session, address, ROUTES_QUERY, charge)
            routes, version = read_routes(dump), read_version(dump)
            clusters = read_names(await _document(session, address, CLUSTERS_QUERY, charge))
            listeners = read_names(await _document(session, address, LISTENERS_QUERY, charge))
            arms = read_arms(await _document(session, address, COUNTERS_QUERY, charge))
        return RouterState(routes, arms, clusters, listeners, version)
    except ReadError as error:
        raise RouterError(f"router {address} {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # In no word of the answer's.
        raise RouterError(f"router {address} answers as no router does: {type(error).__name__}") from error


@asynccontextmanager
async def router_reader(
    budget: Budget,
) -> AsyncIterator[Callable[[Endpoint, RouterState | None], Awaitable[RouterState | None]]]:
    """Reads routers over kept connections; None for one that cannot be read, and the log says why."""

    async def read(target: Endpoint, known: RouterState | None) -> RouterState | None:
        try:
            async with budget.request(target.namespace, str(target)) as charge:
                return await read_router(str(target), session, charge, known)
        except (RouterError, ReadError, TimeoutError) as error:
            words = str(error) or "does not answer in time"
            log.info(
                "router not read",
                extra={"namespace": target.namespace, "address": str(target), "error": words},
            )
            return None

    async with reading_session() as session:
        yield read


async def _document(
    session: aiohttp.ClientSession, address: str, query: str, charge: Charge | None
) -> dict[str, Any]:
    return (await _get(session, address, query, charge)).json(MOST_VALUES)


async def _get(session: aiohttp.ClientSession, address: str, query: str, charge: Charge | None) -> Answer:
    # The query is escaped as Envoy wants it, which aiohttp would undo.
    url = URL(f"http://{address}{query}", encoded=True)
    answer = await read_bounded(session, url, MOST_BYTES, charge=charge)
    if answer.status != 200:
        raise ReadError(f"answers with status {answer.status}")
    return answer
