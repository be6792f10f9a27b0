"""What operators a model may have, and which of their inputs decide how much work they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Around(NamedTuple):
    """What a model is looked at with.

    Attributes:
        files: bytes of the files beside it, by path.
        domains: of operators that are allowed too.
        memory: bytes that a server may use at most; 0 where nothing says.
    """

    files: Mapping[str, int] = {}
    domains: Collection[str] = ()
    memory: int = 0


#: Domains of operators that the model server has, with what of each is refused all the same. EPContext holds
#: the path of native code that a provider loads.
ALLOWED: Mapping[str, frozenset[str]] = {
    "": frozenset(),
    "ai.onnx": frozenset(),
    "ai.onnx.ml": frozenset(),
    "com.microsoft": frozenset({"EPContext"}),
    "com.microsoft.nchwc": frozenset(),
}

#: Operators by the places of those inputs whose values, multiplied, are the size of what they make.
SIZES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Resize": (2, 3),
    "STFT": (3,),
    "Tile": (1, 2),
    "Upsample": (1,),
}
#: Operators that make more only in the sum of what these inputs say.
SUMMED = frozenset({"Pad"})
#: Operators by the attribute with the size of what they make.
SIZED_BY_ATTRIBUTE: Mapping[str, str] = {
    "ConvTranspose": "output_shape",
    "Multinomial": "sample_size",
    "Pad": "pads",
    "RandomNormal": "shape",
    "RandomUniform": "shape",
}
#: Operators that generate text, by the place of the input with the greatest length of it.
GENERATORS: Mapping[str, int] = {"BeamSearch": 1, "GreedySearch": 1, "Sampling": 1, "WhisperBeamSearch": 1}

#: What an operator makes of a value says nothing but the value's shape, or a place in it.
OF_SHAPES = frozenset({"ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "SequenceLength", "Shape", "Size"})
#: Operators whose result is between 0 and 1 whatever they are given.
WITHIN_ONE = frozenset(
    {
        "And",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "Not",
        "Or",
        "Sigmoid",
        "Softmax",
        "Xor",
    }
)
#: Operators whose result has values of their first input and no others, whole or rounded.
KEEPING = frozenset(
    {
        "Ceil",
        "Concat",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Round",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
#: Of these, what a small constant keeps its numbers through.
UNCHANGED = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})

#: Bytes of one element by ``TensorProto.DataType``; half bytes of the types of four bits.
ELEMENT_BYTES: Mapping[int, float] = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    14: 8,
    15: 16,
    16: 2,
    17: 1,
    18: 1,
    19: 1,
    20: 1,
    21: 0.5,
    22: 0.5,
    23: 0.5,
    24: 1,
    25: 0.25,
    26: 0.25,
}
STRING = 8
