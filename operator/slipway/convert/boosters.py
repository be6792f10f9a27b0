"""Models of XGBoost, LightGBM and CatBoost, alone or as steps of scikit-learn's pipelines.

Their converters are registered with skl2onnx, which converts the pipeline around them: those of onnxmltools
for XGBoost and LightGBM, and what CatBoost itself exports.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from scipy.sparse import issparse
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.pipeline import Pipeline

from slipway.convert.errors import ConvertError
from slipway.convert.libraries import library_of
from slipway.convert.trees import rounded_down
from slipway.names import DISTRIBUTION

Convert = Callable[[Any, Any, Any], None]

_OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
#: Objectives whose answers onnxmltools or CatBoost write as they are.
_OBJECTIVES = {
    "xgboost": {
        "binary:logistic",
        "multi:softprob",
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:quantileerror",
        "count:poisson",
        "reg:gamma",
        "reg:tweedie",
    },
    "lightgbm": {
        "binary",
        "multiclass",
        "regression",
        "regression_l1",
        "huber",
        "quantile",
        "poisson",
        "gamma",
        "tweedie",
    },
}
#: Losses of CatBoost whose values are exponents.
_EXPONENTS = ("Poisson", "Tweedie")
_WEIGHTS = ("class_weights", "target_weights", "base_values")


def register(libraries: set[str]) -> None:
    """Let skl2onnx convert models of these libraries.

    Raises:
        ConvertError: where the package is missing that converts them.
    """
    for library in sorted(libraries):
        try:
            _REGISTRATIONS[library]()
        except ImportError as error:
            raise ConvertError(
                f"{error.name} is not installed, which converting a model of {library} takes: pip install "
                f"'{DISTRIBUTION}[boosters]'"
            ) from None


def refusal(model: Any) -> str | None:
    """Why a model of one of the libraries cannot be converted; None where it can be tried."""
    library = library_of(model)
    if library is None:
        return None
    categories = _categories(library, model)
    if categories:
        return (
            f"it takes categories in {', '.join(map(repr, categories[:10]))}, which trees of ONNX cannot: "
            "encode them as numbers before the model, by a OneHotEncoder or OrdinalEncoder in a pipeline"
        )
    if library == "xgboost":
        booster = model.get_params().get("booster")
        if booster not in (None, "gbtree"):
            return f"its booster is {booster!r}: only 'gbtree' has an ONNX"
        objective = model.objective
    elif library == "lightgbm":
        objective = model.booster_.dump_model().get("objective")
        objective = objective and objective.partition(" ")[0]
    else:
        return None
    if objective not in _OBJECTIVES[library]:
        return (
            f"its objective is {objective!r}; those that have an ONNX are "
            f"{', '.join(sorted(_OBJECTIVES[library]))}"
        )
    return None


def telling_sparse(model: Any, frame: Any) -> Any:
    """The pipeline, and its model of XGBoost knows whether it is given sparse matrices.

    It takes what these leave out, all zeros, for missing values.
    """
    if not isinstance(model, Pipeline) or library_of(model.steps[-1][1]) != "xgboost":
        return model
    if not issparse(model[:-1].transform(frame)):
        return model
    name, last = model.steps[-1]
    last = copy(last)
    last.takes_sparse = True
    return Pipeline([*model.steps[:-1], (name, last)])


def _categories(library: str, model: Any) -> list[str]:
    if library == "xgboost":
        booster = model.get_booster()
        names = booster.feature_names or [str(at) for at in range(booster.num_features())]
        return [name for name, kind in zip(names, booster.feature_types or [], strict=False) if kind == "c"]
    if library == "lightgbm":
        dump = model.booster_.dump_model()
        used = {
            split["split_feature"] for split in _splits(dump["tree_info"]) if split["decision_type"] == "=="
        }
        return [dump["feature_names"][at] for at in sorted(used)]
    features = [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]
    features += model.get_embedding_feature_indices()
    return [str(model.feature_names_[at]) for at in features]


def thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """Position of the column and threshold of each split, as the library itself lists them."""
    library = library_of(model)
    if library == "xgboost":
        booster = model.get_booster().copy()
        booster.feature_names = None
        splits = booster.trees_to_dataframe()
        splits = splits[splits["Feature"] != "Leaf"]
        yield from zip(splits["Feature"].str[1:].astype(int), splits["Split"].astype(float), strict=True)
    elif library == "lightgbm":
        for split in _splits(model.booster_.dump_model()["tree_info"]):
            yield split["split_feature"], float(split["threshold"])
    elif library == "catboost":
        for at, borders in model.get_borders().items():
            yield from ((at, float(border)) for border in borders)


def _splits(trees: list[Any]) -> Iterator[Any]:
    nodes = [tree["tree_structure"] for tree in trees]
    while nodes:
        node = nodes.pop()
        if "split_feature" in node:
            yield node
            nodes += [node["left_child"], node["right_child"]]


@cache
def _xgboost() -> None:
    import xgboost
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    for model in (xgboost.XGBClassifier, xgboost.XGBRFClassifier):
        _registered(model, _of_32_bits(_nameless(convert_xgboost)), classes=True)
    for model in (xgboost.XGBRegressor, xgboost.XGBRFRegressor):
        _registered(model, _of_32_bits(_nameless(convert_xgboost)), classes=False)


@cache
def _lightgbm() -> None:
    import lightgbm
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    _registered(lightgbm.LGBMClassifier, _exact(convert_lightgbm), classes=True)
    _registered(lightgbm.LGBMRegressor, _exact(convert_lightgbm), classes=False)


@cache
def _catboost() -> None:
    import catboost

    _registered(catboost.CatBoostClassifier, _of_32_bits(_exported), classes=True)
    _registered(catboost.CatBoostRegressor, _of_32_bits(_exported), classes=False)


_REGISTRATIONS = {"xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost}


def _registered(model: type, convert: Convert, *, classes: bool) -> None:
    alias = f"Slipway{model.__name__}"
    shapes = (
        calculate_linear_classifier_output_shapes if classes else calculate_linear_regressor_output_shapes
    )

    def shaped(operator: Any) -> None:
        shapes(operator)
        # Trees of ONNX answer with 32 bits, whatever they take.
        operator.outputs[-1].type = FloatTensorType(operator.outputs[-1].type.shape)

    def parsed(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:  # noqa: ARG001
        operator = scope.declare_local_operator(alias, model)
        operator.inputs = inputs
        for name in ("label", "probabilities") if classes else ("variable",):
            operator.outputs.append(scope.declare_local_variable(name, FloatTensorType()))
        return operator.outputs

    update_registered_converter(
        model,
        alias,
        shaped,
        convert,
        overwrite=True,
        parser=parsed,
        options=_OPTIONS if classes else None,
    )


class _Operator:
    """One of skl2onnx, with another model or inputs in it."""

    def __init__(self, operator: Any, **changed: Any) -> None:
        self._operator = operator
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)


def _of_32_bits(convert: Convert) -> Convert:
    """A converter of a model that rounds what it takes to 32 bits, and compares and adds in them."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        taken = operator.inputs[0]
        changed = {}
        if not isinstance(taken.type, FloatTensorType):
            rounded = scope.get_unique_variable_name("rounded")
            container.add_node("Cast", taken.full_name, rounded, to=onnx.TensorProto.FLOAT)
            changed["input_full_names"] = [rounded]
        convert(scope, _Operator(operator, **changed), container)

    return converted


