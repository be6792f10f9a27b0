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
    timestamp,
)
from slipway.core.pod_counters import has_begun_since, life_of
from slipway.core.resource import Resource
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

_Arm = windows.Tally[Series]


@dataclass
class _Count:
    """Of one rollout: counting begins anew whenever traffic is split in another way."""

    split: object
    arms: dict[str, _Arm]
    read_at: datetime
    looked: str | None
    #: Totals at the look that status remembers, and what was told last: the base of the next look, once
    #: status holds that one.
    since: Mapping[str, Values]
    told: Mapping[str, Values]
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
        count = self._counts.get(key)
        looked = rollout.lookedAt
        if count is not None and count.split == split:
            if count.looked != looked:
                count.looked, count.since = looked, count.told
            due = timestamp(looked or rollout.startedAt) or self._clock()
            if self._clock() < due + timedelta(seconds=spec.rollout.analysis.intervalSeconds):
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
        places = count.places if count is not None and count.split == split else defaultdict(dict)
        read = {revision: await self._all(pods, places[revision]) for revision, pods in found.items()}
        canary, stable = (read[revision] for revision in revisions)
        if canary is None or stable is None:
            self._failed[key] = now
            return traffic
        self._failed.pop(key, None)
        if count is None or count.split != split:
            arms = {revisions[0]: windows.begin(canary), revisions[1]: windows.begin(stable)}
            totals = {revision: arm.totals for revision, arm in arms.items()}
            self._counts[key] = _Count(split, arms, now, looked, totals, totals, places)
            return traffic
        for revision, scrapes in ((revisions[0], canary), (revisions[1], stable)):
            count.arms[revision] = _added(count.arms[revision], scrapes, found[revision], count.read_at)
        count.read_at = now
        count.told = {revision: arm.totals for revision, arm in count.arms.items()}
        counts = [_counted(count.told[revision], count.since[revision]) for revision in revisions]
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


def _added(arm: _Arm, scrapes: Mapping[str, Values], pods: Sequence[Manifest], read_at: datetime) -> _Arm:
    """With what the pods show now. One that was there before but not read says nothing of the time since."""
    fresh = {_life(pod) for pod in pods if has_begun_since(pod, SERVER_CONTAINER, read_at)}
    late = scrapes.keys() - arm.last.keys() - fresh
    known = replace(arm, last={**arm.last, **{life: scrapes[life] for life in late}})
    return known.add(scrapes)


def _life(pod: Manifest) -> str:
    return life_of(pod, SERVER_CONTAINER)


def _counted(now: Values, before: Values) -> Values:
    return {name: total - before.get(name, 0.0) for name, total in now.items()}


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
