"""Outputs are named after what they mean, so that versions of other kinds answer by the same names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper, numpy_helper
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from slipway.cli.main import main
from slipway.conversion import Source
from slipway.convert.layout import ALL
from slipway.convert.make import convert
from slipway.convert.networks import Network, Taken
from slipway.convert.originals import original_of
from slipway.convert.outputs import with_names

IRIS, DIABETES = load_iris(as_frame=True), load_diabetes(as_frame=True)
LABELS, BOTH, VALUES = ["label"], ["label", "probabilities"], ["variable"]
MODELS: list[tuple[BaseEstimator, Any, list[str]]] = [
    (LogisticRegression(max_iter=500), IRIS, BOTH),
    (RandomForestClassifier(3, random_state=0), IRIS, BOTH),
    (XGBClassifier(n_estimators=2), IRIS, BOTH),
    (LGBMClassifier(n_estimators=2, verbose=-1), IRIS, BOTH),
    (SVC(), IRIS, LABELS),
    (SGDClassifier(random_state=0), IRIS, LABELS),
    (make_pipeline(StandardScaler(), SVC()), IRIS, LABELS),
    (IsolationForest(n_estimators=3, random_state=0), IRIS, ["label", "scores"]),
    (Ridge(), DIABETES, VALUES),
    (XGBRegressor(n_estimators=2), DIABETES, VALUES),
    (GaussianProcessRegressor(alpha=1.0), DIABETES, VALUES),
]


def outputs(model: onnx.ModelProto) -> list[str]:
    return [each.name for each in model.graph.output]


@pytest.mark.parametrize(
    ("model", "data", "names"), MODELS, ids=[type(model).__name__ for model, _, _ in MODELS]
)
def test_every_kind_of_model_answers_by_the_same_names(
    model: BaseEstimator, data: Any, names: list[str]
) -> None:
    rows = data.data[::5]
    fitted = model.fit(rows, data.target[::5])
    made = convert(original_of(fitted, "a model"), rows, tolerance=1.0)
    onnx.checker.check_model(made.model, full_check=True)
    assert outputs(made.model) == names


def test_the_converters_names_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    import joblib

    joblib.dump(SVC().fit(IRIS.data, IRIS.target), tmp_path / "flowers.joblib")
    IRIS.data.to_parquet(tmp_path / "rows.parquet")
    model = tmp_path / "model.onnx"
    command = ["convert", str(tmp_path / "flowers.joblib"), "--allow-pickle", "-o", str(model)]
    command += ["--data", str(tmp_path / "rows.parquet")]
    for options, names in (["--keep-output-names"], ["output_label"]), ([], LABELS):
        assert main([*command, *options]) == 0
        assert outputs(onnx.load(model)) == names


def test_a_column_of_the_same_name_stays_a_column() -> None:
    rows = pd.DataFrame({"label": [0.0, 1.0, 2.0, 3.0] * 5, "kind": ["a", "b"] * 10})
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    turned = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    model = make_pipeline(turned, DecisionTreeClassifier(random_state=0)).fit(rows, [0, 1] * 10)
    made = convert(original_of(model, "a model"), rows)
    assert [each.name for each in made.model.graph.input] == ["label", "kind"]
    assert outputs(made.model) == ["label1", "probabilities"]


WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
SOURCE = Source(called="a network", kind="numpy", digest=f"sha256:{'0' * 64}")


def network(*ends: str, given: Sequence[str] = ()) -> Network:
    """A network whose outputs end in these operators, and whose layers have the names of outputs."""

    def run(tensors: list[Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            scores = tensors[0] @ WEIGHTS
            raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        answers = {
            "Softmax": raised / raised.sum(axis=1, keepdims=True),
            "ArgMax": scores.argmax(axis=1),
            "Relu": np.where(np.isnan(scores), scores, np.maximum(scores, 0)),
        }
        return [answers[end] for end in ends]

    def export(taken: Sequence[Taken]) -> onnx.ModelProto:
        kinds = {"ArgMax": {"axis": 1, "keepdims": 0}, "Softmax": {"axis": 1}, "Relu": {}}
        nodes = [helper.make_node("MatMul", [taken[0].name, "weights"], ["label"])]
        values = []
        for place, end in enumerate(ends):
            nodes.append(helper.make_node(end, ["label"], [f"made_{place}"], **kinds[end]))
            nodes.append(helper.make_node("Identity", [f"made_{place}"], [f"{end.lower()}_{place}"]))
            kind, shape = (TensorProto.INT64, ["n"]) if end == "ArgMax" else (TensorProto.FLOAT, ["n", 3])
            values.append(helper.make_tensor_value_info(f"{end.lower()}_{place}", kind, shape))
        rows = helper.make_tensor_value_info(taken[0].name, TensorProto.FLOAT, ["n", 4])
        inside = [helper.make_tensor_value_info("label", TensorProto.FLOAT, ["n", 3])]
        constants = [numpy_helper.from_array(WEIGHTS, "weights")]
        graph = helper.make_graph(nodes, "network", [rows], values, constants, value_info=inside)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    return Network(None, SOURCE, (Taken("x", "FP32", (4,)),), run, export, tuple(given))


@pytest.mark.parametrize(
    ("ends", "given", "names"),
    [
        (["Softmax"], [], ["probabilities"]),
        (["Relu"], [], ["variable"]),
        (["Softmax", "ArgMax"], [], ["probabilities", "label"]),
        (["Relu", "ArgMax", "Relu"], [], ["variable_0", "label", "variable_2"]),
        (["Softmax", "ArgMax"], ["species", ""], ["species", "label"]),
        (["Relu", "ArgMax"], ["label", ""], ["label", "label_1"]),
    ],
)
def test_a_networks_outputs_are_named_after_what_they_mean_unless_its_author_named_them(
    ends: list[str], given: list[str], names: list[str]
) -> None:
    rows = IRIS.data.astype(np.float32)
    made = convert(network(*ends, given=given), rows, strict=False, tolerance=1e-3)
    onnx.checker.check_model(made.model, full_check=True)
    assert outputs(made.model) == names
    session = ort.InferenceSession(made.model.SerializeToString())
    found = session.run(names, {ALL: rows.to_numpy()})
    for one, other in zip(found, network(*ends).run([rows.to_numpy()]), strict=True):  # type: ignore[misc]
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_names_inside_branches_make_room_too() -> None:
    text = """
        <ir_version: 9, opset_import: ["": 18]>
        m (float[n] x, bool seen) => (float[n] y) {
            probabilities = Neg(x)
            y = If (seen) <
                then_branch = g () => (float[n] a) { label = Abs(probabilities)  a = Neg(label) },
                else_branch = h () => (float[n] b) { b = Identity(probabilities) }
            >
        }
    """
    for name in ("probabilities", "label"):
        model = with_names(onnx.parser.parse_model(text), [name])
        onnx.checker.check_model(model, full_check=True)
        assert outputs(model) == [name]
        session = ort.InferenceSession(model.SerializeToString())
        for seen, answer in (True, -2.0), (False, -2.0):
            (found,) = session.run(None, {"x": np.array([2.0], np.float32), "seen": np.array(seen)})
            assert found.tolist() == [answer]
