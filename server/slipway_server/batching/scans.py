"""What ``Scan`` gives to its body, slices along an axis, and what it makes of the results, their stack."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_server.batching.operators import Use, apart, at
from slipway_server.batching.values import UNKNOWN_CONSTANT, Mixes, Value, known, of_shape


def scan_slices(use: Use) -> tuple[list[Value], int]:
    """One slice of each input that is scanned, and how many there are of each.

    Raises :class:`Mixes` where rows lie along a scanned axis, or requests decide how many slices there are.
    """
    if use.version < 9:
        raise Mixes("scans as version 8 did")
    count = use.integer("num_scan_inputs", 0)
    if not 0 < count <= len(use.inputs):
        raise Mixes("scans in a way that is not understood")
    axes = use.integers("scan_input_axes") or [0] * count
    slices, sizes = [], set()
    for index, axis in zip(range(len(use.inputs) - count, len(use.inputs)), axes, strict=True):
        value, shape = use.given(index), use.shape(index)
        place = at(axis, len(shape))
        apart(value, place)
        _is_plain(value)
        sizes.add(shape[place])
        slices.append(Value((*shape[:place], *shape[place + 1 :]), kind=value.kind))
    times = sizes.pop()
    if sizes or not isinstance(times, int) or times < 1:
        raise Mixes("scans a number of slices that is not known before a request")
    return slices, times


def scan_stacks(use: Use, results: Sequence[Value | Mixes], times: int) -> list[Value | Mixes]:
    """What the body's results are once those of all slices are stacked."""
    axes = use.integers("scan_output_axes") or [0] * len(results)
    return [_stack(each, axis, times) for each, axis in zip(results, axes, strict=True)]


def _stack(value: Value | Mixes, axis: int, times: int) -> Value | Mixes:
    if isinstance(value, Mixes):
        return value
    _is_plain(value)
    if value.shape is None:
        return UNKNOWN_CONSTANT
    shape = known(value)
    place = at(axis, len(shape) + 1)
    return Value(of_shape([*shape[:place], times, *shape[place:]]).shape, kind=value.kind)


def _is_plain(value: Value) -> None:
    """Raises :class:`Mixes` for a tensor with more than rows in it."""
    if value.has_counts:
        raise Mixes("scans the number of rows")
    if value.padding is not None:
        raise Mixes("scans what pads the rows")
