"""Asks a Prometheus for raw samples."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from slipway.core.traffic.envoy.prometheus import Samples
from slipway.engine.observers.prometheus import PrometheusError
from slipway.infra.bounded import Budget, Charge, ReadError, read_bounded, reading_session

#: Of an answer, in bytes and in values of JSON: ten routers that are scraped every 5 s have less.
MOST_BYTES, MOST_VALUES = 4 * 1024 * 1024, 300_000
_PATH = "/api/v1/query"


async def ask(
    address: str, query: str, session: aiohttp.ClientSession, charge: Charge | None = None
) -> list[Samples]:
    """The answer to an instant query for a range of raw samples.

    Args:
        address: of the Prometheus: ``http://host:port``, a path before its API included.
        query: in PromQL; a range selector.
        session: of :func:`slipway.infra.bounded.reading_session`.
        charge: what the answer is charged to.

    Raises:
        PrometheusError: if it cannot be reached, refuses the query, or does not answer as Prometheus does;
            in no word of the answer's.
        TimeoutError: if it takes too long.
    """
    try:
        return await _ask(address, query, session, charge)
    except ReadError as error:
        raise PrometheusError(f"{address} {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PrometheusError(f"{address} answers as no Prometheus does") from error


@asynccontextmanager
async def prometheus_reader(
    budget: Budget,
) -> AsyncIterator[Callable[[str, str, str], Awaitable[list[Samples]]]]:
    """Asks the Prometheus at an address over kept connections, for a namespace."""

    async def read(namespace: str, address: str, query: str) -> list[Samples]:
        try:
            async with budget.request(namespace, f"{namespace} {address}") as charge:
                return await ask(address, query, session, charge)
        except TimeoutError as error:
            raise PrometheusError(f"{address} does not answer in time") from error
        except ReadError as error:
            raise PrometheusError(f"{address} {error}") from error

    async with reading_session() as session:
        yield read


async def _ask(
    address: str, query: str, session: aiohttp.ClientSession, charge: Charge | None
) -> list[Samples]:
    url = address.rstrip("/") + _PATH
    answer = await read_bounded(session, url, MOST_BYTES, method="POST", data={"query": query}, charge=charge)
    if answer.status in (400, 422):
        raise PrometheusError(f"{address} refuses the query (status {answer.status}); its log says why")
    if answer.status != 200:
        raise PrometheusError(f"{address} answers with status {answer.status}")
    found = answer.json(MOST_VALUES)["data"]
    if found["resultType"] != "matrix":
        raise ValueError("not a matrix")
    return [
        Samples(dict(one["metric"]), tuple((float(time), float(value)) for time, value in one["values"]))
        for one in found["result"]
    ]
