"""From values to bins: quantiles of numbers, with ties kept together, and the commonest categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slipway.profile import FEWEST_ROWS, CategoryBins, IntervalBins, Range

Array = npt.NDArray[Any]

#: Categories that have a bin of their own, the commonest ones.
MOST_CATEGORIES = 20


def interval_bins(values: Array, most: int) -> IntervalBins:
    """Up to ``most`` bins of about as many values each; ``values`` have the served dtype, and no NaN.

    Equal values are in one bin, so there are fewer bins where values are tied; without a finite value, there
    is one.
    """
    ordered = np.sort(values)
    finite = ordered[np.isfinite(ordered)] if ordered.dtype.kind == "f" else ordered
    edges = quantile_edges(finite, most)
    below = np.searchsorted(ordered, np.array(edges, ordered.dtype), side="right")
    counts = np.diff(np.concatenate([[0], below, [len(ordered)]]))
    return IntervalBins(edges=tuple(map(_plain, edges)), counts=tuple(map(int, counts)))


def quantile_edges(ordered: Array, most: int) -> list[Any]:
    """Edges between ascending values, in their own dtype; a value equal to an edge lies below it.

    An edge is the middle between two neighbours, so that rounding in another datatype moves no value across
    it, unless the two are so close that the dtype has no number between.
    """
    count = len(ordered)
    cuts: set[int] = set()
    for part in range(1, most):
        cut = round(part * count / most)
        if not 0 < cut < count:
            continue
        if ordered[cut - 1] == ordered[cut]:
            # The tie goes to one side as a whole, by the nearer of its ends.
            start = int(np.searchsorted(ordered, ordered[cut], side="left"))
            stop = int(np.searchsorted(ordered, ordered[cut], side="right"))
            ends = sorted((start, stop), key=lambda end: abs(end - cut))
            cut = next((end for end in ends if 0 < end < count), 0)
        if cut:
            cuts.add(cut)
    return [_between(ordered[cut - 1], ordered[cut]) for cut in sorted(cuts)]


def _between(low: Any, high: Any) -> Any:
    """A number of the same dtype, at least ``low`` and less than ``high``."""
    if low.dtype.kind != "f":
        return low
    middle = low.dtype.type(float(low) / 2 + float(high) / 2)
    return middle if low <= middle < high else low


def category_bins(counts: Mapping[str | int, int]) -> CategoryBins:
    """The commonest values, by count and then by name; ``other`` has the rest, and whatever is rare."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    kept = [item for item in ranked[:MOST_CATEGORIES] if item[1] >= FEWEST_ROWS]
    names, numbers = tuple(name for name, _ in kept), tuple(count for _, count in kept)
    return CategoryBins(categories=names, counts=numbers, other=sum(counts.values()) - sum(numbers))


def range_of(values: Array) -> Range | None:
    """Of the finite ones among ``values``; None where there is none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(finite):
        return None
    return Range(
        minimum=_plain(finite.min()),
        maximum=_plain(finite.max()),
        mean=float(finite.mean(dtype=np.float64)),
        deviation=float(finite.std(dtype=np.float64)),
        integral=bool((finite == np.rint(finite)).all()),
    )


def count_in(bins: IntervalBins, values: Array, where: Array | None = None) -> tuple[int, ...]:
    """How many ``values`` lie in each bin, of those that ``where`` (booleans) picks."""
    places = np.searchsorted(np.array(bins.edges, values.dtype), values, side="left")
    if where is not None:
        places = places[where]
    return tuple(map(int, np.bincount(places, minlength=len(bins.counts))))


def _plain(value: Any) -> float:
    return float(value)
