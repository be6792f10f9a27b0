"""Which type the entries of tensors have, by ``TensorProto.DataType``; 0 where that is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipway_server.batching import onnx_outline_pb2 as pb

FLOAT, INT32, INT64, STRING, BOOL, HALF, DOUBLE, UINT32 = 1, 6, 7, 8, 9, 10, 11, 12
FLOATS = frozenset({FLOAT, HALF, DOUBLE, 16})
#: Operators whose outputs have one type, whatever their inputs have.
_FIXED = {
    **dict.fromkeys(("ArgMax", "ArgMin", "NonZero", "Shape", "Size"), INT64),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), INT32),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"), BOOL),
    **{"RegexFullMatch": BOOL, "Tokenizer": STRING, "MatMulIntegerToFloat": FLOAT},
}
_NUMBERS = """FeatureVectorizer LinearRegressor Normalizer OneHotEncoder Scaler SVMRegressor TfIdfVectorizer
TreeEnsembleRegressor"""
#: Their output holds floats of 32 bits, whatever their input does.
_ALWAYS_FLOAT = frozenset(_NUMBERS.split())
#: Which input's type the output has, where it is not the first one's.
_FOLLOWS = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "Where": 1}
#: Whose output has a type that is not worked out.
_UNKNOWN = frozenset({"CategoryMapper", "LabelEncoder", "QuantizeLinear", "StringSplit", "ZipMap"})
#: Their second output counts places, or says yes or no.
_SECOND = {"TopK": INT64, "MaxPool": INT64, "Dropout": BOOL}


def kinds(
    operator: str, domain: str, attributes: Mapping[str, pb.Attribute], given: Sequence[int], outputs: int
) -> list[int]:
    """The types of the outputs of an operator that the rules know, from those of its inputs."""
    if not operator.endswith("Classifier") or domain != "ai.onnx.ml":
        first = _first(operator, attributes, given)
        return [first if at == 0 else _SECOND.get(operator, first) for at in range(outputs)]
    return [0 if at == 0 else FLOAT for at in range(outputs)]


def _first(operator: str, attributes: Mapping[str, pb.Attribute], given: Sequence[int]) -> int:
    if operator == "Cast":
        return attributes["to"].i if "to" in attributes else 0
    if operator in ("Constant", "ConstantOfShape"):
        return _constant(attributes, FLOAT if operator == "ConstantOfShape" else 0)
    if operator in _FIXED:
        return _FIXED[operator]
    if operator in _ALWAYS_FLOAT:
        return FLOAT
    at = _FOLLOWS.get(operator, 0)
    return 0 if operator in _UNKNOWN or at >= len(given) else given[at]


def _constant(attributes: Mapping[str, pb.Attribute], default: int) -> int:
    if "value" in attributes:
        return attributes["value"].t.data_type
    for name, kind in (("value_float", FLOAT), ("value_int", INT64), ("value_string", STRING)):
        if name in attributes or f"{name}s" in attributes:
            return kind
    return default
