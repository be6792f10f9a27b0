"""Rows to try a model with: ordinary ones, and ones from the ends of their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from slipway_server.protocol.tensors import Array, Datatype, TensorSpec

#: As many rows are made up, every second one of them wild.
COUNT = 128
_WORDS = ["", "a", "b", "unknown", " ", "0", "-1", "1e30", "NaN", "true", "é", "日本語", "a b c", "x" * 300]


def made_up(specs: Iterable[TensorSpec], wild: bool = False) -> dict[str, Array]:
    """Rows of every input; with ``wild``, each odd one has values from the whole range of its type."""
    specs = list(specs)
    random = np.random.default_rng(0)
    rows = {spec.name: _ordinary(spec, random) for spec in specs}
    if wild:
        for spec in specs:
            odd = rows[spec.name][1::2]
            odd[...] = _wild(spec, random, odd.shape)
    return rows


def cut(rows: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in rows.items()}


def _ordinary(spec: TensorSpec, random: np.random.Generator) -> Array:
    shape = (COUNT, *(spec.shape or ())[1:])
    if spec.datatype is Datatype.BYTES:
        return random.choice(np.array(_WORDS[:4], dtype=object), shape)
    if spec.datatype is Datatype.BOOL:
        return random.random(shape) < 0.5
    if spec.datatype.is_float:
        # Of many magnitudes: sums that come in another order then differ in their bits.
        wide = random.normal(size=shape) * 10.0 ** random.integers(-2, 3, shape)
        return wide.astype(spec.datatype.dtype)
    return random.integers(0, 4, shape).astype(spec.datatype.dtype)


def _wild(spec: TensorSpec, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    dtype = spec.datatype.dtype
    if spec.datatype is Datatype.BYTES:
        return random.choice(np.array(_WORDS, dtype=object), shape)
    if spec.datatype is Datatype.BOOL:
        return random.random(shape) < 0.5
    bits = random.integers(0, 2**8, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
    if spec.datatype.is_float:
        about = np.finfo(dtype)
        ends = [
            np.nan,
            np.inf,
            -np.inf,
            about.max,
            about.min,
            about.tiny,
            about.smallest_subnormal,
            -0.0,
            0.0,
        ]
        ends += [1.0, -1.0, about.eps]
    else:
        whole = np.iinfo(dtype)
        ends = [whole.min, whole.max, 0, 1, whole.max // 2, whole.min // 2]
        # What the least integer must not be divided by.
        ends += [-1] * (whole.min < 0)
    # From rows with one such value to rows with nothing else.
    share = random.choice([0.02, 0.2, 0.6, 1.0], (shape[0], *(1 for _ in shape[1:])))
    chosen = random.random(shape) < share
    return np.where(chosen, random.choice(np.array(ends, dtype), shape), bits)
