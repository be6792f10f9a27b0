"""What both revisions' own pods counted since a rollout's last look."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.monitoring import series, windows
from slipway.core.monitoring.series import ByVersion, Series, Values
from slipway.core.naming import SERVER_CONTAINER
from slipway.core.observed import (
    ArmCount,
    Fault,
    Manifest,
    ObjectKind,
    ObservedTraffic,
    ServedCount,
    is_ready,
    revision_of_object,
)
from slipway.core.pod_counters import has_begun_since, life_of
from slipway.core.resource import Resource
from slipway.core.rollout.counter import Arms, Counter, count
from slipway.core.rollout.due import next_look
from slipway.core.traffic.envoy.bootstrap import LATENCY_BOUNDS_MILLISECONDS
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
#: A pod that could not be read is not asked again before.
AGAIN = timedelta(seconds=10)


@dataclass
class _Count:
    """Of one rollout."""

    counter: Counter[Series]
    read_at: datetime
    #: Names of the series of each revision.
    places: Mapping[str, dict[Series, int]]


class Served:
    """Reads the pods of rollouts whose gates ask for what routers do not see. All of it can be had again."""

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
        self._counts: dict[Key, _Count] = {}
        #: When pods could not be read last.
        self._failed: dict[Key, datetime] = {}

    async def count(self, resource: Resource, traffic: ObservedTraffic | None) -> ObservedTraffic | None:
        """The traffic with what the pods counted since the last look, where a look is due.

        Without it where no gate asks for it, or where any ready pod of either revision could not be read.
        """
        key = Key(resource.owner.namespace, resource.owner.name)
        status, spec = resource.status, resource.spec
        rollout = status.rollout
        if (
            traffic is None
            or isinstance(spec, Fault)
            or rollout is None
            or status.canary is None
            or status.stable is None
            or not (
                spec.traffic.gatewayAPI is not None
                or any(gate.is_counted_by_pods for gate in spec.rollout.analysis.gates)
            )
        ):
            self._counts.pop(key, None)
            self._failed.pop(key, None)
            return traffic
        revisions = (status.canary.revision, status.stable.revision)
        split = (rollout.id, traffic.weights, traffic.receiving, revisions)
        known = self._counts.get(key)
        begun = known is not None and known.counter.split == split
        if begun:
            if self._clock() < next_look(rollout, spec.rollout.analysis):
                return traffic
        elif len(traffic.weights) != 1:
            self._counts.pop(key, None)
            return traffic
        now = self._clock()
        if key in self._failed and now < self._failed[key] + AGAIN:
            return traffic
        found = {revision: ready_pods(self._store, key, revision) for revision in revisions}
        if not all(found.values()):
            return traffic
        places = known.places if known is not None and begun else defaultdict(dict)
        shown: dict[str, Arms[Series]] = {}
        for revision, pods in found.items():
            read = await self._all(pods, places[revision])
            if read is None:
                self._failed[key] = now
                return traffic
            shown |= {life: {revision: values} for life, values in read.items()}
        self._failed.pop(key, None)
        since = known.read_at if known is not None else now
        pods = [pod for pods in found.values() for pod in pods]
        fresh = {_life(pod) for pod in pods if has_begun_since(pod, SERVER_CONTAINER, since)}
        counter = count(known.counter if known else None, split, rollout.lookedAt, shown, fresh)
        self._counts[key] = _Count(counter, now, places)
        if not begun:
            return traffic
        counts = [counter.of(revision) for revision in revisions]
        told = [_served(found) for found in counts]
        traffic = replace(traffic, canary_served=told[0], stable_served=told[1])
        if spec.traffic.gatewayAPI is None:
            return traffic
        # What Gateways count is their own affair, so that the pods' word is all there is.
        return replace(traffic, canary=_answered(counts[0]), stable=_answered(counts[1]))

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._counts.pop(key, None)
        self._failed.pop(key, None)

    async def _all(self, pods: Sequence[Manifest], places: dict[Series, int]) -> dict[str, Values] | None:
        """By the life of their counters; None where any pod could not be read.

        Bare numbers, whose names the pods share: each may show thousands of names of its own.
        """

        async def read(pod: Manifest) -> Values | None:
            counts = await self._read(endpoint_of(pod, ADMIN_PORT))
            return None if counts is None else windows.Row(series.of_all_versions(counts), places)

        found = await asyncio.gather(*(read(pod) for pod in pods))
        values = {_life(pod): one for pod, one in zip(pods, found, strict=True) if one is not None}
        return values if len(values) == len(pods) else None


def ready_pods(store: Store, key: Key, revision: str) -> list[Manifest]:
    """Pods of a revision that have an address and get requests."""
    return [
        child
        for child in store.children(key)
        if child["kind"] == ObjectKind.POD
        and revision_of_object(child) == revision
        and store.is_believed(child)
        and is_ready(child)
        and (child.get("status") or {}).get("podIP")
    ]


def _life(pod: Manifest) -> str:
    return life_of(pod, SERVER_CONTAINER)


def _answered(counted: Values) -> ArmCount:
    """As routers count: 422 is an error too, since the model failed on rows that its contract allows."""
    bounds = {bound: f"{bound / 1000}" for bound in LATENCY_BOUNDS_MILLISECONDS}
    return ArmCount(
        requests=int(series.requests(counted)),
        errors=int(series.errors(counted)),
        slow={bound: int(series.slower(counted, seconds)) for bound, seconds in bounds.items()},
    )


def _served(counted: Values) -> ServedCount:
    return ServedCount(
        requests=int(series.requests(counted)),
        violations=int(series.violations(counted)),
        predictions={
            output: {bin_: int(count) for bin_, count in bins.items()}
            for output, bins in series.predictions(counted).items()
        },
    )
