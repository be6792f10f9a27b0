"""The chi-square distribution's upper tail, exact to a float, without a numbers library."""

from __future__ import annotations

import functools
import math

_MOST_TERMS = 10_000
_TINY = 1e-300


@functools.lru_cache(maxsize=4096)
def upper_quantile(probability: float, freedom: int) -> float:
    """The value that a chi-square variable exceeds with this probability.

    Args:
        probability: between 0 and 1, both excluded.
        freedom: degrees of freedom, at least 1.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability {probability} is not between 0 and 1")
    low, high = 0.0, float(max(freedom, 1))
    while upper_tail(high, freedom) > probability:
        low, high = high, 2.0 * high
    while True:
        middle = (low + high) / 2.0
        if middle in (low, high):
            return high
        if upper_tail(middle, freedom) > probability:
            low = middle
        else:
            high = middle


def upper_tail(value: float, freedom: int) -> float:
    """The probability that a chi-square variable exceeds ``value``; small ones keep their relative precision.

    The regularized incomplete gamma function: a series below its peak, a continued fraction above it.
    Sources: Abramowitz and Stegun, 6.5.29 and 6.5.31; the fraction by Lentz's method as modified by Thompson
    and Barnett (1986).

    Raises:
        ValueError: if there is no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom: at least 1 is needed")
    shape, point = freedom / 2.0, value / 2.0
    if point <= 0.0:
        return 1.0
    factor = math.exp(shape * math.log(point) - point - math.lgamma(shape))
    if point < shape + 1.0:
        return 1.0 - factor * _series(shape, point)
    return factor * _fraction(shape, point)


def _series(shape: float, point: float) -> float:
    term = total = 1.0 / shape
    for step in range(1, _MOST_TERMS):
        term *= point / (shape + step)
        total += term
        if term < total * 1e-17:
            break
    return total


def _fraction(shape: float, point: float) -> float:
    denominator = point + 1.0 - shape
    ratio, inverse = 1.0 / _TINY, 1.0 / denominator
    total = inverse
    for step in range(1, _MOST_TERMS):
        numerator = -step * (step - shape)
        denominator += 2.0
        inverse = 1.0 / (_nonzero(numerator * inverse + denominator))
        ratio = _nonzero(denominator + numerator / ratio)
        change = ratio * inverse
        total *= change
        if abs(change - 1.0) < 1e-16:
            break
    return total


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
