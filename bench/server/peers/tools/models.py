"""Makes the models: `models.py DIRECTORY`. For each NAME/model.onnx and NAME.npz, 32 rows of its inputs.

All are seeded and have one output, so that every server does the same work.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LgbmFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 32
OPSET = 15


def gbt() -> tuple[Any, dict[str, Any]]:
    """LightGBM, 100 trees, 30 features."""
    features, target = load_breast_cancer(return_X_y=True)
    model = LGBMClassifier(n_estimators=100, random_state=0, n_jobs=1, verbose=-1).fit(features, target)
    made = convert_lightgbm(
        model, initial_types=[("x", LgbmFloat([None, 30]))], zipmap=False, target_opset=OPSET
    )
    return _only(made, "probabilities"), {"x": features[:ROWS].astype(np.float32)}


def lr() -> tuple[Any, dict[str, Any]]:
    """Scaler and logistic regression, 30 features."""
    features, target = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    made = to_onnx(
        model,
        initial_types=[("x", FloatTensorType([None, 30]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    return _only(made, "probabilities"), {"x": features[:ROWS].astype(np.float32)}


def text() -> tuple[Any, dict[str, Any]]:
    """Two columns of strings one-hot, one of numbers scaled, logistic regression."""
    random = np.random.default_rng(0)
    city = random.choice(np.array(["Wien", "Graz", "Linz", "Köln", "Bern"], dtype=object), 500)
    plan = random.choice(np.array(["free", "basic", "plus", "business"], dtype=object), 500)
    age = random.integers(18, 90, 500).astype(np.float32)
    target = (age > 40) ^ (city == "Wien") ^ (plan == "plus")
    table = np.stack([city, plan, age.astype(object)], axis=1)
    columns = ColumnTransformer(
        [("text", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("age", StandardScaler(), [2])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, target)
    types = [
        ("city", StringTensorType([None, 1])),
        ("plan", StringTensorType([None, 1])),
        ("age", FloatTensorType([None, 1])),
    ]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=OPSET)
    rows = {
        "city": city[:ROWS, None].astype(str),
        "plan": plan[:ROWS, None].astype(str),
        "age": age[:ROWS, None],
    }
    return _only(made, "probabilities"), rows


def columns() -> tuple[Any, dict[str, Any]]:
    """The same from a table: 30 inputs of one column each."""
    features, target = load_breast_cancer(return_X_y=True)
    scaled = ColumnTransformer([("all", StandardScaler(), list(range(30)))])
    model = make_pipeline(scaled, LogisticRegression(max_iter=500)).fit(features, target)
    names = [f"column_{number}" for number in range(30)]
    types = [(name, FloatTensorType([None, 1])) for name in names]
    made = to_onnx(model, initial_types=types, options={"zipmap": False}, target_opset=OPSET)
    rows = features[:ROWS].astype(np.float32)
    return _only(made, "probabilities"), {name: rows[:, [at]] for at, name in enumerate(names)}


def mlp() -> tuple[Any, dict[str, Any]]:
    """Five dense layers, 17 MB: one row reads all weights, and so do 32."""
    random = np.random.default_rng(0)
    sizes = [30, 1024, 1024, 1024, 1024, 1024, 2]
    graph = _Graph()
    last = "x"
    for number, (before, after) in enumerate(pairwise(sizes)):
        weight = random.normal(0, (2 / before) ** 0.5, (before, after))
        last = graph.node("Gemm", [last, graph.weight(weight), graph.weight(np.zeros(after))])
        if number < len(sizes) - 2:
            last = graph.node("Relu", [last])
    graph.node("Softmax", [last], "y", axis=1)
    rows = random.normal(0, 1, (ROWS, 30)).round(3)
    return graph.model([None, 30], [None, 2]), {"x": rows.astype(np.float32)}


def image() -> tuple[Any, dict[str, Any]]:
    """ResNet-18 with random weights, 3x224x224."""
    random = np.random.default_rng(0)
    graph = _Graph()

    def convolve(source: str, before: int, after: int, kernel: int, stride: int, relu: bool) -> str:
        weight = random.normal(0, (2 / (before * kernel * kernel)) ** 0.5, (after, before, kernel, kernel))
        made = graph.node(
            "Conv",
            [source, graph.weight(weight), graph.weight(np.zeros(after))],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        return graph.node("Relu", [made]) if relu else made

    last = convolve("x", 3, 64, 7, 2, True)
    last = graph.node("MaxPool", [last], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = 64
    for after in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and after != 64 else 1
            inner = convolve(last, before, after, 3, stride, True)
            inner = convolve(inner, after, after, 3, 1, False)
            if before != after:
                last = convolve(last, before, after, 1, stride, False)
            # Half of the sum, so that random weights do not let it grow from block to block.
            last = graph.node("Add", [last, inner])
            last = graph.node("Mul", [graph.node("Relu", [last]), graph.weight(np.array(0.5))])
            before = after
    last = graph.node("Flatten", [graph.node("GlobalAveragePool", [last])])
    graph.node("Gemm", [last, graph.weight(random.normal(0, 0.04, (512, 1000)))], "y")
    rows = random.random((4, 3, 224, 224)).round(4).astype(np.float32)
    return graph.model([None, 3, 224, 224], [None, 1000]), {"x": rows}


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weight(self, values: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def model(self, shape: list[int | None], answer: list[int | None]) -> Any:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, answer)]
        graph = helper.make_graph(self._nodes, "g", inputs, outputs, self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _only(model: Any, output: str) -> Any:
    """Leaves one output, and what is not needed for it out."""
    graph = model.graph
    kept = [each for each in graph.output if each.name == output]
    del graph.output[:]
    graph.output.extend(kept)
    needed = {output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    return model


_MODELS = {"gbt": gbt, "lr": lr, "columns": columns, "text": text, "mlp": mlp, "image": image}


def main(directory: Path) -> None:
    for name, make in _MODELS.items():
        model, rows = make()
        onnx.checker.check_model(model)
        (directory / name).mkdir(parents=True, exist_ok=True)
        onnx.save(model, directory / name / "model.onnx")
        np.savez(directory / f"{name}.npz", **rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
