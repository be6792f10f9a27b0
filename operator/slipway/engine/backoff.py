"""How long what failed is left alone."""

from __future__ import annotations

import random

#: By how much a time is longer or shorter, so that what failed together is not tried again together.
JITTER = 0.2


def backoff(failures: int, least: float, most: float, chance: float | None = None) -> float:
    """Seconds until the next try: ``least`` at first, twice as many each time, ``most`` in the end.

    Args:
        failures: in a row, from 1 on.
        least: seconds after the first.
        most: seconds that it comes to.
        chance: from 0 to 1, for about a fifth less to a fifth more; by itself unless given.
    """
    found = random.random() if chance is None else chance
    return min(most, least * 2.0 ** min(max(failures - 1, 0), 30)) * (1 + JITTER * (2 * found - 1))
