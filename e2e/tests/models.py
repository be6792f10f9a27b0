"""ONNX models to serve, and some that cannot be."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import parser
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


@cache
def iris(regularization: float = 1.0) -> onnx.ModelProto:
    """A classifier of iris flowers, another one for each regularization; its input is X, float [N, 4]."""
    data = load_iris()
    model = LogisticRegression(C=regularization, max_iter=500).fit(data.data, data.target)
    made: onnx.ModelProto = to_onnx(model, np.zeros((1, 4), dtype=np.float32), options={"zipmap": False})
    return made


def flowers(count: int = 10) -> NDArray[np.float32]:
    """Rows for `iris`, float [count, 4], of all three species."""
    data = load_iris().data
    return np.asarray(data[np.linspace(0, len(data) - 1, count).astype(int)], dtype=np.float32)


def identity(opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """`x`, float [N, 3], unchanged as `y`; of any opset and IR version, also such as there are not."""
    return parser.parse_model(
        f"""<ir_version: {ir}, opset_import: ["" : {opset}]>
        g (float[N,3] x) => (float[N,3] y) {{ y = Identity(x) }}"""
    )


def growing(mebibytes: int) -> onnx.ModelProto:
    """A small file that takes much memory when it is loaded: it makes a tensor of that size."""
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] y) {{
            length = Constant<value: tensor = int64[1] {{{mebibytes * 2**20 // 4}}}>()
            zeros = ConstantOfShape(length)
            smallest = ReduceMin<keepdims = 0>(zeros)
            y = Add(x, smallest)
        }}"""
    )


def endless() -> onnx.ModelProto:
    """A model whose first answer takes years."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] y) {
            often = Constant<value: tensor = int64 {1000000000000}>()
            yes = Constant<value: tensor = bool {1}>()
            y = Loop(often, yes, x) <body = b (int64 i, bool go, float[M,3] v) => (bool more, float[M,3] w) {
                more = Identity(go)
                w = Sqrt(v)
            }>
        }"""
    )


def unheard_of() -> onnx.ModelProto:
    """A model with an operator that no runtime knows."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "org.example" : 1]>
        g (float[N,3] x) => (float[N,3] y) { y = org.example.Guess(x) }"""
    )