def _nameless(convert: Convert) -> Convert:
    """A converter of a model of XGBoost without its columns' names, of which onnxmltools wants positions."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        model = copy(operator.raw_operator)
        booster = model.get_booster().copy()
        booster.feature_names = None
        model._Booster = booster
        changed = {}
        if getattr(model, "takes_sparse", False):
            names = [scope.get_unique_variable_name(name) for name in ("zero", "missing", "zeros", "taken")]
            zero, missing, zeros, taken = names
            container.add_initializer(zero, onnx.TensorProto.FLOAT, [], [0.0])
            container.add_initializer(missing, onnx.TensorProto.FLOAT, [], [np.nan])
            given = operator.input_full_names[0]
            container.add_node("Equal", [given, zero], zeros)
            container.add_node("Where", [zeros, missing, given], taken)
            changed["input_full_names"] = [taken]
        convert(scope, _Operator(operator, raw_operator=model, **changed), container)

    return converted


def _exact(convert: Convert) -> Convert:
    """A converter of a model that compares 64 bits, with thresholds that tell apart what they do there."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        double = isinstance(operator.inputs[0].type, DoubleTensorType)

        class Container:
            def __getattr__(self, name: str) -> Any:
                return getattr(container, name)

            def add_node(self, kind: str, *arguments: Any, **attributes: Any) -> None:
                if kind.startswith("TreeEnsemble"):
                    attributes = _with_64_bits(attributes) if double else _with_32_bits(attributes)
                container.add_node(kind, *arguments, **attributes)

        convert(scope, operator, Container())

    return converted


def _with_32_bits(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, "nodes_values": rounded_down(attributes["nodes_values"]).tolist()}


def _with_64_bits(attributes: dict[str, Any]) -> dict[str, Any]:
    doubles = [name for name in ("nodes_values", *_WEIGHTS) if name in attributes]
    kept = {name: value for name, value in attributes.items() if name not in (*doubles, "nodes_hitrates")}
    for name in doubles:
        values = np.array(attributes[name], np.float64)
        kept[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)
    return {**kept, "op_version": 3}


def _exported(scope: Any, operator: Any, container: Any) -> None:
    """What CatBoost exports, between the operator's inputs and outputs."""
    model = operator.raw_operator
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        model.save_model(str(path), format="onnx")
        graph = onnx.load(path).graph
    (trees,) = [node for node in graph.node if node.op_type.startswith("TreeEnsemble")]
    attributes = {each.name: helper.get_attribute_value(each) for each in trees.attribute}
    outputs = operator.output_full_names
    exponent = len(outputs) == 1 and str(model.get_all_params().get("loss_function", "")).startswith(
        _EXPONENTS
    )
    made = [scope.get_unique_variable_name("exponent")] if exponent else outputs
    container.add_node(
        trees.op_type, operator.input_full_names, made, op_domain="ai.onnx.ml", op_version=1, **attributes
    )
    if exponent:
        container.add_node("Exp", made, outputs)
