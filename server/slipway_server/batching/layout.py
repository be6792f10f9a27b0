"""Operators that move, choose and repeat entries."""

from __future__ import annotations

import math

from slipway_server.batching.operators import Answer, Use, apart, at, rule
from slipway_server.batching.values import (
    Count,
    Dim,
    Mixes,
    Value,
    broadcast,
    broadcast_dims,
    known,
    of_array,
    of_shape,
    reshaped,
)

#: No shared call has as many: what ends there takes all of its rows.
_MOST_ROWS = 1_000_000


@rule("Shape")
def _shape(use: Use) -> Answer:
    import numpy as np

    dims = use.shape()
    start, end = use.integer("start", 0), use.integer("end", len(dims))
    array = np.empty(len(dims), object)
    array[:] = dims
    return of_array(array[start:end])


@rule("Size")
def _size(use: Use) -> Answer:
    dims = use.shape()
    if None in dims:
        raise Mixes("counts entries that are not known")
    total: int | Count = 1
    for dim in dims:
        total = total * dim  # type: ignore[operator]
    return Value((), (total,))


@rule("ConstantOfShape")
def _constant_of_shape(use: Use) -> Answer:
    dims = use.entries(0)
    tensor = use.attributes.get("value")
    single = math.prod(dims) if all(isinstance(dim, int) for dim in dims) else 0
    if not 0 < single <= 16 or len(dims) > 1:
        return of_shape(dims)
    from slipway_server.batching.operators import tensor as constant

    entries = (0,) if tensor is None else constant(tensor.t).entries
    return Value(tuple(dims), None if entries is None else entries * single)


@rule("Expand")
def _expand(use: Use) -> Answer:
    return of_shape(broadcast_dims([use.shape(), tuple(use.entries(1))]))


@rule("Reshape")
def _reshape(use: Use) -> Answer:
    target = use.entries(1) if use.has(1) else use.integers("shape", ()) or []
    return reshaped(use.given(), target, use.flag("allowzero", 0))


@rule("Flatten")
def _flatten(use: Use) -> Answer:
    shape = use.shape()
    axis = use.integer("axis", 1)
    axis = axis if axis == len(shape) else at(axis, len(shape))
    if use.given().padding is not None:
        if axis != 1 or any(dim != 1 for dim in shape[1:-1]):
            raise Mixes("looks at what pads the rows")
        return Value((shape[0], None), None, use.given().padding)
    if axis == 1 and None in shape:
        return of_shape([shape[0], None])
    if axis == 0:
        return reshaped(use.given(), [1, -1], True)
    front: Dim = 1
    for dim in shape[:axis]:
        front = front * dim  # type: ignore[operator]
    back: Dim = 1
    for dim in shape[axis:]:
        back = back * dim  # type: ignore[operator]
    return reshaped(use.given(), [front, back], True)


@rule("Transpose")
def _transpose(use: Use) -> Answer:
    shape = use.shape()
    order = use.integers("perm") or list(range(len(shape)))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise Mixes("transposes axes that there are not")
    return of_shape(shape[axis] for axis in order)


