"""What both arms answered since a rollout's last look, by the counters of routers."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.core.observed import ArmCount
from slipway.core.rollout.counter import Counter, Counts, count
from slipway.core.rollout.interest import Interest
from slipway.core.traffic.envoy.bootstrap import LATENCY_BOUNDS_MILLISECONDS
from slipway.core.traffic.envoy.readback import ArmState

#: Requests that are evidence, all that were answered, errors and requests that were meant for an arm by these
#: names; slow ones by their bound in ms.
Kind = str | int
REQUESTS, ANSWERED, ERRORS, MEANT = "requests", "answered", "errors", "meant"
ArmCounter = Counter[Kind]
#: Arms as a router shows them, by ModelDeployment and revision.
Shown = Mapping[tuple[str, str], ArmState]


def count_arms(
    before: ArmCounter | None,
    interest: Interest,
    name: str,
    routers: Mapping[str, Shown],
) -> tuple[ArmCounter, tuple[ArmCount, ArmCount]]:
    """The counter with what routers show now, and what canary and stable answered since the last look.

    Args:
        before: what was counted until now, or None.
        interest: in what.
        name: of the ModelDeployment.
        routers: what all of them show, by the life of their counters.
    """
    lives = {
        life: {
            revision: _counts(arm)
            for revision in interest.revisions
            if (arm := shown.get((name, revision))) is not None
        }
        for life, shown in routers.items()
    }
    counter = count(before, interest.subject, interest.look, lives, falls=(ANSWERED, ERRORS))
    canary, stable = (_arm_count(counter.of(revision)) for revision in interest.revisions)
    return counter, (canary, stable)


def _counts(arm: ArmState) -> dict[Kind, float]:
    """Copies count for the canary like requests, but no split gave them to it.

    Who was not let in is no evidence: strangers could have any version look good by asking much.
    """
    both = arm.counters + arm.shadow
    counts: dict[Kind, float] = {
        REQUESTS: both.requests - both.refused,
        ANSWERED: both.requests,
        ERRORS: both.errors,
        MEANT: arm.counters.meant,
    }
    counts.update({bound: float(slow) for bound, slow in both.slow.items()})
    return counts


def _arm_count(counts: Counts[Kind]) -> ArmCount:
    return ArmCount(
        requests=int(counts.get(REQUESTS, 0)),
        errors=int(counts.get(ERRORS, 0)),
        slow={bound: int(counts.get(bound, 0)) for bound in LATENCY_BOUNDS_MILLISECONDS},
        meant=int(counts.get(MEANT, 0)),
    )
