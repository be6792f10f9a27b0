"""Whether a model answers as it did when its profile was made; plain values, for both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Sums come in another order on another processor or version of onnxruntime.
RELATIVE, ABSOLUTE = 1e-3, 1e-5

Value = bool | int | float | str | None


def first_difference(recorded: Sequence[Value], answered: Sequence[Value]) -> str | None:
    """Where two answers differ, in words; None where they are the same.

    Numbers with a point may differ by :data:`RELATIVE` or :data:`ABSOLUTE`; ``None`` stands for one that is
    not finite. All else has to be equal.
    """
    if len(recorded) != len(answered):
        return f"{len(recorded)} values were recorded, {len(answered)} came"
    for position, (before, now) in enumerate(zip(recorded, answered, strict=True)):
        if isinstance(now, float) and not math.isfinite(now):
            now = None
        if isinstance(before, float | int) and isinstance(now, float):
            same = math.isclose(before, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        else:
            same = before == now
        if not same:
            return f"value {position} was recorded as {before!r}, and is {now!r}"
    return None
