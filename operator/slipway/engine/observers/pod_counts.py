"""What both revisions' own pods counted since a rollout's last look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.monitoring import series, windows
from slipway.core.monitoring.series import ByVersion, Series, Values
from slipway.core.naming import SERVER_CONTAINER
from slipway.core.observed import Manifest
from slipway.core.pod_counters import has_begun_since, life_of
from slipway.core.rollout.counter import Counter, count
from slipway.core.rollout.interest import Interest
from slipway.core.rollout.pod_evidence import as_routers_count, served
from slipway.core.rollout.reading import PodCounts
from slipway.engine.observers.looks import Found
from slipway.engine.observers.pods import of_all, pods_of
from slipway.engine.store import Key, Store
from slipway.names import ADMIN_PORT, Metric

#: What gates look at. Counters alone: a gauge that fell would pass for a restart.
WANTED: frozenset[str] = frozenset(
    {
        Metric.REQUESTS,
        f"{Metric.DURATION}_bucket",
        Metric.REJECTED,
        Metric.REPORTED,
        Metric.PREDICTION_VALUES,
    }
)


@dataclass(frozen=True)
class Counted:
    """What was counted until a reading, and the names of the series of each revision."""

    counter: Counter[Series]
    read_at: datetime
    names: dict[str, windows.Names[Series]]


class PodCountReader:
    """Reads the pods of rollouts whose gates ask for what routers do not see."""

    def __init__(
        self,
        store: Store,
        read_pod: Callable[[Endpoint], Awaitable[ByVersion | None]],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            read_pod: reads the pod whose admin port it is, :data:`WANTED` of it by version; None where it
                cannot be read.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._read = read_pod
        self._clock = clock

    async def read(
        self, key: Key, interest: Interest, memory: Counted | None, _: datetime, /
    ) -> Found[Counted, PodCounts]:
        """See :class:`slipway.engine.observers.looks.Reader`; all ready pods of both revisions, or none."""
        at, pods = self._clock(), pods_of(self._store, key, interest.revisions)
        names = memory.names if memory is not None else defaultdict(windows.Names)

        async def row(found: tuple[str, Manifest]) -> Values | None:
            # Bare numbers, whose names the pods share: each may show thousands of names of its own.
            revision, pod = found
            counts = await self._read(endpoint_of(pod, ADMIN_PORT))
            if counts is None:
                return None
            return windows.Row(series.of_all_versions(counts), names[revision])

        rows = await of_all(pods, row)
        lives = [life_of(pod, SERVER_CONTAINER) for _, pod in pods]
        shown = {life: {revision: one} for life, (revision, _), one in zip(lives, pods, rows, strict=True)}
        since = memory.read_at if memory is not None else at
        fresh = {
            life
            for life, (_, pod) in zip(lives, pods, strict=True)
            if has_begun_since(pod, SERVER_CONTAINER, since)
        }
        before = memory.counter if memory is not None else None
        counter = count(before, interest.subject, interest.look, shown, fresh)
        found, value = Counted(counter, at, names), None
        if memory is not None:
            canary, stable = (counter.of(revision) for revision in interest.revisions)
            both = (as_routers_count(canary), as_routers_count(stable))
            value = PodCounts((served(canary), served(stable)), both)
        for each in names.values():
            each.pack()
        return Found(found, value)
