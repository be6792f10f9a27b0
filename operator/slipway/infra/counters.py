"""Reads what pods counted of each version of a model, a few hundred series of thousands of pods.

A model server counts labels for the version that predicted, which may be another than its own.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from sys import intern

import aiohttp

from slipway.core.monitoring.series import Series, Values, series
from slipway.infra.pods import PodError, read_text

log = logging.getLogger(__name__)

ByVersion = Mapping[str, Values]

#: Faster by ten times than a parser of all that the format may hold.
_SAMPLE = re.compile(r"^(slipway_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def by_version(text: str, wanted: Collection[str]) -> ByVersion:
    """The samples of the metrics that are wanted, by the model's version; of equal series the sum.

    Raises:
        ValueError: if a value is no number.
    """
    found: dict[str, dict[Series, float]] = defaultdict(lambda: defaultdict(float))
    for metric, labels, value in _SAMPLE.findall(text):
        if metric not in wanted:
            continue
        named = {intern(name): _plain(content) for name, content in _LABEL.findall(labels)}
        found[named.get("model_version", "")][series(intern(metric), named)] += float(value)
    return {version: dict(values) for version, values in found.items()}


def _plain(content: str) -> str:
    if "\\" not in content:
        return content
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], content)


@asynccontextmanager
async def counter_reader(
    wanted: Collection[str],
) -> AsyncIterator[Callable[[str], Awaitable[ByVersion | None]]]:
    """Reads pods over kept connections; None for one that cannot be read, and the log says why."""

    async def read(address: str) -> ByVersion | None:
        try:
            return by_version(await read_text(address, session), wanted)
        except (PodError, ValueError) as error:
            log.info("pod not read", extra={"error": str(error)})
            return None

    async with aiohttp.ClientSession() as session:
        yield read
