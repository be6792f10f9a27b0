"""Computing with sizes: what exporters derive from ``Shape`` on the way to a ``Reshape`` or an ``Expand``.

Such tensors are small and known but for the number of rows, so they are computed, with that number left open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slipway_server.batching.operators import Use, at
from slipway_server.batching.values import Count, Mixes, Value, of_array

Array = Any
#: A float of 32 bits holds every whole number below this.
_EXACT = 2**24


def computed(use: Use) -> Value | None:
    """The result where all inputs are known numbers and the operator is one of the few; else None."""
    fold = _FOLDS.get(use.kind)
    if fold is None or any(value is not None and value.entries is None for value in use.inputs):
        return None
    return of_array(fold(use, [value.array() for value in use.inputs if value is not None]))


def _entrywise(function: Callable[..., Any]) -> Callable[[Use, list[Array]], Array]:
    def one(*entries: Any) -> Any:
        for entry in entries:
            if not isinstance(entry, Count) and not _is_size(entry):
                raise Mixes("computes with a size that is not known")
        result = function(*entries)
        if not isinstance(result, Count) and not _is_size(result):
            raise Mixes("computes a size that is too large")
        return result

    return lambda _, given: np.asarray(np.frompyfunc(one, len(given), 1)(*given), object)


def _is_size(entry: Any) -> bool:
    """Whether it is whole, and small enough for every type of numbers to hold it exactly."""
    return entry is not None and -_EXACT < entry < _EXACT and entry == int(entry)


def _plus(one: Any, other: Any) -> Any:
    if isinstance(one, Count) and isinstance(other, Count):
        return Count(one.each + other.each)
    if isinstance(one, Count) or isinstance(other, Count):
        if 0 in (one, other):
            return one if other == 0 else other
        raise Mixes("computes a size from the number of rows that is not a multiple of it")
    return one + other


def _minus(one: Any, other: Any) -> Any:
    if isinstance(other, Count):
        if isinstance(one, Count) and one.each > other.each:
            return Count(one.each - other.each)
        if one == other:
            return 0
        raise Mixes("computes a size from the number of rows that is not a multiple of it")
    return _plus(one, -other)


def _times(one: Any, other: Any) -> Any:
    return 0 if 0 in (one, other) else one * other


def _over(one: Any, other: Any) -> Any:
    if isinstance(one, Count):
        return one.over(other)
    if isinstance(other, Count) or not other or one % other:
        raise Mixes("divides sizes with a rest")
    return one // other


def _equal(one: Any, other: Any) -> bool:
    """Whatever the number of rows, which is at least 1."""
    if isinstance(one, Count) != isinstance(other, Count):
        plain = other if isinstance(one, Count) else one
        if plain > 0:
            raise Mixes("compares the number of rows with a size")
        return False
    return bool(one == other)


def _cast(use: Use, given: list[Array]) -> Array:
    kind = use.attribute("to")

    def one(entry: Any) -> Any:
        if isinstance(entry, Count):
            if kind not in (1, 6, 7, 11):
                raise Mixes("keeps the number of rows in a type that it may not fit")
            return entry
        if kind in (6, 7):
            return int(entry)
        if kind == 9:
            return bool(entry)
        if kind in (1, 10, 11):
            return float(entry)
        raise Mixes("keeps sizes in another type")

    return _entrywise(one)(use, given)


def _whole(entry: Any) -> Any:
    if isinstance(entry, Count):
        return entry
    raise Mixes("rounds a size")


def _where(chosen: Any, one: Any, other: Any) -> Any:
    if isinstance(chosen, Count):
        raise Mixes("decides by the number of rows")
    return one if chosen else other


def _gather(use: Use, given: list[Array]) -> Array:
    data, places = given
    return np.asarray(np.take(data, places.astype(np.int64), axis=use.axis(0, data.ndim)), object)


def _slice(use: Use, given: list[Array]) -> Array:
    data = given[0]
    starts, ends = use.listed("starts", 1), use.listed("ends", 2)
    if data.ndim != 1 or starts is None or ends is None:
        raise Mixes("cuts out sizes in a way that is not understood")
    steps = use.numbers(4) if use.has(4) else [1] * len(starts)
    for start, end, step in zip(starts, ends, steps, strict=True):
        data = data[start:end:step]
    return data


def _concat(use: Use, given: list[Array]) -> Array:
    return np.concatenate(given, axis=use.axis(1 if use.version < 4 else 0, given[0].ndim))


def _unsqueeze(use: Use, given: list[Array]) -> Array:
    axes = use.listed("axes", 1) or []
    return np.expand_dims(given[0], tuple(at(axis, given[0].ndim + len(axes)) for axis in axes))


def _squeeze(use: Use, given: list[Array]) -> Array:
    axes = use.listed("axes", 1)
    if axes is None:
        return given[0].squeeze()
    return given[0].squeeze(tuple(at(axis, given[0].ndim) for axis in axes))


def _reshape(use: Use, given: list[Array]) -> Array:
    target = use.numbers(1) if use.has(1) else use.integers("shape", ()) or []
    return given[0].reshape([int(size) for size in target])


def _prod(use: Use, given: list[Array]) -> Array:
    keep = use.flag("keepdims", 1)
    total: Any = 1
    for entry in given[0].reshape(-1):
        total = _times(total, entry)
    result = np.empty((), object)
    result[()] = total
    return result.reshape([1] * given[0].ndim) if keep else result


_FOLDS: dict[str, Callable[[Use, list[Array]], Array]] = {
    "Identity": lambda _, given: given[0],
    "Cast": _cast,
    "Add": _entrywise(_plus),
    "Sub": _entrywise(_minus),
    "Mul": _entrywise(_times),
    "Div": _entrywise(_over),
    "Equal": _entrywise(_equal),
    "Floor": _entrywise(_whole),
    "Ceil": _entrywise(_whole),
    "Where": _entrywise(_where),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "ReduceProd": _prod,
}
