"""Whether a canary's answers are spread over the bins as the stable revision's are in the same time.

Both revisions get the same traffic, so that a change of season or of clients moves both. Looks have different
shares of traffic, so stable's answers are weighted by the canary's in each look: what is compared is what
stable would have answered to the canary's traffic. The index and its noise are those of
:mod:`slipway.core.monitoring.drift`.

A shift may begin with any look, so the looks since each are compared. The significance is shared by all pairs
of a first and a last look, with the weights of :func:`slipway.core.evidence.since_any_look` for the first and
1/(m(m + 1)) for a length of m looks: they sum to 1 over a rollout of any length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add

from slipway.api.rollout_status import MAX_BINS, PredictionStatus
from slipway.bins import OTHER
from slipway.core.monitoring.drift import PSEUDO_COUNT, DriftLimits, FeatureDrift, ReferenceBins, compare
from slipway.core.rollout.evalues import weight_of_start

#: Answers that each revision needs; below, nothing is said.
MINIMUM_ANSWERS = 1000
#: Chance that a rollout of a canary that answers like stable ever shows a shift, however long it is.
SIGNIFICANCE = 0.001
#: Standard deviations by which a shift has to stay below the limit before it is ruled out: a chance of 0.1%.
_RULED_OUT = 3.09


@dataclass(frozen=True)
class Shift:
    """How far one output's answers are apart.

    Attributes:
        output: its name.
        drift: the figures; ``reference_rows`` are stable's answers, as many as their weights are worth.
        limit: the index beyond its noise that is too much.
    """

    output: str
    drift: FeatureDrift
    limit: float

    @property
    def is_known(self) -> bool:
        """Whether both revisions gave enough answers."""
        return min(self.drift.rows, self.drift.reference_rows) >= MINIMUM_ANSWERS

    @property
    def is_beyond(self) -> bool:
        """Whether the limit is exceeded, and not by chance."""
        return self.drift.severity is not None

    @property
    def is_ruled_out(self) -> bool:
        """Whether a shift as large as the limit would have shown.

        The index over its scale is about a noncentral chi-square variable, whose variance is
        2(bins − 1) + 4·noncentrality.
        """
        if not self.is_known:
            return False
        scale = 1.0 / self.drift.rows + 1.0 / self.drift.reference_rows
        deviation = scale * math.sqrt(2.0 * self.drift.noise / scale + 4.0 * self.limit / scale)
        return self.drift.excess + _RULED_OUT * deviation <= self.limit


def shifts(
    looks: Sequence[Sequence[PredictionStatus]], limit: float, lengths: Sequence[int] = ()
) -> list[Shift]:
    """The shift of each output, the furthest first: over all looks, or since one where that alone shows it.

    Args:
        looks: what each look counted, oldest first; one that counts other bins than the last is left out.
        limit: population stability index beyond its noise that is too much.
        lengths: how many looks each of these sums up; one unless given.
    """
    outputs = looks[-1] if looks else ()
    counts = lengths or [1] * len(looks)
    found = [_shift(last, looks, counts, limit, len(outputs)) for last in outputs]
    return sorted(found, key=lambda one: (not one.is_beyond, -one.drift.excess, one.output))


def common_bins(
    canary: Mapping[str, int], stable: Mapping[str, int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Counts in the bins that both have, in one order; None where they cannot be compared.

    A category that only one of the profiles names is counted as other by both. Intervals between other edges
    cannot be brought together.
    """
    kept = bin_names(canary, stable)
    if kept is None:
        return None
    found = []
    for counts in (canary, stable):
        inside = [counts[name] for name in kept]
        found.append((*inside, sum(counts.values()) - sum(inside)))
    return found[0], found[1]


def bin_names(canary: Mapping[str, int], stable: Mapping[str, int]) -> tuple[str, ...] | None:
    """The bins that :func:`common_bins` counts, in its order, without that of all others; None likewise."""
    names = sorted(canary.keys() & stable.keys())
    if canary.keys() != stable.keys() and OTHER not in names:
        return None
    return tuple(name for name in names if name != OTHER)[: MAX_BINS - 1]


def _shift(
    last: PredictionStatus,
    looks: Sequence[Sequence[PredictionStatus]],
    lengths: Sequence[int],
    limit: float,
    outputs: int,
) -> Shift:
    """Of one output, over all looks, or since a later one if that is beyond the limit and all are not."""
    same = [
        (length, one)
        for length, look in zip(lengths, looks, strict=True)
        for one in look
        if (one.output, one.bins, len(one.canary)) == (last.output, last.bins, len(last.canary))
    ]
    before, whole = 0, None
    for (length, _), (looked, sums) in zip(same, _since_each(same), strict=True):
        if before and sum(sums.canary) < MINIMUM_ANSWERS:
            break
        comparisons = outputs * looked * (looked + 1) / weight_of_start(before)
        shift = Shift(last.output, _drift(last.output, sums, limit, math.ceil(comparisons)), limit)
        if shift.is_beyond:
            return shift
        whole = whole or shift
        before += length
    return whole or Shift(last.output, FeatureDrift(last.output, 0, 0), limit)


@dataclass(frozen=True)
class _Sums:
    """What several looks counted, each by bin.

    ``expected`` is what the canary would have counted, had it answered as stable did look by look;
    ``noise`` is the sum of the squares of the canary's answers over stable's.
    """

    canary: tuple[int, ...]
    expected: tuple[float, ...]
    noise: float


def _since_each(looks: Sequence[tuple[int, PredictionStatus]]) -> list[tuple[int, _Sums]]:
    """Of each look: how many there are from it on, and what these counted."""
    bins = len(looks[-1][1].canary) if looks else 0
    looked, sums = 0, _Sums((0,) * bins, (0.0,) * bins, 0.0)
    found = []
    for length, one in reversed(looks):
        looked += length
        answers, rows = sum(one.canary), sum(one.stable)
        # Without answers on both sides there is nothing to compare.
        if answers and rows:
            worth = answers / rows
            sums = _Sums(
                tuple(map(add, sums.canary, one.canary)),
                tuple(
                    so_far + worth * count for so_far, count in zip(sums.expected, one.stable, strict=True)
                ),
                sums.noise + worth * answers,
            )
        found.append((looked, sums))
    return found[::-1]


def _drift(output: str, sums: _Sums, limit: float, comparisons: int) -> FeatureDrift:
    answers = sum(sums.canary)
    if not answers:
        return FeatureDrift(output, 0, 0)
    # A bin that nobody's answers fall into tells nothing, and would count as noise.
    used = [
        place
        for place, (seen, meant) in enumerate(zip(sums.canary, sums.expected, strict=True))
        if seen or meant
    ]
    rows_worth = answers * answers / sums.noise
    whole = rows_worth + PSEUDO_COUNT * len(used)
    shares = {
        str(place): (rows_worth * sums.expected[place] / answers + PSEUDO_COUNT) / whole for place in used
    }
    limits = DriftLimits(limit, math.inf, SIGNIFICANCE, MINIMUM_ANSWERS, MINIMUM_ANSWERS)
    counts = {str(place): float(sums.canary[place]) for place in used}
    return compare(output, counts, ReferenceBins(shares, rows_worth), limits, comparisons)
