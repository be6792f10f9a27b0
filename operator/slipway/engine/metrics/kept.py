"""Text of the series of ModelDeployments, kept for each of them and joined when somebody asks for it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from prometheus_client import generate_latest
from prometheus_client.core import Metric

from slipway.core.resource import Resource
from slipway.engine.store import Key, Store

#: ModelDeployments that are written before others get a turn.
AT_ONCE = 10


class OfResources(Protocol):
    """Series that follow from ModelDeployments, each by itself."""

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        """All families, with the series of these ModelDeployments."""

    def others(self) -> Iterable[Metric]:
        """Series that follow from something else, in families of the above or of their own."""


class KeptText:
    """Series in Prometheus' text format: only what changed since the last time is written again."""

    def __init__(self, store: Store, sources: Sequence[OfResources]) -> None:
        self._store = store
        self._sources = sources
        self._changed = store.subscribe()
        #: Lines of each family, by ModelDeployment.
        self._lines: dict[str, dict[Key, bytes]] = defaultdict(dict)
        self._heads = {
            metric.name: _text(metric) for source in sources for metric in source.of(()) if not metric.samples
        }

    async def text(self) -> bytes:
        """All series as they are now; where much has changed, others get a turn meanwhile."""
        written = 0
        while self._changed:
            self._write(self._changed.pop())
            written += 1
            if not written % AT_ONCE:
                await asyncio.sleep(0)
        others: dict[str, list[bytes]] = defaultdict(list)
        heads = dict(self._heads)
        for metric in (metric for source in self._sources for metric in source.others()):
            head, lines = _parts(metric)
            heads.setdefault(metric.name, head)
            others[metric.name].append(lines)
        parts: list[bytes] = []
        for name, head in heads.items():
            parts.append(head)
            parts += self._lines[name].values()
            parts += others[name]
        return b"".join(parts)

    def _write(self, key: Key) -> None:
        for kept in self._lines.values():
            kept.pop(key, None)
        resource = self._store.read(key)
        if resource is None:
            return
        for metric in (metric for source in self._sources for metric in source.of((resource,))):
            if metric.samples:
                self._lines[metric.name][key] = _parts(metric)[1]


class _One:
    """Prometheus' client writes what a registry collects."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _text(metric: Metric) -> bytes:
    text: bytes = generate_latest(_One(metric))
    return text


def _parts(metric: Metric) -> tuple[bytes, bytes]:
    """The two lines about a family, and those of its series."""
    help_, type_, lines = _text(metric).split(b"\n", 2)
    return b"%b\n%b\n" % (help_, type_), lines
