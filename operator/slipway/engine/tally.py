"""What both arms answered since a rollout's last look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from slipway.core.observed import ArmCount, Traffic
from slipway.core.resource import Resource
from slipway.core.router.readback import ArmCounters, RouterState

_Counts = dict[str, dict[str, ArmCounters]]


class Tally:
    """Takes differences of the routers' counters, of one ModelDeployment.

    Counting begins anew with every look that status remembers, and whenever traffic is split in another way:
    requests of two different weights are never one look's. Nothing of it has to survive the operator.
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
        routers: Iterable[str],
        traffic: Traffic,
    ) -> tuple[ArmCount | None, ArmCount | None]:
        """What canary and stable answered; None for both where any router's counters could not be had.

        Args:
            resource: with the status that holds its looks.
            states: of the routers that could be read, by name.
            routers: names of all that have to be.
            traffic: what they were seen to do.
        """
        status = resource.status
        if status.stable is None or status.canary is None or status.rollout is None:
            self._since = None
            return None, None
        names = tuple(routers)
        if not names or any(name not in states for name in names) or len(traffic.weights) != 1:
            return None, None
        revisions = (status.canary.revision, status.stable.revision)
        now = {name: _counters(resource.owner.name, states[name], revisions) for name in names}
        split = (traffic.weights, traffic.reached, revisions)
        looked = (status.rollout.id, status.rollout.lookedAt)
        if self._since is None or split != self._split:
            self._since = now
        elif looked != self._looked:
            self._since = self._told
        # What a router counted before it came to this ModelDeployment is none of this look.
        self._since = {**now, **self._since}
        self._split, self._looked, self._told = split, looked, now
        canary, stable = (_sum(now, self._since, revision) for revision in revisions)
        return canary, stable


def _counters(model: str, state: RouterState, revisions: Iterable[str]) -> dict[str, ArmCounters]:
    """Copies count for the canary like requests, but no split gave them to it."""
    found = {revision: state.arms.get((model, revision)) for revision in revisions}
    return {
        revision: arm.counters + replace(arm.shadow, meant=0) if arm is not None else ArmCounters()
        for revision, arm in found.items()
    }


def _sum(now: _Counts, since: _Counts, revision: str) -> ArmCount:
    total = ArmCounters()
    for router, arms in now.items():
        total += arms[revision].since(since.get(router, {}).get(revision))
    return ArmCount(total.requests, total.errors, total.slow, total.meant)
