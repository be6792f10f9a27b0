"""Shares of counts, and intervals around them, their differences and their ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """``hits`` of ``rows``."""

    hits: float
    rows: float

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.rows:
            raise ValueError(f"{self.hits} of {self.rows} is no share")

    @property
    def value(self) -> float:
        """Between 0 and 1; not a number where there are no rows."""
        return self.hits / self.rows if self.rows else math.nan


@dataclass(frozen=True)
class Interval:
    """Where the true value lies with the confidence that was asked for."""

    low: float
    high: float


def deviations(confidence: float, comparisons: int = 1) -> float:
    """Standard deviations to each side that hold all of ``comparisons`` intervals at once (Bonferroni).

    Raises:
        ValueError: if the confidence is not between 0 and 1, or nothing is compared.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    if comparisons < 1:
        raise ValueError(f"{comparisons} comparisons: at least 1 is needed")
    return -NormalDist().inv_cdf((1.0 - confidence) / comparisons / 2.0)


def share_interval(share: Share, z: float) -> Interval:
    """Wilson's score interval (1927); 0 to 1 where there are no rows."""
    if not share.rows:
        return Interval(0.0, 1.0)
    spread = z * z / share.rows
    middle = (share.value + spread / 2.0) / (1.0 + spread)
    variance = share.value * (1.0 - share.value) / share.rows + spread / (4.0 * share.rows)
    half = z * math.sqrt(variance) / (1.0 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def share_floor(hits: int, rows: int, risk: float) -> float:
    """The true share is at least this, but for ``risk``: the exact bound of Clopper and Pearson (1934)."""
    low, high = 0.0, hits / rows
    for _ in range(48):
        middle = (low + high) / 2.0
        low, high = (low, middle) if upper_tail(hits, rows, middle) > risk else (middle, high)
    return low


def upper_tail(hits: int, rows: int, share: float) -> float:
    """How likely at least so many hits are where the true share is ``share``, at most ``hits / rows``."""
    if hits <= 0 or share >= 1.0:
        return 1.0
    if share <= 0.0:
        return 0.0
    term = math.exp(
        math.lgamma(rows + 1)
        - math.lgamma(hits + 1)
        - math.lgamma(rows - hits + 1)
        + hits * math.log(share)
        + (rows - hits) * math.log1p(-share)
    )
    total, odds = term, share / (1.0 - share)
    for count in range(hits + 1, rows + 1):
        # Each more is less likely than the one before, as the share is no larger than that of the hits.
        term *= odds * (rows - count + 1) / count
        total += term
        if term < total * 1e-17:
            break
    return min(1.0, total)


def difference_interval(one: Share, other: Share, z: float) -> Interval:
    """Interval of ``one - other``, by Agresti and Caffo (2000): a hit and a miss are added to each."""
    first, second = _padded(one), _padded(other)
    spread = z * math.sqrt(
        first.value * (1.0 - first.value) / first.rows + second.value * (1.0 - second.value) / second.rows
    )
    middle = first.value - second.value
    return Interval(max(-1.0, middle - spread), min(1.0, middle + spread))


def ratio_interval(one: Share, other: Share, z: float) -> Interval:
    """Interval of ``one / other``: Katz's (1978) on the logarithm, with Walter's half a hit.

    Half a hit and half a row on each side keep it finite where a group has no hit, which is the case that
    matters most.
    """
    first, second = one.hits + 0.5, other.hits + 0.5
    first_rows, second_rows = one.rows + 0.5, other.rows + 0.5
    middle = math.log(first / first_rows) - math.log(second / second_rows)
    spread = z * math.sqrt(1.0 / first - 1.0 / first_rows + 1.0 / second - 1.0 / second_rows)
    return Interval(math.exp(middle - spread), math.exp(middle + spread))


def paired_interval(gained: float, lost: float, rows: float, z: float) -> Interval:
    """Interval of ``(gained - lost) / rows``, where two answer the same rows and differ in those.

    By Agresti and Min (2005): half a row is added to each of the four ways in which both can answer.
    """
    more, fewer, all_ = gained + 0.5, lost + 0.5, rows + 2.0
    middle = (more - fewer) / all_
    spread = z * math.sqrt(max(0.0, more + fewer - (more - fewer) ** 2 / all_)) / all_
    return Interval(max(-1.0, middle - spread), min(1.0, middle + spread))


def _padded(share: Share) -> Share:
    return Share(share.hits + 1.0, share.rows + 2.0)
