"""Kernels that compute a lone entry by other instructions than one among others: the proof knows them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from slipway_server.batching.analysis import judge
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.forked import said_by_child

ONE = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid
HardSwish Identity LeakyRelu Log Mish Neg Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"""
TWO = "Add BitwiseAnd BitwiseOr BitwiseXor Div Max Mean Min Mod Mul Pow PRelu Sub Sum"
#: Operators of other domains, or that ONNX has no more, with attributes that they need.
OTHERS: list[tuple[str, str, int, dict[str, float]]] = [
    ("", "Affine", 1, {"alpha": 1.3, "beta": 0.7}),
    ("", "ParametricSoftplus", 1, {"alpha": 1.3, "beta": 0.7}),
    ("", "ScaledTanh", 1, {"alpha": 1.3, "beta": 0.7}),
    ("com.microsoft", "QuickGelu", 1, {}),
    ("com.microsoft", "FastGelu", 2, {}),
    ("com.microsoft", "BiasGelu", 2, {}),
    ("ai.onnx.ml", "Binarizer", 1, {}),
]
TYPES = ["float32", "float64", "float16", "int32", "int64", "int8", "uint8", "uint32", "uint64"]
#: Enough to fill what a kernel takes at once, however it is built, and to leave some over.
BLOCK = 67


def ends(dtype: Any) -> list[Any]:
    if dtype.kind == "f":
        about = np.finfo(dtype)
        odd = [np.nan, np.inf, -np.inf, about.max, about.min, about.tiny, about.smallest_subnormal]
        plain = [-0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 3.3, -3.3, 100.3, 300.0, -300.0, -88.8, 0.1, 0.7]
        return [*odd, *plain, 4e4] if dtype.itemsize == 2 else [*odd, *plain, 7e4, 3e9, -3e9, 1e19]
    about = np.iinfo(dtype)
    return [
        about.min,
        about.max,
        about.min + 1,
        about.max // 2,
        0,
        1,
        2,
        3,
        7,
        *([-1, -2] if about.min else []),
    ]


def one_node(
    operator: str, kind: str, given: int, width: int, opset: int, domain: str = "", **attributes: Any
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    names = ["a", "b"][:given]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], domain=domain, **attributes)],
        "g",
        [value(name, element, ["N", width]) for name in names],
        [helper.make_empty_tensor_value_info("y")],
    )
    opsets = {"": opset, "ai.onnx.ml": 3, "com.microsoft": 1}
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*each) for each in opsets.items()], ir_version=10
    )


def uneven(model: onnx.ModelProto, kind: str) -> str | None:
    """A value of which a lone entry has other bits than one in a block, empty for none; None: no kernel."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
    except Exception:
        return None
    names = [each.name for each in session.get_inputs()]

    def run(values: Any, count: int) -> list[bytes]:
        columns: dict[str, Array] = {
            name: np.full((count, 1), value, kind) for name, value in zip(names, values, strict=True)
        }
        try:
            answer = session.run(None, columns)[0]
        except Exception:
            return [b"refused"]
        return [row.tobytes() for row in answer]

    def differs(values: Any) -> bool:
        if kind.startswith("int") and model.graph.node[0].op_type in ("Div", "Mod"):
            # It may end the process, by what is left over of a block too.
            alone, among = (said_by_child(lambda n=n: f"{run(values, n)[0]!r}", 10) for n in (1, 64))
            return alone != among
        return set(run(values, 1)) != set(run(values, BLOCK))

    least, options_of = np.iinfo(kind).min if kind.startswith("int") else None, ends(np.dtype(kind))
    pairs = list(product(options_of, repeat=len(names)))
    if least is not None and model.graph.node[0].op_type in ("Div", "Mod"):
        pairs = [(least, -1), (least, 2), (7, 0), (7, -2)]
    return next((repr(values) for values in pairs if differs(values)), "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TYPES)
def test_where_a_lone_entry_has_other_bits_than_one_among_others_the_proof_says_so(
    tmp_path: Path, kind: str
) -> None:
    cases: list[tuple[str, str, int, dict[str, Any], int]] = [("", name, 1, {}, 21) for name in ONE.split()]
    cases += [("", name, 2, {"fmod": 1} if name == "Mod" and "f" in kind else {}, 21) for name in TWO.split()]
    cases += [(domain, name, given, each, 8) for domain, name, given, each in OTHERS]
    targets = [helper.np_dtype_to_tensor_dtype(np.dtype(each)) for each in TYPES]
    cases += [("", "Cast", 1, {"to": target}, 21) for target in targets]
    compared, wrong, path = 0, [], tmp_path / "model.onnx"
    for domain, name, given, attributes, opset in cases:
        found = uneven(one_node(name, kind, given, 1, opset, domain, **attributes), kind)
        if found is None:
            continue
        compared += 1
        apart = []
        for width in (1, 3, 8):
            onnx.save(one_node(name, kind, given, width, opset, domain, **attributes), path)
            apart.append(judge(path, {key: [-1, width] for key in "ab"[:given]}).apart)
        # Where nothing differs no model is to lose its batches; more values may differ than are tried here.
        unseen = name in ("Atan", "Cos", "Mish", "Softplus", "Sin") and not found
        if apart != [not found] * 2 + [True] and not unseen:
            wrong.append((name, attributes, found, apart))
    assert not wrong
    assert compared > 15


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", ["Max", "Min"])
def test_of_zero_and_a_lone_constant_zero_the_same_one_is_chosen_wherever_it_stands(
    name: str, kind: str, shape: tuple[int, ...]
) -> None:
    for order, least in product((["a", "b"], ["b", "a"]), (0.0, -0.0)):
        model = one_node(name, kind, 2, 1, 21)
        model.graph.node[0].input[:] = order
        model.graph.input.pop()
        model.graph.initializer.append(numpy_helper.from_array(np.full(shape, least, kind), "b"))
        assert uneven(model, kind) == ""
