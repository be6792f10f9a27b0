"""Asks a Prometheus for raw samples."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from slipway.core.router.prometheus import Samples
from slipway.engine.prometheus import PrometheusError

#: Seconds until a Prometheus that does not answer is left alone until the next look.
TIMEOUT = 5.0
#: A longer answer is not read, in bytes.
MOST_BYTES = 32 * 1024 * 1024
_PATH = "/api/v1/query"


async def ask(address: str, query: str, session: aiohttp.ClientSession) -> list[Samples]:
    """The answer to an instant query for a range of raw samples.

    Args:
        address: of the Prometheus: ``http://host:port``, a path before its API included.
        query: in PromQL; a range selector.
        session: to ask with.

    Raises:
        PrometheusError: if it cannot be reached, refuses the query, or does not answer as Prometheus does.
    """
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _ask(address, query, session)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise PrometheusError(f"{address} does not answer: {type(error).__name__}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PrometheusError(f"{address} answers as no Prometheus does: {type(error).__name__}") from error


@asynccontextmanager
async def prometheus_reader() -> AsyncIterator[Callable[[str, str], Awaitable[list[Samples]]]]:
    """Asks the Prometheus at an address over kept connections."""

    async def read(address: str, query: str) -> list[Samples]:
        return await ask(address, query, session)

    async with aiohttp.ClientSession() as session:
        yield read


async def _ask(address: str, query: str, session: aiohttp.ClientSession) -> list[Samples]:
    url = address.rstrip("/") + _PATH
    async with session.post(url, data={"query": query}, allow_redirects=False) as response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise PrometheusError(f"{address} answers with more than {MOST_BYTES} bytes")
        if response.status in (400, 422):
            document = _document(body)
            raise PrometheusError(f"{address} refuses the query: {str(document.get('error', ''))[:300]}")
        if response.status != 200:
            raise PrometheusError(f"{address} answers with status {response.status}")
    found = _document(body)["data"]
    if found["resultType"] != "matrix":
        raise ValueError(found["resultType"])
    return [
        Samples(one["metric"], tuple((float(time), float(value)) for time, value in one["values"]))
        for one in found["result"]
    ]


def _document(body: bytes | bytearray) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found
