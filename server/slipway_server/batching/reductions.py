"""Operators that go over an axis: sums, maxima, what is largest, softmax."""

from __future__ import annotations

from slipway_server.batching.operators import Answer, Use, apart, at, rule
from slipway_server.batching.values import Dim, Mixes, of_shape

_REDUCTIONS = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"


@rule("CumSum CumProd")
def _running(use: Use) -> Answer:
    (axis,) = use.numbers(1)
    apart(use.given(), at(axis, len(use.shape())))
    return of_shape(use.shape())


@rule(" ".join(f"Reduce{name}" for name in _REDUCTIONS.split()))
def _reduce(use: Use) -> Answer:
    value, shape = use.given(), use.shape()
    axes = use.listed("axes", 1)
    if not axes and use.flag("noop_with_empty_axes"):
        return of_shape(shape)
    gone = {at(axis, len(shape)) for axis in axes} if axes else set(range(len(shape)))
    apart(value, *gone)
    return of_shape(_reduced(shape, gone, use.flag("keepdims", 1)))


@rule("ArgMax ArgMin")
def _arg(use: Use) -> Answer:
    shape = use.shape()
    axis = use.axis(0, len(shape))
    apart(use.given(), axis)
    return of_shape(_reduced(shape, {axis}, use.flag("keepdims", 1)))


def _reduced(shape: tuple[Dim, ...], gone: set[int], keep: bool) -> list[Dim]:
    return [1 if axis in gone else dim for axis, dim in enumerate(shape) if keep or axis not in gone]


@rule("TopK")
def _top(use: Use) -> Answer:
    shape = list(use.shape())
    axis = use.axis(-1, len(shape))
    apart(use.given(), axis)
    shape[axis] = int(use.numbers(1)[0]) if use.has(1) else use.integer("k", 0)
    return [of_shape(shape), of_shape(shape)]


@rule("Softmax LogSoftmax Hardmax")
def _softmax(use: Use) -> Answer:
    value, shape = use.given(), use.shape()
    if use.version >= 13:
        apart(value, use.axis(-1, len(shape)))
    else:
        # The axes from this one on are one.
        apart(value, *range(use.axis(1, len(shape)), len(shape)))
    return of_shape(shape)


@rule("LpNormalization")
def _lp_normalization(use: Use) -> Answer:
    apart(use.given(), use.axis(-1, len(use.shape())))
    return of_shape(use.shape())


@rule("MeanVarianceNormalization")
def _mean_variance(use: Use) -> Answer:
    rank = len(use.shape())
    axes = use.integers("axes", (0, 2, 3) if use.version >= 9 else ()) or []
    if not axes:
        raise Mixes("normalizes in a way that is not understood")
    apart(use.given(), *(at(axis, rank) for axis in axes))
    return of_shape(use.shape())
