"""Reads model-server pods: what they counted, and what their gauges say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from slipway.contract import ANSWERS_PATH, METRICS_PATH
from slipway.core.agreement import Remembered
from slipway.core.monitoring.series import Values, add_up

log = logging.getLogger(__name__)

#: Seconds until a pod that does not answer counts as unreadable.
TIMEOUT = 5.0
#: A longer answer is not read, in bytes: a server with every series that it may have says less.
MOST_BYTES = 8 * 1024 * 1024
#: Of its answers: 64 processes remember half a MiB each.
MOST_ANSWER_BYTES = 40 * 1024 * 1024
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
    text, _ = await _ask(session, "GET", address, METRICS_PATH, MOST_BYTES)
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise PodError(f"pod {address} answers as no model server does: {error!r}") from error


async def take_answers(address: str, seconds: int, session: aiohttp.ClientSession) -> Remembered:
    """What one pod remembers of its answers, which it forgets; for so long it goes on remembering.

    Args:
        address: ``host:port`` of its admin port.
        seconds: 1 to 7200.
        session: to ask with.

    Raises:
        PodError: if it cannot be reached, or does not answer as a model server does.
    """
    body, headers = await _ask(session, "POST", address, f"{ANSWERS_PATH}/{seconds}", MOST_ANSWER_BYTES)
    kind = headers.get("slipway-outcomes")
    if kind not in ("class", "number", "none") or len(body) % 16:
        raise PodError(f"pod {address} answers as no model server does: outcomes {kind}, {len(body)} bytes")
    return Remembered(kind == "number", bytes(body))


@asynccontextmanager
async def answer_taker() -> AsyncIterator[Callable[[str, int], Awaitable[Remembered | None]]]:
    """Takes answers over kept connections; None where a pod cannot be asked, and the log says why."""

    async def take(address: str, seconds: int) -> Remembered | None:
        try:
            return await take_answers(address, seconds, session)
        except PodError as error:
            log.info("answers not taken", extra={"error": str(error)})
            return None

    async with aiohttp.ClientSession() as session:
        yield take


async def _ask(
    session: aiohttp.ClientSession, method: str, address: str, path: str, most: int
) -> tuple[bytearray, Mapping[str, str]]:
    """Body and headers of the answer."""
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            session.request(method, f"http://{address}{path}", allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise PodError(f"pod {address} does not answer: status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise PodError(f"pod {address} answers with more than {most} bytes")
            return body, response.headers
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise PodError(f"pod {address} does not answer: {type(error).__name__} {error}") from error


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
