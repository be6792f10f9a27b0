"""Operators of neural networks: products, convolutions, pooling, normalization, recurrence."""

from __future__ import annotations

from slipway_server.batching.operators import Answer, Use, apart, at, rows_first, rule
from slipway_server.batching.values import (
    Count,
    Dim,
    Mixes,
    Value,
    broadcast,
    broadcast_dims,
    known,
    of_shape,
)


def _product(left: tuple[Dim, ...], right: tuple[Dim, ...]) -> Value:
    """A matrix product by shapes: the inner axis is summed over, so no rows may lie along it."""
    if not left or not right:
        raise Mixes("multiplies what has no axes")
    inner = [left[-1], right[-2] if len(right) > 1 else right[-1]]
    if any(isinstance(dim, Count) for dim in inner):
        raise Mixes("sums over the rows")
    front = broadcast_dims([left[:-2], right[:-2]])
    return of_shape([*front, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())])


@rule("MatMul")
def _matmul(use: Use) -> Answer:
    return _product(use.shape(), use.shape(1))


@rule("MatMulInteger")
def _matmul_integer(use: Use) -> Answer:
    use.constants(2, 3)
    return _product(use.shape(), use.shape(1))


@rule("MatMulIntegerToFloat", "com.microsoft")
def _matmul_to_float(use: Use) -> Answer:
    use.constants_from(2)
    return _product(use.shape(), use.shape(1))


@rule("QLinearMatMul")
def _quantized_matmul(use: Use) -> Answer:
    use.constants(1, 2, 4, 5, 6, 7)
    return _product(use.shape(), use.shape(3))


@rule("FusedMatMul TransposeMatMul", "com.microsoft")
def _fused_matmul(use: Use) -> Answer:
    if use.flag("transBatchA") or use.flag("transBatchB"):
        raise Mixes("turns axes in a way that is not understood")
    left, right = use.shape(), use.shape(1)
    if use.flag("transA"):
        left = (*left[:-2], *left[-2:][::-1])
    if use.flag("transB"):
        right = (*right[:-2], *right[-2:][::-1])
    return _product(left, right)


@rule("Gemm")
@rule("FusedGemm", "com.microsoft")
def _gemm(use: Use) -> Answer:
    left, right = use.shape(), use.shape(1)
    if len(left) != 2 or len(right) != 2:
        raise Mixes("multiplies what are no matrices")
    left = left[::-1] if use.flag("transA") else left
    right = right[::-1] if use.flag("transB") else right
    result = _product(left, right)
    return broadcast([result, use.given(2)]) if use.has(2) else result


@rule("MatMulNBits", "com.microsoft")
def _matmul_bits(use: Use) -> Answer:
    use.constants_from(1)
    shape = use.shape()
    apart(use.given(), len(shape) - 1)
    return of_shape([*shape[:-1], use.integer("N", 0)])


