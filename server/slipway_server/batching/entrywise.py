"""Operators that compute each entry from those at its own place."""

from __future__ import annotations

from slipway_server.batching.operators import Answer, Use, at, rule
from slipway_server.batching.values import Mixes, Value, broadcast, known, of_shape

_ONE = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu
HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink
Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Affine ParametricSoftplus
ScaledTanh RegexFullMatch"""
_MORE = """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual
Max Mean Min Mod Mul Or Pow PRelu StringConcat Sub Sum Xor"""


@rule(_ONE)
@rule("Gelu QuickGelu", "com.microsoft")
@rule("Binarizer CategoryMapper LabelEncoder", "ai.onnx.ml")
def _one(use: Use) -> Answer:
    if len(use.all_given()) != 1:
        raise Mixes("has more inputs than are understood")
    return of_shape(known(use.given()))


@rule("Cast CastLike")
def _cast(use: Use) -> Answer:
    """The second input of CastLike counts by its type alone."""
    use.flag("saturate", 1)
    return of_shape(known(use.given()))


@rule(_MORE)
@rule("BiasGelu FastGelu", "com.microsoft")
def _more(use: Use) -> Answer:
    if use.flag("broadcast") or "axis" in use.attributes:
        raise Mixes("pairs axes as versions before 7 did")
    return broadcast(use.all_given())


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
