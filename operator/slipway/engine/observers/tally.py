"""What both arms answered since a rollout's last look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from slipway.core.observed import ArmCount, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.traffic.envoy.readback import ArmCounters, RouterState

#: By the life of a router's counters, and by revision.
_Counts = Mapping[str, Mapping[str, ArmCounters]]


class Tally:
    """Takes differences of the routers' counters, of one ModelDeployment.

    Counting begins again with every look that status remembers, and whenever traffic is split in another way:
    requests of two different weights are never one look's. What a router counted before it was first read, or
    before any of its counters fell, is of no look. Nothing of it has to survive the operator.
    """

    def __init__(self) -> None:
        self._since: _Counts | None = None
        self._split: object = None
        self._looked: object = None
        #: What was told last: the base of the next look, once status holds this one.
        self._told: _Counts = {}

    def count(
        self,
        resource: Resource,
        states: Mapping[str, RouterState],
        routers: Mapping[str, str],
        traffic: ObservedTraffic,
    ) -> tuple[ArmCount | None, ArmCount | None]:
        """What canary and stable answered; None for both where any router's counters could not be had.

        Args:
            resource: with the status that holds its looks.
            states: of the routers that could be read, by name.
            routers: names of all that have to be, and the life of their counters; see
                :func:`slipway.core.pod_counters.life_of`.
            traffic: what they were seen to do.
        """
        status = resource.status
        if status.stable is None or status.canary is None or status.rollout is None:
            self._since = None
            return None, None
        if not routers or any(name not in states for name in routers) or len(traffic.weights) != 1:
            return None, None
        revisions = (status.canary.revision, status.stable.revision)
        split = (traffic.weights, traffic.receiving, revisions)
        looked = (status.rollout.id, status.rollout.lookedAt)
        is_same = self._since is not None and split == self._split
        told: _Counts = self._told if is_same else {}
        since: _Counts = {}
        if is_same and self._since is not None:
            since = self._since if looked == self._looked else told
        now = {
            life: {**told.get(life, {}), **_counters(resource.owner.name, states[name], revisions)}
            for name, life in routers.items()
        }
        fell = {life for life, arms in now.items() if _fell(arms, told.get(life, {}))}
        self._since = {
            life: arms if life in fell else {**arms, **since.get(life, {})} for life, arms in now.items()
        }
        self._split, self._looked, self._told = split, looked, now
        canary, stable = (_sum(now, self._since, revision) for revision in revisions)
        return canary, stable


def _counters(model: str, state: RouterState, revisions: Iterable[str]) -> dict[str, ArmCounters]:
    """Of the arms that it shows. Copies count for the canary like requests, but no split gave them to it."""
    found = {revision: state.arms.get((model, revision)) for revision in revisions}
    return {
        revision: arm.counters + replace(arm.shadow, meant=0)
        for revision, arm in found.items()
        if arm is not None
    }


def _fell(now: Mapping[str, ArmCounters], before: Mapping[str, ArmCounters]) -> bool:
    """Whether a router began to count again, or lost a part of what it counted."""
    return any(
        now[revision].requests < arm.requests or now[revision].errors < arm.errors
        for revision, arm in before.items()
    )


def _sum(now: _Counts, since: _Counts, revision: str) -> ArmCount:
    total = ArmCounters()
    for life, arms in now.items():
        if revision in arms:
            total += arms[revision].since(since[life][revision])
    return ArmCount(total.requests, total.errors, total.slow, total.meant)
