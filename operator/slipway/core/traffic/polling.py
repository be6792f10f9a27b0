"""How often a group of routers is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: Seconds between two readings: while routers follow, while a rollout goes on, and at rest.
FOLLOWING, ROLLING, RESTING = 0.05, 2.0, 30.0
#: While a canary has ready pods that they do not know yet.
AWAITING = 0.3
#: A router that does not follow by then will not do so within moments.
SOON = timedelta(seconds=5)


@dataclass(frozen=True)
class RouterInterest:
    """In what a group of routers does.

    Attributes:
        seconds: between two readings.
        lives: of all routers that there are; see :func:`slipway.core.pod_counters.life_of`.
        after: a reading that began later than that is wanted, whatever it shows; None where none is.
    """

    seconds: float
    lives: frozenset[str]
    after: datetime | None = None


def poll_seconds(
    routers: bool, settled: bool, told_at: datetime | None, awaits: bool, splits: bool, now: datetime
) -> float:
    """Seconds between two readings of a group.

    Args:
        routers: whether any is ready.
        settled: whether all do what is wanted of them.
        told_at: when they were told the first of what not all do yet, or None.
        awaits: whether a canary has ready pods that one of them does not find well yet.
        splits: whether any traffic is split.
        now: the time, with a time zone.
    """
    if not routers:
        return ROLLING
    if not settled:
        return FOLLOWING if told_at is not None and now - told_at < SOON else ROLLING
    if awaits:
        return AWAITING
    return ROLLING if splits else RESTING
