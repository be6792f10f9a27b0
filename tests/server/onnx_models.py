"""Real ONNX models, small and quick to make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, parser
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

#: Protocol datatype → ONNX element type, for a model with one input and output of each.
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(model: Any, directory: Path, name: str = "model.onnx") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(model, directory / name)
    return directory


def regressor() -> Any:
    features, target = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(features, target)
    return to_onnx(model, features[:1].astype(np.float32))


def classifier() -> Any:
    """Input ``X`` [N, 30]; ``output_label`` and a ZipMap with whole-number labels."""
    features, target = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    return to_onnx(model, features[:1].astype(np.float32))


def pipeline(unknown: str = "ignore") -> Any:
    """Inputs ``colour`` (string) and ``size`` (float), each [N, 1]; a ZipMap with string labels."""
    features, target = load_iris(return_X_y=True, as_frame=True)
    table = features[["petal length (cm)"]].rename(columns={"petal length (cm)": "size"})
    table["colour"] = np.where(features["sepal width (cm)"] > 3, "blau", "weiß")
    columns = ColumnTransformer(
        [("colour", OneHotEncoder(handle_unknown=unknown), ["colour"]), ("size", StandardScaler(), ["size"])]
    )
    names = np.array(["setosa", "versicolor", "virginica"])[target]
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(table[["colour", "size"]], names)
    types = [("colour", StringTensorType([None, 1])), ("size", FloatTensorType([None, 1]))]
    return to_onnx(model, initial_types=types)


def strict_pipeline() -> Any:
    """As :func:`pipeline`, but only for colours that it knows."""
    return pipeline("error")


def two_inputs() -> Any:
    """``a`` [N, 2] · ``w`` [2, M] → ``product``, ``root`` (NaN where negative) and ``count``, a scalar."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,2] a, float[2,M] w) => (float[N,M] product, float[N,M] root, int64 count) {
            product = MatMul(a, w)
            root = Sqrt(product)
            count = Size(a)
        }"""
    )


def typed_datatypes() -> Any:
    """As :func:`every_datatype` without FP16, which has no typed contents in gRPC."""
    return every_datatype({name: kind for name, kind in ONNX_TYPES.items() if name != "FP16"})


def every_datatype(kinds: dict[str, Any] = ONNX_TYPES) -> Any:
    """``in_X`` [A, B] → ``out_X``, for each datatype X."""
    nodes, inputs, outputs = [], [], []
    for name, kind in kinds.items():
        nodes.append(helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]))
        inputs.append(helper.make_tensor_value_info(f"in_{name}", kind, ["A", "B"]))
        outputs.append(helper.make_tensor_value_info(f"out_{name}", kind, ["A", "B"]))
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def slow() -> Any:
    """``n`` square roots of ``x``, one after another: a few µs each, so a request says how long it takes."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x, int64[1] n) => (float[N] y) {
            yes = Constant<value: tensor = bool {1}>()
            y = Loop(n, yes, x) <body = b (int64 i, bool go, float[N] v) => (bool more, float[N] out) {
                more = Identity(go)
                out = Sqrt(v)
            }>
        }"""
    )


def identity(opset: int = 17, ir: int = 8) -> Any:
    """``x`` [N, 3] → ``y``."""
    return parser.parse_model(
        f"""<ir_version: {ir}, opset_import: ["" : {opset}]>
        g (float[N,3] x) => (float[N,3] y) {{ y = Identity(x) }}"""
    )


def nonzero() -> Any:
    """``x`` [N, 3] → ``places`` [2, M]: where ``x`` is not zero, which may be nowhere."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (int64[2,M] places) { places = NonZero(x) }"""
    )


def recurrent() -> Any:
    """``x`` [S, B, 2] → ``state`` [1, B, 5]; onnxruntime aborts where ``x`` is empty."""
    random = np.random.default_rng(3)
    weights = {"w": random.random((1, 15, 2), np.float32), "r": random.random((1, 15, 5), np.float32)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("GRU", ["x", "w", "r"], ["", "state"], hidden_size=5)],
        "g",
        [value("x", TensorProto.FLOAT, ["S", "B", 2])],
        [value("state", TensorProto.FLOAT, [1, "B", 5])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless() -> Any:
    """``x`` [N] → ``y`` [N], its root; without rows it never ends."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (float[N] y) {
            none = Constant<value: tensor = int64 {0}>()
            size = Size(x)
            empty = Equal(size, none)
            rooted = Loop(, empty, x) <body = b (int64 i, bool go, float[N] v) => (bool more, float[N] out) {
                more = Identity(go)
                out = Sqrt(v)
            }>
            y = Sqrt(rooted)
        }"""
    )


