"""What an audit says of how far rows can be moved before a model is wrong about them.

A row stands where the model is right about it and about what lies around it, up to a radius that is asked
for. By randomized smoothing (Cohen et al., 2019) that is proven, of the model that answers what most of a
row's noisy copies are given: of each row is known how many copies were given its true class, and the
probability that a copy is has to be shown to be as high as the radius takes. Shares of rows and their
intervals are as in :mod:`slipway.core.monitoring.subgroups`; two models answer copies of the same rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from slipway.contract import Withstood
from slipway.core.monitoring.intervals import (
    Interval,
    Share,
    deviations,
    paired_interval,
    share_floor,
    share_interval,
    upper_tail,
)
from slipway.core.monitoring.subgroups import Figure, Judged, rows_needed
from slipway.core.monitoring.verdict import Status, bounded, number, percent

#: How often what is said to be proven of a row may be wrong.
RISK = 0.001


@dataclass(frozen=True)
class Smoothing:
    """How rows were moved: ``samples`` copies, with normal noise of ``noise`` deviations of each column."""

    noise: float
    samples: int


@dataclass(frozen=True)
class RobustnessLimits:
    """What a model is held to.

    Attributes:
        smoothing: how rows were moved.
        radius: up to which a row has to stand, in deviations of the columns, all of them together (L2).
        confidence: of all intervals together.
        minimum_accuracy: share of rows that have to stand, between 0 and 1; None for none.
        max_loss: share that may stand less often than with the baseline; None for none.
        minimum_rows: below, nothing is said.
    """

    smoothing: Smoothing
    radius: float
    confidence: float = 0.95
    minimum_accuracy: float | None = None
    max_loss: float | None = None
    minimum_rows: int = 100


@dataclass(frozen=True)
class _Part:
    status: Status
    words: str
    figure: Figure


_ORDER = (Status.FALSE, Status.UNKNOWN, Status.TRUE)
_VERDICTS = {Status.FALSE: "Fail", Status.UNKNOWN: "Inconclusive", Status.TRUE: "Pass"}


def hits_needed(radius: float, smoothing: Smoothing) -> int | None:
    """Of a row's copies, how many have to be given its true class to prove the radius; None for no number.

    The class is known beforehand, so that no copies are spent on guessing it.
    """
    least = NormalDist().cdf(radius / smoothing.noise)
    first, last = math.ceil(smoothing.samples * least), smoothing.samples
    if upper_tail(last, smoothing.samples, least) > RISK:
        return None
    return first + bisect_left(
        range(first, last + 1), -RISK, key=lambda hits: -upper_tail(hits, smoothing.samples, least)
    )


def certified_radius(hits: int, smoothing: Smoothing) -> float:
    """Up to where a row is proven to stand; 0 where nothing is."""
    least = share_floor(hits, smoothing.samples, RISK)
    return smoothing.noise * NormalDist().inv_cdf(least) if least > 0.5 else 0.0


def judge_robustness(found: Withstood, limits: RobustnessLimits) -> Judged:
    """The verdict over all that a model is held to.

    Raises:
        ValueError: if what was counted cannot be.
    """
    _check(found, limits.smoothing)
    rows = len(found.hits)
    if rows < limits.minimum_rows:
        few = f"{number(rows)} rows were moved of the {number(limits.minimum_rows)} needed"
        return Judged("Inconclusive", few, ())
    needed = hits_needed(limits.radius, limits.smoothing)
    if needed is None:
        most = certified_radius(limits.smoothing.samples, limits.smoothing)
        return Judged(
            "Inconclusive",
            f"{number(limits.smoothing.samples)} samples with noise {number(limits.smoothing.noise)} prove "
            f"radii up to {number(most)}, and the audit asks for {number(limits.radius)}: give it more "
            "samples, more noise, or a smaller radius",
            (),
        )
    stands = [hits >= needed for hits in found.hits]
    before = None if found.baselineHits is None else [hits >= needed for hits in found.baselineHits]
    is_compared = limits.max_loss is not None and before is not None
    asked = int(limits.minimum_accuracy is not None) + int(is_compared)
    z = deviations(limits.confidence, max(1, asked))
    parts = [*_accurate(stands, limits, z), *_no_worse(stands, before, limits, z)]
    parts.sort(key=lambda part: _ORDER.index(part.status))
    worst = parts[0].status if parts else Status.TRUE
    figures = [part.figure for part in parts]
    figures += _others(found, stands, before, limits, z)
    words = [part.words for part in parts] or ["the first version has no stable one to be compared with"]
    return Judged(_VERDICTS[worst], bounded(words), tuple(figures))


def _check(found: Withstood, smoothing: Smoothing) -> None:
    for counts in (found.hits, found.baselineHits or ()):
        if max(counts, default=0) > smoothing.samples:
            raise ValueError(f"{max(counts)} of {smoothing.samples} copies of a row")
    if (found.baseline is None) != (found.baselineHits is None):
        raise ValueError("the baseline's counts are there without its digest, or the other way round")
    if found.baselineHits is not None and len(found.baselineHits) != len(found.hits):
        raise ValueError(f"{len(found.hits)} rows of one model and {len(found.baselineHits)} of the other")


def _accurate(stands: Sequence[bool], limits: RobustnessLimits, z: float) -> Iterator[_Part]:
    least = limits.minimum_accuracy
    if least is None:
        return
    share = Share(sum(stands), len(stands))
    interval = share_interval(share, z)
    if interval.high < least:
        status, relation = Status.FALSE, "below"
    elif share.value < least:
        status, relation = Status.UNKNOWN, "not clearly below"
    else:
        status, relation = Status.TRUE, "at least"
    words = (
        f"{percent(share.value)} {_between(interval)} of {number(share.rows)} rows stand within "
        f"{number(limits.radius)} deviations, {relation} {percent(least)}"
    )
    yield _Part(status, words, _accuracy(stands, limits, z, least))


def _no_worse(
    stands: Sequence[bool], before: Sequence[bool] | None, limits: RobustnessLimits, z: float
) -> Iterator[_Part]:
    """Whether fewer rows stand than with the baseline: that they do not has to be shown."""
    most = limits.max_loss
    if most is None or before is None:
        return
    rows = len(stands)
    lost = sum(then and not now for now, then in zip(stands, before, strict=True))
    gained = sum(now and not then for now, then in zip(stands, before, strict=True))
    interval = paired_interval(lost, gained, rows, z)
    loss = (lost - gained) / rows
    told = (
        f"{percent(loss)} {_between(interval)} of the rows stood within {number(limits.radius)} deviations "
        "with the stable version and stand no more"
    )
    figure = Figure("CertifiedAccuracyLoss", _within(limits), loss, interval, most)
    if interval.low > most:
        yield _Part(Status.FALSE, f"{told}, more than {percent(most)}", figure)
    elif interval.high > most:
        needed = rows_needed(gained, lost, rows, most, z)
        more = f"; about {number(needed)} rows like these would tell" if needed else ""
        yield _Part(Status.UNKNOWN, f"{told}: {percent(most)} is not ruled out{more}", figure)
    else:
        yield _Part(Status.TRUE, f"{told}, {percent(most)} at most", figure)


def _others(
    found: Withstood,
    stands: Sequence[bool],
    before: Sequence[bool] | None,
    limits: RobustnessLimits,
    z: float,
) -> Iterator[Figure]:
    """What nothing is held to: the share where it has no limit, the baseline's, and medians of radii."""
    if limits.minimum_accuracy is None:
        yield _accuracy(stands, limits, z, None)
    yield _median(found.hits, "", limits.smoothing, z)
    if before is not None and found.baselineHits is not None:
        share = Share(sum(before), len(before))
        of = f"stable version, {_within(limits)}"
        yield Figure("CertifiedAccuracy", of, share.value, share_interval(share, z))
        yield _median(found.baselineHits, "stable version", limits.smoothing, z)


def _accuracy(stands: Sequence[bool], limits: RobustnessLimits, z: float, least: float | None) -> Figure:
    share = Share(sum(stands), len(stands))
    return Figure("CertifiedAccuracy", _within(limits), share.value, share_interval(share, z), least)


def _median(hits: Sequence[int], of: str, smoothing: Smoothing, z: float) -> Figure:
    """Of the radii that are proven; its interval lies between two of them, whatever they are like."""
    ranked, half = sorted(hits), z * math.sqrt(len(hits)) / 2.0
    middle = (len(hits) - 1) / 2.0
    places = (math.floor(middle - half), round(middle), math.ceil(middle + half))
    low, value, high = (
        certified_radius(ranked[min(max(place, 0), len(hits) - 1)], smoothing) for place in places
    )
    return Figure("MedianCertifiedRadius", of, value, Interval(low, high))


def _within(limits: RobustnessLimits) -> str:
    return f"within {number(limits.radius)}"


def _between(interval: Interval) -> str:
    return f"({percent(interval.low)} to {percent(interval.high)})"
