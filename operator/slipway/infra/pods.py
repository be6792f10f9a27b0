"""Reads model-server pods: what they counted of each version, and what they remember of answers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from sys import intern

import aiohttp

from slipway.contract import ANSWERS_PATH, METRICS_PATH
from slipway.core.agreement import Remembered
from slipway.core.monitoring.series import ByVersion, Series, series

log = logging.getLogger(__name__)

#: Seconds until a pod that does not answer counts as unreadable.
TIMEOUT = 5.0
#: A longer answer is not read, in bytes: a server with every series that it may have says less.
MOST_BYTES = 8 * 1024 * 1024
#: Of its answers: 64 processes remember half a MiB each.
MOST_ANSWER_BYTES = 40 * 1024 * 1024
#: A line of a model's series; by another name they are the process's, or the platform's.
_LINE = re.compile(r"^slipway_", re.MULTILINE)
#: Faster by ten times than a parser of all that the format may hold.
_SAMPLE = re.compile(r"^(slipway_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


class PodError(Exception):
    """A model-server pod that cannot be read; its message says why."""


async def read_pod(address: str, wanted: Collection[str], session: aiohttp.ClientSession) -> ByVersion:
    """What one model-server pod shows now.

    Args:
        address: ``host:port`` of its admin port (:data:`slipway.contract.ADMIN_PORT`).
        wanted: names of metrics.
        session: to ask with.

    Raises:
        PodError: if it cannot be reached, or does not answer as a model server does.
    """
    text, _ = await _ask(session, "GET", address, METRICS_PATH, MOST_BYTES)
    try:
        return by_version(text.decode(), wanted)
    except ValueError as error:
        raise PodError(f"pod {address} answers as no model server does: {error!r}") from error


def by_version(text: str, wanted: Collection[str]) -> ByVersion:
    """The samples of the metrics that are wanted, by the model's version; of equal series the sum.

    A model server counts labels for the version that predicted, which may be another than its own.

    Raises:
        ValueError: if a line of the model's series is not of the Prometheus text format.
    """
    found: dict[str, dict[Series, float]] = defaultdict(lambda: defaultdict(float))
    samples = _SAMPLE.findall(text)
    if len(samples) != len(_LINE.findall(text)):
        raise ValueError("a line is no sample")
    for metric, labels, value in samples:
        if metric not in wanted:
            continue
        named = {intern(name): _plain(content) for name, content in _LABEL.findall(labels)}
        found[named.get("model_version", "")][series(intern(metric), named)] += float(value)
    return {version: dict(values) for version, values in found.items()}


def _plain(content: str) -> str:
    if "\\" not in content:
        return content
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], content)


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
async def pod_reader(
    wanted: Collection[str],
) -> AsyncIterator[Callable[[str], Awaitable[ByVersion | None]]]:
    """Reads pods over kept connections; None for one that cannot be read, and the log says why."""

    async def read(address: str) -> ByVersion | None:
        try:
            return await read_pod(address, wanted, session)
        except PodError as error:
            log.info("pod not read", extra={"error": str(error)})
            return None

    async with aiohttp.ClientSession() as session:
        yield read
