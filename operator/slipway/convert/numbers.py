"""Numbers of 32 and of 64 bits, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Numbers:
    """Those of one width.

    Attributes:
        floats, bits: their datatype, and the one of whole numbers as wide.
        last: the place of the largest finite number.
    """

    floats: Any
    bits: Any
    last: int

    def places(self, values: Array) -> Array:
        """Where finite values are in the order of all numbers, as int64; neighbours are 1 apart."""
        bits = np.asarray(values, self.floats).view(self.bits).astype(np.int64)
        order: Array = np.where(bits < 0, -(bits & np.iinfo(self.bits).max), bits)
        return order

    def at(self, order: Array) -> Array:
        """The values at those places, in 64 bits."""
        sizes = np.abs(order).astype(self.bits).view(self.floats).astype(np.float64)
        values: Array = np.where(order < 0, -sizes, sizes)
        return values

    def beside(self, order: Array, step: int) -> Array:
        """Places so many steps further, within the finite ones."""
        there: Array = np.clip(order + step, -self.last, self.last)
        return there


OF_32_BITS = Numbers(np.float32, np.int32, 0x7F7FFFFF)
OF_64_BITS = Numbers(np.float64, np.int64, 0x7FEFFFFFFFFFFFFF)
