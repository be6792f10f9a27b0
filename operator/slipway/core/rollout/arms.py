"""What both arms answered since a rollout's last look, by the counters of routers."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.core.observed import ArmCount, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.rollout.counter import Counter, Counts, count
from slipway.core.traffic.envoy.bootstrap import LATENCY_BOUNDS_MILLISECONDS
from slipway.core.traffic.envoy.readback import ArmState

#: Requests, errors and requests that were meant for an arm by these names; slow ones by their bound in ms.
Kind = str | int
REQUESTS, ERRORS, MEANT = "requests", "errors", "meant"
ArmCounter = Counter[Kind]
#: Arms as a router shows them, by ModelDeployment and revision.
Shown = Mapping[tuple[str, str], ArmState]


def count_arms(
    before: ArmCounter | None,
    resource: Resource,
    shown: Mapping[str, Shown],
    routers: Mapping[str, str],
    traffic: ObservedTraffic,
) -> tuple[ArmCounter | None, tuple[ArmCount, ArmCount] | None]:
    """The counter with what routers show now, and what canary and stable answered since the last look.

    None for both arms where any router's counters could not be had.

    Args:
        before: what was counted until now, or None.
        resource: with the status that holds its looks.
        shown: by each router that could be read, by name.
        routers: names of all that have to be, and the life of their counters; see
            :func:`slipway.core.pod_counters.life_of`.
        traffic: what they were seen to do.
    """
    status = resource.status
    if status.stable is None or status.canary is None or status.rollout is None:
        return None, None
    if not routers or any(name not in shown for name in routers) or len(traffic.weights) != 1:
        return before, None
    revisions = (status.canary.revision, status.stable.revision)
    split = (traffic.weights, traffic.receiving, revisions)
    look = (status.rollout.id, status.rollout.lookedAt)
    lives = {
        life: {
            revision: _counts(arm)
            for revision in revisions
            if (arm := shown[name].get((resource.owner.name, revision))) is not None
        }
        for name, life in routers.items()
    }
    counter = count(before, split, look, lives, falls=(REQUESTS, ERRORS))
    canary, stable = (_arm_count(counter.of(revision)) for revision in revisions)
    return counter, (canary, stable)


def _counts(arm: ArmState) -> dict[Kind, float]:
    """Copies count for the canary like requests, but no split gave them to it."""
    both = arm.counters + arm.shadow
    counts: dict[Kind, float] = {REQUESTS: both.requests, ERRORS: both.errors, MEANT: arm.counters.meant}
    counts.update({bound: float(slow) for bound, slow in both.slow.items()})
    return counts


def _arm_count(counts: Counts[Kind]) -> ArmCount:
    return ArmCount(
        requests=int(counts.get(REQUESTS, 0)),
        errors=int(counts.get(ERRORS, 0)),
        slow={bound: int(counts.get(bound, 0)) for bound in LATENCY_BOUNDS_MILLISECONDS},
        meant=int(counts.get(MEANT, 0)),
    )
