"""Reads model-server pods: what they counted, and what their gauges say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from slipway.contract import METRICS_PATH
from slipway.core.monitoring.series import Values, add_up

log = logging.getLogger(__name__)

#: Seconds until a pod that does not answer counts as unreadable.
TIMEOUT = 5.0
#: A longer answer is not read, in bytes: a server with every series that it may have says less.
MOST_BYTES = 8 * 1024 * 1024
#: Series by another name are none of a model's: the process's, the platform's.
_PREFIX = "slipway_"


class PodError(Exception):
    """A model-server pod that cannot be read; its message says why."""


async def read_pod(address: str, session: aiohttp.ClientSession | None = None) -> Values:
    """The ``slipway_…`` series of one model-server pod as they are now.

    Args:
        address: ``host:port`` of its admin port (:data:`slipway.contract.ADMIN_PORT`).
        session: to ask with; where none is given, one of its own.

    Raises:
        PodError: if it cannot be reached, or does not answer as a model server does.
    """
    if session is None:
        async with aiohttp.ClientSession() as own:
            return await read_pod(address, own)
    text = await read_text(address, session)
    try:
        return add_up(_samples(text))
    except ValueError as error:
        raise PodError(f"pod {address} answers as no model server does: {error!r}") from error


async def read_text(address: str, session: aiohttp.ClientSession) -> str:
    """What a pod answers, in the Prometheus text format.

    Raises:
        PodError: if it cannot be reached, or answers with an error or too much.
    """
    try:
        async with asyncio.timeout(TIMEOUT), session.get(f"http://{address}{METRICS_PATH}") as response:
            response.raise_for_status()
            text = bytearray()
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > MOST_BYTES:
                    raise PodError(f"pod {address} answers with more than {MOST_BYTES} bytes")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise PodError(f"pod {address} does not answer: {type(error).__name__} {error}") from error
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise PodError(f"pod {address} answers as no model server does: {error!r}") from error


@asynccontextmanager
async def pod_reader() -> AsyncIterator[Callable[[str], Awaitable[Values | None]]]:
    """Reads pods over kept connections; None for one that cannot be read, and the log says why."""

    async def read(address: str) -> Values | None:
        try:
            return await read_pod(address, session)
        except PodError as error:
            log.info("pod not read", extra={"error": str(error)})
            return None

    async with aiohttp.ClientSession() as session:
        yield read


def _samples(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Samples of the model's series; ValueError where a line is not of the Prometheus text format."""
    mine = "\n".join(line for line in text.splitlines() if line.startswith(_PREFIX))
    for family in text_string_to_metric_families(mine + "\n"):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
