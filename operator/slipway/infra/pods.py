"""Reads model-server pods: what they counted of each version, and what they remember of answers."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from sys import intern

import aiohttp

from slipway.contract import ANSWERS_MARK, ANSWERS_PATH, ANSWERS_SINCE, METRICS_PATH
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import ByVersion, Series, series
from slipway.core.monitoring.windows import MOST_SERIES
from slipway.core.rollout.shadow_agreement import ENTRY_BYTES, Remembered
from slipway.infra.bounded import Answer, Budget, Charge, ReadError, read_bounded, reading_session

log = logging.getLogger(__name__)

#: A longer page of metrics is not read, in bytes: a server with every series that it may have says less.
MOST_BYTES = 3 * 1024 * 1024
#: Characters that the labels of one series may take.
MOST_LABELS = 4096
#: Characters of a page that is parsed at once.
MOST_INLINE = 64 * 1024
#: Beyond this a count is not one that status could hold.
MOST_COUNT = 2.0**53
#: A line of a model's series; by another name they are the process's, or the platform's.
_LINE = re.compile(r"^slipway_.*$", re.MULTILINE)
#: Faster by ten times than a parser of all that the format may hold.
_SAMPLE = re.compile(r"(slipway_\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"(?:, ?|$)')
_ESCAPE = re.compile(r"\\(.)")
_MARK = re.compile(r"[0-9a-f]{16}:[0-9,]{1,1400}")
#: Pods of which it is known how far they were read; of others reading begins now.
_MOST_MARKS = 4096


class PodError(Exception):
    """A model-server pod that cannot be read; its message says why."""


async def read_pod(
    address: str,
    wanted: Collection[str],
    session: aiohttp.ClientSession,
    charge: Charge | None = None,
    path: str = METRICS_PATH,
) -> ByVersion:
    """What one model-server pod shows now.

    Args:
        address: ``host:port`` of its admin port (:data:`slipway.contract.ADMIN_PORT`).
        wanted: names of metrics.
        session: of :func:`slipway.infra.bounded.reading_session`.
        charge: what the answer is charged to.
        path: of the page; nothing is on one that servers of before do not have.

    Raises:
        PodError: if it cannot be reached, or does not answer as a model server does.
        TimeoutError: if it takes too long.
    """
    answer = await _ask(session, "GET", address, path, MOST_BYTES, charge, absent=path != METRICS_PATH)
    if answer.status == 404:
        return {}
    try:
        text = answer.body.decode()
        if len(text) < MOST_INLINE:
            return by_version(text, wanted)
        # A quarter of a second for the largest: others get their turn meanwhile.
        return await asyncio.to_thread(by_version, text, wanted)
    except ValueError as error:
        raise PodError(f"pod {address} answers as no model server does: {error}") from error


def by_version(text: str, wanted: Collection[str]) -> ByVersion:
    """The samples of the metrics that are wanted, by the model's version; of equal series the sum.

    A model server counts labels for the version that predicted, which may be another than its own.

    Raises:
        ValueError: if a line of the model's series is not of the Prometheus text format, or what is wanted
            is more than a model server has.
    """
    found: dict[str, dict[Series, float]] = defaultdict(lambda: defaultdict(float))
    count = 0
    for line in _LINE.finditer(text):
        sample = _SAMPLE.fullmatch(text, *line.span())
        if sample is None:
            raise ValueError("a line is no sample")
        metric, labels, value = sample.groups()
        if metric not in wanted:
            continue
        count += 1
        if count > MOST_SERIES:
            raise ValueError(f"more than {MOST_SERIES} series")
        named = _labels(labels or "")
        found[named.get("model_version", "")][series(intern(metric), named)] += _count(value)
    return {version: dict(values) for version, values in found.items()}


def _labels(text: str) -> dict[str, str]:
    if len(text) > MOST_LABELS:
        raise ValueError(f"labels of more than {MOST_LABELS} characters")
    named: dict[str, str] = {}
    place = 0
    # One after the other: a search would begin again at each character of a name without a value.
    while place < len(text):
        label = _LABEL.match(text, place)
        if label is None:
            raise ValueError("a label is none")
        named[label[1]] = _plain(label[2])
        place = label.end()
    return named


def _count(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or not 0 <= value <= MOST_COUNT:
        raise ValueError("a value is no count")
    return value


def _plain(content: str) -> str:
    if "\\" not in content:
        return content
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], content)


async def take_answers(
    address: str,
    seconds: int,
    most: int,
    session: aiohttp.ClientSession,
    charge: Charge | None = None,
    since: str | None = None,
) -> Remembered:
    """What one pod remembers of its answers; for so long it goes on remembering.

    Args:
        address: ``host:port`` of its admin port.
        seconds: 1 to 7200.
        most: entries that are read; a pod may remember more.
        session: of :func:`slipway.infra.bounded.reading_session`.
        charge: what the answer is charged to.
        since: the mark of the answer before, or ``now`` for nothing yet. Without it the pod takes away what
            it tells, from whoever asks without a mark; so do servers of before marks in any case.

    Raises:
        PodError: if it cannot be reached, or does not answer as a model server does.
        TimeoutError: if it takes too long.
    """
    path = f"{ANSWERS_PATH}/{seconds}"
    headers = None if since is None else {ANSWERS_SINCE: since}
    answer = await _ask(session, "POST", address, path, ENTRY_BYTES * most, charge, cut=True, headers=headers)
    kind = answer.headers.get("slipway-outcomes")
    if kind not in ("class", "number", "none") or len(answer.body) % ENTRY_BYTES:
        raise PodError(f"pod {address} answers as no model server does: {len(answer.body)} bytes")
    mark = answer.headers.get(ANSWERS_MARK, "")
    return Remembered(kind == "number", bytes(answer.body), mark if _MARK.fullmatch(mark) else "")


@asynccontextmanager
async def answer_taker(
    budget: Budget,
) -> AsyncIterator[Callable[[Endpoint, int, int], Awaitable[Remembered | None]]]:
    """Takes answers over kept connections; None where a pod cannot be asked, and the log says why."""

    marks: dict[str, str] = {}

    async def take(target: Endpoint, seconds: int, most: int) -> Remembered | None:
        name = str(target)
        try:
            async with budget.request(target.namespace, name) as charge:
                since = marks.get(name, "now")
                found = await take_answers(name, seconds, most, session, charge, since)
        except (PodError, ReadError, TimeoutError) as error:
            _say("answers not taken", target, error)
            return None
        marks.pop(name, None)
        if found.mark:
            marks[name] = found.mark
        if len(marks) > _MOST_MARKS:
            del marks[next(iter(marks))]
        return found

    async with reading_session() as session:
        yield take


@asynccontextmanager
async def pod_reader(
    wanted: Collection[str], budget: Budget, path: str = METRICS_PATH
) -> AsyncIterator[Callable[[Endpoint], Awaitable[ByVersion | None]]]:
    """Reads pods over kept connections; None for one that cannot be read, and the log says why."""

    async def read(target: Endpoint) -> ByVersion | None:
        try:
            async with budget.request(target.namespace, str(target)) as charge:
                return await read_pod(str(target), wanted, session, charge, path)
        except (PodError, ReadError, TimeoutError) as error:
            _say("pod not read", target, error)
            return None

    async with reading_session() as session:
        yield read


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    address: str,
    path: str,
    most: int,
    charge: Charge | None,
    cut: bool = False,
    headers: Mapping[str, str] | None = None,
    absent: bool = False,
) -> Answer:
    try:
        url = f"http://{address}{path}"
        answer = await read_bounded(
            session, url, most, method=method, headers=headers, charge=charge, cut=cut
        )
    except ReadError as error:
        raise PodError(f"pod {address} {error}") from error
    if answer.status != 200 and not (absent and answer.status == 404):
        raise PodError(f"pod {address} does not answer: status {answer.status}")
    return answer


def _say(what: str, target: Endpoint, error: Exception) -> None:
    words = str(error) or "does not answer in time"
    log.info(what, extra={"namespace": target.namespace, "address": str(target), "error": words})
