"""Numbers of 32 bits, in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: The place of the largest finite number.
LAST_PLACE = 0x7F7FFFFF


def places(values: Array) -> Array:
    """Where finite values are in the order of all numbers of 32 bits, as int64; neighbours are 1 apart."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def at_places(order: Array) -> Array:
    """The values at those places, in 64 bits."""
    bits = np.where(order < 0, -order | 0x80000000, order).astype(np.uint32)
    return bits.view(np.float32).astype(np.float64)
