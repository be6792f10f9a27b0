"""Operators that compute each entry from those at its own place.

Some of their kernels compute the entries of a tensor four at a time, and those that are left over at its end
by other instructions, with other bits for some values: for the least integer over -1 one way answers and the
other ends the process. There a lone row gets what it gets in a batch only if its entries leave nothing over.
"""

from __future__ import annotations

from slipway_server.batching.kinds import DOUBLE, FLOAT, FLOATS, HALF, INT32, UINT32
from slipway_server.batching.operators import Answer, Use, at, rule
from slipway_server.batching.values import Mixes, Value, broadcast, entries_of_a_row, known, of_shape

_ONE = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu
HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink
Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Affine ParametricSoftplus
ScaledTanh RegexFullMatch"""
_MORE = """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual
Max Mean Min Mod Mul Or Pow PRelu StringConcat Sub Sum Xor"""
#: Which kernels do so, by operator and type; a test tries all of them.
_FLOATS = "Acos Asin Atan Cos Log Max Min Mish ParametricSoftplus Sin Softplus"
_UNEVEN = {
    **dict.fromkeys(_FLOATS.split(), FLOATS),
    **dict.fromkeys(("Exp", "FastGelu", "Tanh"), frozenset({DOUBLE})),
    "Div": frozenset({INT32}),
}
_LEAST = -(2**31)


@rule(_ONE)
@rule("Gelu QuickGelu", "com.microsoft")
@rule("Binarizer CategoryMapper LabelEncoder", "ai.onnx.ml")
def _one(use: Use) -> Answer:
    if len(use.all_given()) != 1:
        raise Mixes("has more inputs than are understood")
    result = of_shape(known(use.given()))
    if _is_uneven(use):
        _leaves_nothing_over(use, result)
    return result


@rule("Cast CastLike")
def _cast(use: Use) -> Answer:
    """The second input of CastLike counts by its type alone."""
    use.flag("saturate", 1)
    result = of_shape(known(use.given()))
    target = use.given(1).kind if use.kind == "CastLike" else use.integer("to", 0)
    if target in (UINT32, 0) and use.given().kind in (FLOAT, DOUBLE, 0):
        _leaves_nothing_over(use, result)
    return result


@rule(_MORE)
@rule("BiasGelu FastGelu", "com.microsoft")
def _more(use: Use) -> Answer:
    if use.flag("broadcast") or "axis" in use.attributes:
        raise Mixes("pairs axes as versions before 7 did")
    result = broadcast(use.all_given())
    if len(use.inputs) > 1 and _is_uneven(use) and not _never_differs(use):
        _leaves_nothing_over(use, result)
    return result


def _is_uneven(use: Use) -> bool:
    uneven = _UNEVEN.get(use.kind, frozenset())
    known_kinds = {value.kind for value in use.all_given()} - {0}
    return bool(uneven) and (not known_kinds or not uneven.isdisjoint(known_kinds))


def _never_differs(use: Use) -> bool:
    """Whether constants keep away the values for which bits differ."""
    given = use.all_given()
    if use.kind in ("Max", "Min"):
        # 0 and -0 are equal, and either may be the answer, but for a lone constant always the same.
        constants = [value for value in given if value.is_constant]
        return any(value.shape in ((), (1,)) or _is_without(value, 0) for value in constants)
    if use.kind == "Div":
        return (given[0].is_constant and _is_without(given[0], _LEAST)) or (
            given[1].is_constant and _is_without(given[1], -1)
        )
    return False


def _is_without(value: Value, entry: int) -> bool:
    return value.entries is not None and entry not in value.entries


def _leaves_nothing_over(use: Use, result: Value) -> None:
    if result.axis is None:
        return
    kinds = {value.kind for value in use.all_given()}
    at_once = 8 if HALF in kinds or kinds == {0} else 4
    entries = entries_of_a_row(result)
    if use.is_parallel or entries is None or entries % at_once:
        raise Mixes("computes what is left over at the end of a tensor by other instructions than the rest")


@rule("Clip")
def _clip(use: Use) -> Answer:
    use.constants_from(1)
    return of_shape(use.shape())


@rule("Dropout")
def _dropout(use: Use) -> Answer:
    use.constants_from(1)
    if use.has(2) and use.numbers(2) != [False]:
        raise Mixes("draws at random")
    if use.version < 7:
        raise Mixes("may draw at random")
    same: list[Value | Mixes] = [of_shape(use.shape()) for _ in use.outputs]
    return same


@rule("QuantizeLinear DequantizeLinear")
@rule("QuantizeLinear DequantizeLinear", "com.microsoft")
def _quantize(use: Use) -> Answer:
    """A scale for all entries, or one for each place along an axis that is not the rows'."""
    use.constants_from(1)
    value, shape, scale = use.given(), use.shape(), use.shape(1)
    if scale not in ((), (1,)):
        axis = at(use.integer("axis", 1), len(shape))
        if value.axis == axis or (value.axis is not None and use.integer("block_size", 0)):
            raise Mixes("has a scale for each row")
    return of_shape(shape)


@rule("QLinearSigmoid QLinearLeakyRelu", "com.microsoft")
def _quantized_one(use: Use) -> Answer:
    use.constants_from(1)
    return of_shape(use.shape())


@rule("QLinearAdd QLinearMul", "com.microsoft")
def _quantized_two(use: Use) -> Answer:
    use.constants(1, 2, 4, 5, 6, 7)
    return broadcast([use.given(0), use.given(3)])


@rule("QLinearConcat", "com.microsoft")
def _quantized_concat(use: Use) -> Answer:
    from slipway_server.batching.operators import RULES

    use.constants(0, 1)
    for start in range(2, len(use.inputs), 3):
        use.constants(start + 1, start + 2)
    joined = [use.given(start) for start in range(2, len(use.inputs), 3)]
    return RULES["", "Concat"](Use("Concat", joined, use.attributes, 13, use.outputs))


@rule("StringNormalizer")
def _string_normalizer(use: Use) -> Answer:
    if use.attribute("stopwords"):
        raise Mixes("takes words away, so that the others move")
    shape = use.shape()
    if len(shape) == 2 and use.given().axis is not None:
        raise Mixes("takes one row alone")
    return of_shape(shape)