@rule("Einsum")
def _einsum(use: Use) -> Answer:
    left, arrow, right = use.word("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in left or len(terms) != len(use.inputs):
        raise Mixes("has an equation that is not understood")
    sizes: dict[str, set[Dim]] = {}
    for index, letters in enumerate(terms):
        shape = use.shape(index)
        if len(letters) != len(shape):
            raise Mixes("has an equation that is not understood")
        for place, letter in enumerate(letters):
            sizes.setdefault(letter, set()).add(shape[place])
            if isinstance(shape[place], Count) and letters.count(letter) > 1:
                raise Mixes("takes a diagonal of the rows")
    for letter, found in sizes.items():
        if any(isinstance(dim, Count) for dim in found) and (len(found) > 1 or right.count(letter) != 1):
            raise Mixes("sums over the rows, or pairs them with what has no rows")
    return of_shape(next(iter(sizes[letter] - {1}), 1) for letter in right)


@rule("Det")
@rule("Inverse", "com.microsoft")
def _square(use: Use) -> Answer:
    shape = use.shape()
    apart(use.given(), len(shape) - 1, len(shape) - 2)
    return of_shape(shape[:-2] if use.kind == "Det" else shape)


def _window(use: Use, size: Dim, axis: int, kernel: int | None, dilation: int = 1) -> Dim:
    """How many places a window has along a spatial axis, where that is known."""
    strides, pads = use.integers("strides", ()) or [], use.integers("pads", ()) or []
    stride = strides[axis] if axis < len(strides) else 1
    if not isinstance(size, int) or kernel is None:
        return None
    mode = use.word("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return -(-size // stride)
    half = len(pads) // 2
    padded = size + (pads[axis] + pads[axis + half] if mode == "NOTSET" and pads else 0)
    free = padded - (dilation * (kernel - 1) + 1)
    # Where the last window begins in the padding alone, versions differ: that size stays open.
    return None if use.flag("ceil_mode") and free % stride else free // stride + 1


def _convolved(use: Use, data: int, weights: int) -> Answer:
    use.constants(*(index for index in range(len(use.inputs)) if index != data))
    shape, kernel = rows_first(use.given(data)), use.shape(weights)
    dilations = use.integers("dilations") or [1] * (len(shape) - 2)
    places = [
        _window(use, size, axis, k if isinstance(k, int) else None, dilations[axis])
        for axis, (size, k) in enumerate(zip(shape[2:], kernel[2:], strict=True))
    ]
    return of_shape([shape[0], kernel[0], *places])


@rule("Conv")
@rule("ConvInteger")
def _conv(use: Use) -> Answer:
    return _convolved(use, 0, 1)


@rule("FusedConv", "com.microsoft")
def _fused_conv(use: Use) -> Answer:
    if use.has(3):
        raise Mixes("adds a tensor in a way that is not understood")
    return _convolved(use, 0, 1)


@rule("QLinearConv")
def _quantized_conv(use: Use) -> Answer:
    return _convolved(use, 0, 3)


@rule("ConvTranspose")
def _conv_transpose(use: Use) -> Answer:
    use.constants_from(1)
    shape, kernel = rows_first(use.given()), use.shape(1)
    rank = len(shape) - 2
    strides, dilations = (use.integers(name) or [1] * rank for name in ("strides", "dilations"))
    pads, added = use.integers("pads") or [0] * 2 * rank, use.integers("output_padding") or [0] * rank
    depth = kernel[1] * use.integer("group", 1) if isinstance(kernel[1], int) else None
    places: list[Dim] = []
    for axis, (size, k) in enumerate(zip(shape[2:], kernel[2:], strict=True)):
        if not (isinstance(size, int) and isinstance(k, int)) or use.word("auto_pad", "NOTSET") != "NOTSET":
            places.append(None)
        else:
            full = strides[axis] * (size - 1) + added[axis] + (k - 1) * dilations[axis] + 1
            places.append(full - pads[axis] - pads[axis + rank])
    if "output_shape" in use.attributes:
        places = list((use.integers("output_shape") or [])[-rank:])
    return of_shape([shape[0], depth, *places])


@rule("MaxPool AveragePool LpPool")
def _pool(use: Use) -> Answer:
    shape, kernel = rows_first(use.given()), use.integers("kernel_shape") or []
    dilations = use.integers("dilations") or [1] * len(kernel)
    places = [_window(use, size, axis, kernel[axis], dilations[axis]) for axis, size in enumerate(shape[2:])]
    result = of_shape([*shape[:2], *places])
    # Where the greatest entry is, is counted from the first row.
    found: list[Value | Mixes] = [result, Mixes("counts places from the first row of a call on")]
    return found[: len(use.outputs)]


@rule("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def _global_pool(use: Use) -> Answer:
    shape = rows_first(use.given())
    return of_shape([*shape[:2], *(1 for _ in shape[2:])])


@rule("QLinearGlobalAveragePool", "com.microsoft")
def _quantized_global_pool(use: Use) -> Answer:
    use.constants_from(1)
    if use.flag("channels_last"):
        raise Mixes("has its axes in an order that is not understood")
    return _global_pool(use)


@rule("LRN ImageScaler")
def _by_channel(use: Use) -> Answer:
    return of_shape(rows_first(use.given()))


@rule("BatchNormalization")
def _batch_normalization(use: Use) -> Answer:
    use.constants_from(1)
    if use.flag("training_mode") or sum(map(bool, use.outputs)) > 1:
        raise Mixes("is in its training mode")
    return of_shape(rows_first(use.given()))


@rule("InstanceNormalization GroupNormalization")
def _instance_normalization(use: Use) -> Answer:
    use.constants_from(1)
    return of_shape(rows_first(use.given()))


@rule("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def _layer_normalization(use: Use) -> Answer:
    use.constants_from(1)
    shape = use.shape()
    first = use.axis(-1, len(shape))
    apart(use.given(), *range(first, len(shape)))
    for index in range(1, len(use.inputs)):
        if use.has(index) and len(use.shape(index)) > len(shape) - first:
            raise Mixes("scales in a way that is not understood")
    small = of_shape([*shape[:first], *(1 for _ in shape[first:])])
    return [of_shape(shape), small, small][: len(use.outputs)]


@rule("SkipLayerNormalization SkipSimplifiedLayerNormalization", "com.microsoft")
def _skip_layer_normalization(use: Use) -> Answer:
    use.constants_from(2)
    data, skip = use.given(), use.given(1)
    shape = known(data)
    apart(data, len(shape) - 1)
    if known(skip) != shape:
        raise Mixes("adds a tensor in a way that is not understood")
    same = of_shape(shape)
    small = of_shape([*shape[:-1], 1])
    return [same, small, small, same][: len(use.outputs)]


@rule("LSTM GRU RNN")
def _recurrent(use: Use) -> Answer:
    use.constants(1, 2, 3, 7)
    shape, weights = use.shape(), use.shape(1)
    batch = 0 if use.flag("layout") else 1
    if len(shape) != 3 or use.has(4) or use.given().axis not in (None, batch):
        raise Mixes("takes its rows along another axis, or sequences of many lengths")
    rows, steps, ways = shape[batch], shape[1 - batch], weights[0]
    hidden = use.shape(2)[-1]
    state: list[Dim] = [rows, ways, hidden] if not batch else [ways, rows, hidden]
    for index in (5, 6):
        if use.has(index) and known(use.given(index)) != tuple(state):
            raise Mixes("pairs rows with what has no rows")
    whole: list[Dim] = [rows, steps, ways, hidden] if not batch else [steps, ways, rows, hidden]
    return [of_shape(whole), of_shape(state), of_shape(state)][: len(use.outputs)]


@rule("STFT")
def _stft(use: Use) -> Answer:
    use.constants_from(1)
    return of_shape([rows_first(use.given(), 3)[0], None, None, 2])


@rule("DFT")
def _dft(use: Use) -> Answer:
    use.constants_from(1)
    shape = use.shape()
    rank = len(shape)
    axis = at(use.numbers(2)[0], rank) if use.has(2) else use.axis(1 if use.version < 20 else -2, rank)
    apart(use.given(), axis, rank - 1)
    return of_shape([*(None if place == axis else dim for place, dim in enumerate(shape[:-1])), 2])


@rule("GridSample")
def _grid_sample(use: Use) -> Answer:
    shape, grid = rows_first(use.given()), rows_first(use.given(1))
    if shape[0] != grid[0]:
        raise Mixes("pairs rows with what has no rows")
    return of_shape([*shape[:2], *grid[1:-1]])


@rule("Attention", "com.microsoft")
def _attention(use: Use) -> Answer:
    use.constants(1, 2)
    shape = rows_first(use.given(), 3)
    if len(use.all_given()) > 3 or len(use.outputs) > 1 or "qkv_hidden_sizes" in use.attributes:
        raise Mixes("has more inputs or outputs than are understood")
    bias = use.shape(2)
    return of_shape([*shape[:2], bias[0] // 3 if isinstance(bias[0], int) else None])


@rule("MultiHeadAttention", "com.microsoft")
def _multi_head_attention(use: Use) -> Answer:
    if len(use.all_given()) != 3 or len(use.outputs) > 1:
        raise Mixes("has more inputs or outputs than are understood")
    query, key, value = (rows_first(use.given(index), 3) for index in range(3))
    if not query[0] == key[0] == value[0]:
        raise Mixes("pairs rows with what has no rows")
    return of_shape([*query[:2], value[2]])
