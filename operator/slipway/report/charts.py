"""Where the marks of the report's charts lie, in the units of their SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Size of a distribution's chart and of an interval's.
BARS_WIDTH, BARS_HEIGHT = 460.0, 110.0
WHISKER_WIDTH = 320.0


@dataclass(frozen=True)
class Bar:
    """One bin: the window's bar, the reference's mark across it, and what to say of them."""

    left: float
    width: float
    top: float
    height: float
    reference: float
    title: str


@dataclass(frozen=True)
class Whisker:
    """A value, its interval and its limit, if it has one, by their distance from the left."""

    value: float
    low: float
    high: float
    limit: float | None


def bars(names: Sequence[str], window: Sequence[float], reference: Sequence[float]) -> tuple[Bar, ...]:
    """One bar a bin; the largest share of all fills the height.

    Raises:
        ValueError: if there is not one share of each for every bin.
    """
    if not names:
        return ()
    step, most = BARS_WIDTH / len(names), max(*window, *reference, 1e-9)
    return tuple(
        Bar(
            round(position * step + 0.1 * step, 2),
            round(0.8 * step, 2),
            round(BARS_HEIGHT * (1.0 - share / most), 2),
            round(BARS_HEIGHT * share / most, 2),
            round(BARS_HEIGHT * (1.0 - expected / most), 2),
            f"{name}: {100 * share:.3g}% now, {100 * expected:.3g}% in the reference",
        )
        for position, (name, share, expected) in enumerate(zip(names, window, reference, strict=True))
    )


def whisker(value: float, low: float, high: float, limit: float | None, most: float) -> Whisker:
    """On a scale from 0 to ``most``; what lies outside is drawn at the end."""

    def place(number: float) -> float:
        held = 0.0 if math.isnan(number) else min(max(number, 0.0), most)
        return round(WHISKER_WIDTH * held / most, 2)

    return Whisker(place(value), place(low), place(high), None if limit is None else place(limit))
