"""Models to serve: a scikit-learn pipeline as ONNX, and one with weights in a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def classifier(regularization: float = 1.0) -> LogisticRegression:
    """A model of Fisher's iris data; others for other regularizations."""
    data = load_iris()
    return LogisticRegression(C=regularization, max_iter=500).fit(data.data, data.target)


def onnx_classifier(regularization: float = 1.0) -> onnx.ModelProto:
    """The same as ONNX, with a float input [-1, 4]."""
    return to_onnx(classifier(regularization), np.zeros((1, 4), dtype=np.float32))


def wide_model(width: int = 64) -> onnx.ModelProto:
    """A matrix product, with ``width``² float weights that :func:`save_wide` and MLflow keep outside."""
    weights = np.random.default_rng(7).normal(size=(width, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, width])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save_wide(folder: Path, name: str = "model.onnx", weights: str = "weights.bin") -> None:
    """Write it as two files."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        wide_model(), folder / name, save_as_external_data=True, location=weights, size_threshold=0
    )
