"""What an audit says of how far rows can be moved before a model is wrong about them.

A row stands where the model is right about it and about what lies around it, up to a radius that is asked
for. By randomized smoothing (Cohen et al., 2019) that is proven, of the model that answers what most of a
row's noisy copies are given: of each row is known how many copies were given its true class, and the
probability that a copy is has to be shown to be as high as the radius takes. By an attack it is tried: what
stands was not found to fall, with so many queries. Shares of rows and their
intervals are as in :mod:`slipway.core.monitoring.subgroups`; two models are moved
at the same rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from slipway.contract import Evaded, Withstood
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
#: Distances are told in so many parts of a deviation.
_PARTS = 1000


@dataclass(frozen=True)
class Smoothing:
    """How rows were moved: ``samples`` copies, with normal noise of ``noise`` deviations of each column."""

    noise: float
    samples: int


@dataclass(frozen=True)
class RobustnessLimits:
    """What a model is held to.

    Attributes:
        radius: up to which a row has to stand, in deviations of the columns, all of them together (L2).
        confidence: of all intervals together.
        minimum_accuracy: share of rows that have to stand, between 0 and 1; None for none.
        max_loss: share that may stand less often than with the baseline; None for none.
        minimum_rows: below, nothing is said.
    """

    radius: float
    confidence: float = 0.95
    minimum_accuracy: float | None = None
    max_loss: float | None = None
    minimum_rows: int = 100


@dataclass(frozen=True)
class _Measured:
    """What is known of each row: a whole number that grows with how far it stands.

    From ``needed`` on it stands, ``radius`` says how far; ``share`` and ``median`` name figures.
    """

    rows: Sequence[int]
    before: Sequence[int] | None
    needed: int
    radius: Callable[[int], float]
    share: str
    median: str


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


def judge_smoothing(found: Withstood, smoothing: Smoothing, limits: RobustnessLimits) -> Judged:
    """The verdict by how many copies of each row were given its true class.

    Raises:
        ValueError: if what was counted cannot be.
    """
    for counts in (found.hits, found.baselineHits or ()):
        if max(counts, default=0) > smoothing.samples:
            raise ValueError(f"{max(counts)} of {smoothing.samples} copies of a row")
    needed = hits_needed(limits.radius, smoothing)
    if needed is None:
        most = certified_radius(smoothing.samples, smoothing)
        return Judged(
            "Inconclusive",
            f"{number(smoothing.samples)} samples with noise {number(smoothing.noise)} prove radii up to "
            f"{number(most)}, and the audit asks for {number(limits.radius)}: give it more samples, more "
            "noise, or a smaller radius",
            (),
        )
    measured = _Measured(
        found.hits,
        found.baselineHits,
        needed,
        lambda hits: certified_radius(hits, smoothing),
        "CertifiedAccuracy",
        "MedianCertifiedRadius",
    )
    return _judge(measured, found.baseline, limits)


def judge_evasion(found: Evaded, limits: RobustnessLimits) -> Judged:
    """The verdict by how near an attack got to each row: a row stands where it got no nearer than the radius.

    Raises:
        ValueError: if what was found cannot be.
    """
    measured = _Measured(
        found.distances,
        found.baselineDistances,
        round(limits.radius * _PARTS),
        lambda distance: distance / _PARTS,
        "RobustAccuracy",
        "MedianDistance",
    )
    return _judge(measured, found.baseline, limits)


def _judge(measured: _Measured, baseline: str | None, limits: RobustnessLimits) -> Judged:
    rows = len(measured.rows)
    if (baseline is None) != (measured.before is None):
        raise ValueError("the baseline's numbers are there without its digest, or the other way round")
    if measured.before is not None and len(measured.before) != rows:
        raise ValueError(f"{rows} rows of one model and {len(measured.before)} of the other")
    if rows < limits.minimum_rows:
        few = f"{number(rows)} rows were moved of the {number(limits.minimum_rows)} needed"
        return Judged("Inconclusive", few, ())
    stands = [each >= measured.needed for each in measured.rows]
    before = None if measured.before is None else [each >= measured.needed for each in measured.before]
    asked = int(limits.minimum_accuracy is not None)
    asked += int(limits.max_loss is not None and before is not None)
    z = deviations(limits.confidence, max(1, asked))
    share = _share(measured, stands, limits, z)
    parts = [*_accurate(share, rows, limits), *_no_worse(measured, stands, before, limits, z)]
    parts.sort(key=lambda part: _ORDER.index(part.status))
    worst = parts[0].status if parts else Status.TRUE
    figures = [part.figure for part in parts]
    if limits.minimum_accuracy is None:
        figures.append(share)
    figures.append(_median(measured, measured.rows, "", z))
    if before is not None and measured.before is not None:
        theirs = _share(measured, before, limits, z)
        figures.append(replace(theirs, of=f"stable version, {theirs.of}", limit=None))
        figures.append(_median(measured, measured.before, "stable version", z))
    words = [part.words for part in parts] or ["the first version has no stable one to be compared with"]
    return Judged(_VERDICTS[worst], bounded(words), tuple(figures))


def _share(measured: _Measured, stands: Sequence[bool], limits: RobustnessLimits, z: float) -> Figure:
    share = Share(sum(stands), len(stands))
    within = f"within {number(limits.radius)}"
    return Figure(measured.share, within, share.value, share_interval(share, z), limits.minimum_accuracy)


def _accurate(share: Figure, rows: int, limits: RobustnessLimits) -> Iterator[_Part]:
    least = limits.minimum_accuracy
    if least is None:
        return
    if share.interval.high < least:
        status, relation = Status.FALSE, "below"
    elif share.value < least:
        status, relation = Status.UNKNOWN, "not clearly below"
    else:
        status, relation = Status.TRUE, "at least"
    words = (
        f"{percent(share.value)} {_between(share.interval)} of {number(rows)} rows stand within "
        f"{number(limits.radius)} deviations, {relation} {percent(least)}"
    )
    yield _Part(status, words, share)


def _no_worse(
    measured: _Measured,
    stands: Sequence[bool],
    before: Sequence[bool] | None,
    limits: RobustnessLimits,
    z: float,
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
    figure = Figure(f"{measured.share}Loss", f"within {number(limits.radius)}", loss, interval, most)
    if interval.low > most:
        yield _Part(Status.FALSE, f"{told}, more than {percent(most)}", figure)
    elif interval.high > most:
        needed = rows_needed(gained, lost, rows, most, z)
        more = f"; about {number(needed)} rows like these would tell" if needed else ""
        yield _Part(Status.UNKNOWN, f"{told}: {percent(most)} is not ruled out{more}", figure)
    else:
        yield _Part(Status.TRUE, f"{told}, {percent(most)} at most", figure)


def _median(measured: _Measured, rows: Sequence[int], of: str, z: float) -> Figure:
    """Of how far rows stand; its interval lies between two of them, whatever they are like."""
    ranked, half = sorted(rows), z * math.sqrt(len(rows)) / 2.0
    middle = (len(rows) - 1) / 2.0
    places = (math.floor(middle - half), round(middle), math.ceil(middle + half))
    low, value, high = (measured.radius(ranked[min(max(place, 0), len(rows) - 1)]) for place in places)
    return Figure(measured.median, of, value, Interval(low, high))


def _between(interval: Interval) -> str:
    return f"({percent(interval.low)} to {percent(interval.high)})"
