"""What a rollout's arms counted since its last look, from counters that many pods keep each for itself.

Counters only grow, for as long as a *life* of them goes on (see :mod:`slipway.core.pod_counters`). What one
counted before it was first read is of no look, and neither is what it counted on the way to a restart that
shows as a counter that fell.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
Counts = Mapping[S, float]
#: By arm, which is a revision.
Arms = Mapping[str, Counts[S]]


@dataclass(frozen=True)
class Counter(Generic[S]):
    """Sums of all lives, for as long as traffic is split in one way. Soft state: nothing has to survive.

    Attributes:
        split: what is counted; requests of two different splits are never one look's.
        look: the look that status remembers.
        totals: by arm, counted since the split.
        base: what the totals were when that look was taken.
        last: by life, what each arm showed when the life was last read.
    """

    split: object
    look: object
    totals: Arms[S] = field(default_factory=dict)
    base: Arms[S] = field(default_factory=dict)
    last: Mapping[str, Arms[S]] = field(default_factory=dict)

    def of(self, arm: str) -> dict[S, float]:
        """What an arm counted since the look."""
        base = self.base.get(arm, {})
        totals = self.totals.get(arm, {})
        return {series: max(0.0, total - base.get(series, 0.0)) for series, total in totals.items()}


def count(
    before: Counter[S] | None,
    split: object,
    look: object,
    shown: Mapping[str, Arms[S]],
    fresh: Collection[str] = (),
    falls: Collection[S] | None = None,
) -> Counter[S]:
    """Take in what lives show now.

    Args:
        before: what was counted until now, or None.
        split: as it is; counting begins again where it is another.
        look: that status remembers. Where it is another than before, it was taken of what ``before`` counted.
        shown: by life; an arm that a life does not show keeps its place in it.
        fresh: lives all of whose counts are of this split, since they began while it was watched.
        falls: series that tell a restart; all of them unless given.
    """
    is_new = before is None or before.split != split
    last: Mapping[str, Arms[S]] = {} if is_new or before is None else before.last
    totals = {} if is_new or before is None else {arm: dict(sums) for arm, sums in before.totals.items()}
    base = {} if is_new or before is None else before.base if look == before.look else before.totals
    now: dict[str, Arms[S]] = {}
    for life, arms in shown.items():
        known = last.get(life, {arm: {} for arm in arms} if life in fresh and not is_new else {})
        fell = any(_fell(arms[arm], known[arm], falls) for arm in arms.keys() & known.keys())
        for arm, counts in arms.items():
            sums = totals.setdefault(arm, {})
            earlier = known[arm] if arm in known and not fell else counts
            for series, value in counts.items():
                sums[series] = sums.get(series, 0.0) + value - earlier.get(series, 0.0)
        now[life] = {**known, **arms}
    return Counter(split, look, totals, base, now)


def _fell(now: Counts[S], before: Counts[S], falls: Collection[S] | None) -> bool:
    series = before if falls is None else before.keys() & set(falls)
    return any(now.get(one, 0.0) < before[one] for one in series)