@rule("Squeeze")
def _squeeze(use: Use) -> Answer:
    shape = use.shape()
    axes = use.listed("axes", 1)
    if not axes:
        # A single row has an axis of 1 too many, which would go as well.
        raise Mixes("takes away all axes of one entry, and a single row is such")
    gone = {at(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise Mixes("takes away an axis that is not of one entry")
    return of_shape(dim for axis, dim in enumerate(shape) if axis not in gone)


@rule("Unsqueeze")
def _unsqueeze(use: Use) -> Answer:
    shape = list(use.shape())
    axes = use.listed("axes", 1) or []
    for axis in sorted(at(axis, len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return of_shape(shape)


@rule("Concat")
def _concat(use: Use) -> Answer:
    shapes = [known(value) for value in use.all_given()]
    rank = len(shapes[0])
    axis = use.axis(1 if use.version < 4 else 0, rank)
    if any(len(shape) != rank for shape in shapes):
        raise Mixes("joins shapes that do not fit")
    for value in use.all_given():
        apart(value, axis)
    joined: list[Dim] = []
    for place, dims in enumerate(zip(*shapes, strict=True)):
        sizes = set(dims)
        if place == axis:
            joined.append(None if None in sizes else sum(dims))
        elif len(sizes - {None}) > 1 or (None in sizes and any(isinstance(dim, Count) for dim in sizes)):
            raise Mixes("joins rows with what has no rows")
        else:
            joined.append(next(iter(sizes - {None}), None))
    return of_shape(joined)


@rule("Split")
def _split(use: Use) -> Answer:
    shape = list(use.shape())
    axis = use.axis(0, len(shape))
    apart(use.given(), axis)
    given = use.listed("split", 1)
    size, parts = shape[axis], use.integer("num_outputs", len(use.outputs))
    sizes: list[Dim] = [None] * parts if given is None else list(given)
    if given is None and isinstance(size, int):
        each = -(-size // parts)
        sizes = [*([each] * (parts - 1)), size - each * (parts - 1)]
    return [of_shape([*shape[:axis], part, *shape[axis + 1 :]]) for part in sizes]


@rule("Slice")
def _slice(use: Use) -> Answer:
    shape = list(use.shape())
    if use.given().has_counts:
        raise Mixes("computes with the number of rows")
    starts = use.listed("starts", 1)
    ends = use.entries(2) if use.has(2) else use.integers("ends")
    if starts is None or ends is None:
        raise Mixes("lacks an input")
    axes = use.listed("axes", 3)
    axes = list(range(len(starts))) if axes is None else axes
    steps = use.numbers(4) if use.has(4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = at(axis, len(shape))
        size = shape[place]
        if isinstance(size, Count):
            is_whole = end == size if isinstance(end, Count) else end >= _MOST_ROWS * size.each
            if (start, step) != (0, 1) or not is_whole:
                raise Mixes("cuts out some of the rows")
        elif isinstance(end, Count):
            raise Mixes("cuts at a place that depends on the number of rows")
        elif size is not None:
            shape[place] = len(range(*slice(start, end, step).indices(size)))
    return of_shape(shape)


@rule("Gather")
def _gather(use: Use) -> Answer:
    data, places = use.shape(), use.shape(1)
    axis = use.axis(0, len(data))
    apart(use.given(), axis)
    return of_shape([*data[:axis], *places, *data[axis + 1 :]])


@rule("GatherElements")
def _gather_elements(use: Use) -> Answer:
    data, places = use.given(), use.given(1)
    axis = use.axis(0, len(use.shape()))
    apart(data, axis)
    apart(places, axis)
    if data.axis != places.axis or _each(data) != _each(places):
        raise Mixes("chooses from other rows")
    return of_shape(use.shape(1))


@rule("GatherND")
def _gather_nd(use: Use) -> Answer:
    data, places = use.given(), use.given(1)
    shape, index = use.shape(), use.shape(1)
    batch, last = use.integer("batch_dims", 0), index[-1]
    if not isinstance(last, int):
        raise Mixes("chooses by sizes that are not known")
    if data.axis is None:
        if batch:
            raise Mixes("pairs rows with what has no rows")
    elif data.axis < batch:
        if places.axis != data.axis or _each(data) != _each(places):
            raise Mixes("chooses from other rows")
    elif data.axis < batch + last or places.axis is not None:
        raise Mixes("chooses from other rows")
    return of_shape([*index[:-1], *shape[batch + last :]])


def _each(value: Value) -> Dim:
    return None if value.axis is None else known(value)[value.axis]


@rule("ScatterElements Scatter")
def _scatter(use: Use) -> Answer:
    axis = use.axis(0, len(use.shape()))
    given = use.all_given()
    for value in given:
        apart(value, axis)
    if len({(value.axis, _each(value)) for value in given}) > 1:
        raise Mixes("writes into other rows")
    return of_shape(use.shape())


@rule("Tile")
def _tile(use: Use) -> Answer:
    shape, repeats = use.shape(), use.entries(1)
    if len(repeats) != len(shape):
        raise Mixes("repeats in a way that is not understood")
    dims: list[Dim] = []
    for dim, often in zip(shape, repeats, strict=True):
        if isinstance(dim, Count) and often != 1:
            raise Mixes("repeats the rows")
        if isinstance(often, Count) and dim != 1:
            raise Mixes("repeats as often as there are rows")
        dims.append(None if None in (dim, often) else dim * often)
    return of_shape(dims)


@rule("Pad")
def _pad(use: Use) -> Answer:
    shape = list(use.shape())
    pads = use.listed("pads" if use.version > 1 else "paddings", 1) or []
    use.constants_from(2)
    axes = use.numbers(3) if use.has(3) else list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise Mixes("pads in a way that is not understood")
    for place, axis in enumerate(axes):
        added = pads[place], pads[place + len(axes)]
        where = at(axis, len(shape))
        if isinstance(shape[where], Count):
            if added != (0, 0):
                raise Mixes("adds rows")
        elif shape[where] is not None:
            shape[where] += sum(added)  # type: ignore[operator]
    return of_shape(shape)


@rule("Resize Upsample")
def _resize(use: Use) -> Answer:
    shape = list(use.shape())
    if use.word("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Mixes("crops while it resizes")
    axes = [at(axis, len(shape)) for axis in use.integers("axes", range(len(shape))) or []]
    scales_at = 2 if use.kind == "Resize" and use.version > 10 else 1
    if use.word("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Mixes("resizes in a way that is not understood")
    result: list[Dim] = [None if axis in axes else dim for axis, dim in enumerate(shape)]
    if use.has(3) and use.given(3).shape != (0,):
        for axis, size in zip(axes, use.entries(3), strict=True):
            if isinstance(shape[axis], Count) and size != shape[axis]:
                raise Mixes("resizes along the rows")
            result[axis] = size
        return of_shape(result)
    scales = use.attribute("scales") if "scales" in use.attributes else use.numbers(scales_at)
    for axis, scale in zip(axes, scales, strict=True):
        if isinstance(shape[axis], Count) and scale != 1:
            raise Mixes("resizes along the rows")
        whole = isinstance(shape[axis], int) and scale == int(scale)
        result[axis] = shape[axis] if scale == 1 else shape[axis] * int(scale) if whole else None  # type: ignore[operator]
    return of_shape(result)


@rule("DepthToSpace SpaceToDepth")
def _blocks(use: Use) -> Answer:
    shape = use.shape()
    if use.given().axis not in (None, 0) or len(shape) != 4:
        raise Mixes("does not take its rows along the first axis")
    block = use.integer("blocksize", 0)
    rows, sizes = shape[0], [dim for dim in shape[1:] if isinstance(dim, int)]
    if len(sizes) < 3 or block < 1:
        return of_shape([rows, None, None, None])
    depth, height, width = sizes
    if use.kind == "DepthToSpace":
        return of_shape([rows, depth // block**2, height * block, width * block])
    return of_shape([rows, depth * block**2, height // block, width // block])


@rule("OneHot")
def _one_hot(use: Use) -> Answer:
    shape, depth = list(use.shape()), use.numbers(1)
    use.constants(2)
    axis = use.axis(-1, len(shape) + 1)
    return of_shape([*shape[:axis], int(depth[0]), *shape[axis:]])


@rule("Trilu")
@rule("Trilu", "com.microsoft")
def _trilu(use: Use) -> Answer:
    rank = len(use.shape())
    apart(use.given(), rank - 1, rank - 2)
    use.constants(1)
    return of_shape(use.shape())


@rule("ReverseSequence")
def _reverse_sequence(use: Use) -> Answer:
    value, lengths = use.given(), use.given(1)
    batch, time = use.integer("batch_axis", 1), use.integer("time_axis", 0)
    apart(value, time)
    if value.axis == batch:
        if lengths.axis != 0 or _each(lengths) != _each(value):
            raise Mixes("pairs rows with what has no rows")
    elif not lengths.is_constant:
        raise Mixes("pairs rows with what has no rows")
    return of_shape(use.shape())


@rule("Where")
def _where(use: Use) -> Answer:
    return broadcast(use.all_given())


@rule("Range")
def _range(use: Use) -> Answer:
    """Of constants: along the rows it would number them."""
    use.constants_from(0)
    if any(value.entries is None for value in use.all_given()):
        return of_shape([None])
    ((start,), (limit,), (step,)) = (use.numbers(index) for index in range(3))
    return of_shape([max(0, math.ceil((limit - start) / step))])
