"""What is known of a tensor before any request is seen.

Let a call have ``n`` rows. A tensor's shape holds numbers that no request changes, and at most one
:class:`Count`: a dimension of ``each * n`` entries, ``each`` of them for one row, in the order of rows. The
claim about such a tensor is that the entries of a row depend on that row alone. A tensor without a ``Count``
in its shape is the same in every call. Everything else has no :class:`Value`: see :class:`Mixes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class Mixes(Exception):  # noqa: N818 - a finding, not a fault
    """Rows are not known to stay apart; the message says why, as the rest of a sentence about an operator."""


@dataclass(frozen=True, slots=True)
class Count:
    """``each`` times the number of rows of a call; numbers that are computed from shapes are such, too."""

    each: int

    def __mul__(self, other: Any) -> Count:
        if isinstance(other, Count):
            raise Mixes("multiplies the number of rows with itself")
        each = self.each * other
        if each != int(each) or each <= 0:
            raise Mixes("computes a size from the number of rows that is not a multiple of it")
        return Count(int(each))

    __rmul__ = __mul__

    def over(self, other: Any) -> int | Count:
        """The quotient, where it is a whole number whatever the number of rows."""
        each, divisor = self.each, other.each if isinstance(other, Count) else other
        if not divisor or each % divisor:
            raise Mixes("computes a size from the number of rows that is not a multiple of it")
        quotient = int(each // divisor)
        return quotient if isinstance(other, Count) else Count(quotient)


#: A dimension: None is a size that is not known, but the same in every call.
Dim = int | Count | None
Shape = tuple[Dim, ...]
#: The most numbers of a tensor that are kept.
MOST_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor; ``shape`` is None where not even the rank is known, which only a constant's may be.

    ``entries`` are its numbers where they are known and few, flat; among them may be counts, and then the
    tensor is no constant though its shape has none. ``padding`` is a string that fills up the last
    axis, as far as the longest row of the call needs. ``kind`` is the type of its entries, see
    :mod:`.kinds`.
    """

    shape: Shape | None
    entries: tuple[Any, ...] | None = None
    padding: bytes | None = None
    kind: int = 0

    @property
    def axis(self) -> int | None:
        """Which dimension counts rows."""
        return next((at for at, dim in enumerate(self.shape or ()) if isinstance(dim, Count)), None)

    @property
    def is_constant(self) -> bool:
        return self.axis is None and not self.has_counts and self.padding is None

    @property
    def has_counts(self) -> bool:
        return self.entries is not None and any(isinstance(entry, Count) for entry in self.entries)

    def array(self) -> Any:
        """Its entries in its shape."""
        flat = np.empty(len(self.entries or ()), object)
        flat[:] = self.entries or ()
        return flat.reshape([dim for dim in self.shape or () if isinstance(dim, int)])


UNKNOWN_CONSTANT = Value(None)


def of_shape(dims: Iterable[Dim]) -> Value:
    """A tensor of this shape. Raises :class:`Mixes` where two dimensions count rows."""
    shape = tuple(dims)
    if sum(isinstance(dim, Count) for dim in shape) > 1:
        raise Mixes("pairs each row with every other one")
    return Value(shape)


def of_array(array: Any) -> Value:
    """A tensor of these numbers, counts among them perhaps."""
    if array.size > MOST_ENTRIES:
        return Value(tuple(array.shape))
    return Value(tuple(array.shape), tuple(array.reshape(-1).tolist()))


def broadcast(values: Sequence[Value]) -> Value:
    """The shape in which tensors are combined entry by entry; rows have to meet rows, or one for all."""
    return of_shape(broadcast_dims([known(value) for value in values]))


def broadcast_dims(shapes: Sequence[Shape]) -> list[Dim]:
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return [_together(dims) for dims in zip(*padded, strict=True)]


def _together(dims: Sequence[Dim]) -> Dim:
    wide = {dim for dim in dims if dim != 1}
    if any(isinstance(dim, Count) for dim in wide):
        if len(wide) > 1:
            raise Mixes("combines rows with entries of another axis")
        return wide.pop()
    sizes = wide - {None}
    if len(sizes) > 1:
        raise Mixes("combines shapes that do not fit")
    return sizes.pop() if sizes else (None if wide else 1)


def known(value: Value) -> Shape:
    """Its shape. Raises :class:`Mixes` where not even the rank is known."""
    if value.shape is None:
        raise Mixes("takes a constant of unknown shape")
    return value.shape


def reshaped(value: Value, target: Sequence[Dim], keeps_zeros: bool = False) -> Value:
    """A tensor in another shape: -1 in it is what is left over, 0 the dimension there was.

    Row-major order keeps rows apart where as many entries stand before the rows' axis, in sum, as did
    before, and as many belong to each of its entries. Raises :class:`Mixes` where that is not so.
    """
    shape = known(value)
    dims = list(target)
    for at, dim in enumerate(dims):
        if dim == 0 and not keeps_zeros:
            if at >= len(shape):
                raise Mixes("asks for a dimension that there is not")
            dims[at] = shape[at]
    if dims.count(-1) > 1:
        raise Mixes("asks for two dimensions that are left over")
    if -1 in dims:
        place = dims.index(-1)
        dims[place] = _left_over(shape, [*dims[:place], *dims[place + 1 :]])
    result = of_shape(dims)
    if value.axis is None and result.axis is None:
        return result
    if value.axis is None or result.axis is None:
        raise Mixes("reshapes to a size that does not follow the number of rows")
    if _split(shape, value.axis) != _split(tuple(dims), result.axis):
        raise Mixes("reshapes across rows")
    return result


def _left_over(shape: Shape, others: Sequence[Dim]) -> Dim:
    if None in shape or None in others:
        if any(isinstance(dim, Count) for dim in (*shape, *others)):
            raise Mixes("reshapes sizes that are not known")
        return None
    total, divisor = product(shape), product(others)
    if isinstance(total, Count):
        return total.over(divisor)
    if isinstance(divisor, Count) or not divisor or total % divisor:
        raise Mixes("reshapes to a size that does not fit")
    return int(total // divisor)


def product(dims: Iterable[Dim]) -> Any:
    """The product of dimensions that are known."""
    total: Any = 1
    for dim in dims:
        total = total * dim
    return total


def entries_of_a_row(value: Value) -> int | None:
    """How many entries belong to each row; None where that is not known."""
    dims = [dim.each if isinstance(dim, Count) else dim for dim in known(value)]
    return None if None in dims else int(product(dims))


def _split(shape: Shape, axis: int) -> tuple[int, int]:
    """How many entries stand before the rows' axis, and how many belong to each row from there on."""
    count, others = shape[axis], (*shape[:axis], *shape[axis + 1 :])
    if None in others or not isinstance(count, Count):
        raise Mixes("reshapes sizes that are not known")
    return product(shape[:axis]), count.each * product(shape[axis + 1 :])