def first_row() -> Any:
    """``x`` [N, 3] → ``y`` [3]: the model itself refuses to be without rows."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[3] y) {
            first = Constant<value: tensor = int64 {0}>()
            y = Gather(x, first)
        }"""
    )


def gather() -> Any:
    """``y`` = the five numbers at ``index``: the model itself refuses an index beyond them."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] index, float shapeless) => (float[N] y, float z) {
            numbers = Constant<value: tensor = float[5] {0.0, 1.0, 2.0, 3.0, 4.0}>()
            y = Gather(numbers, index)
            z = Identity(shapeless)
        }"""
    )


def texts() -> Any:
    """``s`` [A, B] of strings → ``y``."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (string[A,B] s) => (string[A,B] y) { y = Identity(s) }"""
    )


def broken_strings() -> Any:
    """``i`` [N] → ``y``, strings of which the second and the third are no UTF-8, and ``z`` = ``i``."""
    strings: Any = [b"ok", b"caf\xe9", b"\xff a string that is longer than sixteen \x00 bytes", b""]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "i"], ["y"]), helper.make_node("Identity", ["i"], ["z"])],
        "g",
        [value("i", TensorProto.INT64, ["N"])],
        [value("y", TensorProto.STRING, ["N"]), value("z", TensorProto.INT64, ["N"])],
        [helper.make_tensor("table", TensorProto.STRING, [len(strings)], strings)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_default() -> Any:
    """``y`` = ``x`` [N, 3] · ``w`` [3], which is 2 unless it is sent."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 3]), value("w", TensorProto.FLOAT, [3])],
        [value("y", TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(np.full(3, 2, np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def odd_outputs() -> Any:
    """``x`` [N, 3] → ``y`` = ``x``, and ``half`` and ``parts``, for which the protocol has no datatypes."""
    value = helper.make_tensor_value_info
    parts = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.BFLOAT16),
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("SplitToSequence", ["x"], ["parts"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 3])],
        [value("half", TensorProto.BFLOAT16, ["N", 3]), value("y", TensorProto.FLOAT, ["N", 3]), parts],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def shared_dimension() -> Any:
    """``a`` [n] + ``b`` [n] → ``y``."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[n] a, float[n] b) => (float[n] y) { y = Add(a, b) }"""
    )


def ranges() -> Any:
    """``n`` [1] → ``y`` [M], as many zeros as ``n`` says."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[1] n) => (float[M] y) { y = ConstantOfShape(n) }"""
    )


def slow_to_load() -> Any:
    """``x`` [N, 3] → ``y``, after some seconds of square roots, which its first run takes as well."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] y) {
            yes = Constant<value: tensor = bool {1}>()
            times = Constant<value: tensor = int64 {1000000}>()
            y = Loop(times, yes, x) <body = b (int64 i, bool go, float[N,3] v) => (bool more, float[N,3] r) {
                more = Identity(go)
                r = Sqrt(v)
            }>
        }"""
    )


def division(shape: list[int | str] | None = None, kind: int = TensorProto.INT32) -> Any:
    """``a`` and ``b`` (INT32) → ``y``, their quotient. The least number by -1 ends the process that asks.

    Not always: among other numbers it may be divided by an instruction that survives it.
    """
    value = helper.make_tensor_value_info
    dims = ["n"] if shape is None else shape
    graph = helper.make_graph(
        [helper.make_node("Div", ["a", "b"], ["y"], name="quotient")],
        "g",
        [value("a", kind, dims), value("b", kind, dims)],
        [value("y", kind, dims)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def division_of_64_bits() -> Any:
    """As :func:`division` of INT64, where it ends the process always."""
    return division(kind=TensorProto.INT64)


def division_of_pairs() -> Any:
    return division(["n", 2])


def division_in_a_loop() -> Any:
    """As :func:`division`, in the body of a loop that runs once."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int32[n] a, int32[n] b) => (int32[n] y) {
            yes = Constant<value: tensor = bool {1}>()
            once = Constant<value: tensor = int64 {1}>()
            y = Loop(once, yes, a) <body = l (int64 i, bool go, int32[n] v) => (bool more, int32[n] out) {
                more = Identity(go)
                out = Div(v, b)
            }>
        }"""
    )


def dies_of_zeros() -> Any:
    """Ends its process as soon as it is run once, on zeros."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int32[n] a) => (int32[n] y) {
            least = Constant<value: tensor = int32[1] {-2147483648}>()
            minus = Constant<value: tensor = int32[1] {-1}>()
            low = Add(a, least)
            y = Div(low, minus)
        }"""
    )
