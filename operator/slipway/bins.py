"""What bins are called: labels of series, alike wherever a profile is read.

Without pydantic and numpy, so that the model server's first process can use it.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The bin of rows that have no value: NaN, null, an empty string.
MISSING = "missing"
#: The bin of values that no category stands for.
OTHER = "other"


def interval_names(edges: Sequence[float]) -> tuple[str, ...]:
    """``(-inf,1.5]``, ``(1.5,3]``, ``(3,+inf)``: one name more than there are edges, which ascend.

    Digits are as few as tell the edges apart.
    """
    marks: list[str] = []
    for form in ("%.4g", "%.6g", "%.9g", "%.17g"):
        marks = [form % edge for edge in edges]
        if len(set(marks)) == len(marks):
            break
    lows, highs = ["-inf", *marks], [*marks, "+inf"]
    closings = ["]"] * len(marks) + [")"]
    return tuple(f"({low},{high}{end}" for low, high, end in zip(lows, highs, closings, strict=True))


def category_names(categories: Sequence[str | int]) -> tuple[str, ...]:
    """The categories as text; one that is called as a special bin is quoted."""
    names = (str(category) for category in categories)
    return tuple(f"'{name}'" if name in (MISSING, OTHER) else name for name in names)
