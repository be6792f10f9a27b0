"""From scikit-learn's models and pipelines to ONNX, by skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import helper
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from skl2onnx.proto import get_latest_tested_opset_version
from skl2onnx.sklapi import CastTransformer
from sklearn.base import BaseEstimator, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)
from sklearn.ensemble._forest import BaseForest
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.tree import BaseDecisionTree

from slipway.convert.boosters import refusal, register, telling_sparse
from slipway.convert.errors import ConvertError
from slipway.convert.layout import ALL, Layout
from slipway.convert.libraries import library_of
from slipway.convert.originals import Original, parts
from slipway.convert.outputs import renamed
from slipway.convert.trees import (
    thresholds_by_rounded,
    with_missing_values,
    with_thresholds,
    with_thresholds_below,
    with_types_of_outputs,
)

_TYPES = {
    "FP32": FloatTensorType,
    "FP64": DoubleTensorType,
    "INT64": Int64TensorType,
    "BOOL": BooleanTensorType,
    "BYTES": StringTensorType,
}
_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "raw_scores": [True, False],
    "output_class_labels": [False, True],
    "nocl": [True, False],
}
#: They compute in 64 bits, but compare what was rounded to 32.
_ROUNDING = (
    BaseDecisionTree,
    BaseForest,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
)
_HISTOGRAMS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
#: From the third on trees can have 64 bits, and the fourth is not known to skl2onnx.
_OPSETS = {"": get_latest_tested_opset_version(), "ai.onnx.ml": 3}


def to_onnx(original: Original, layout: Layout, frame: pd.DataFrame) -> onnx.ModelProto:
    """The model, with labels first where it has them, and numbers then.

    Raises:
        ConvertError: naming the step that there is no ONNX for.
    """
    _register()
    register({library for part in parts(original.model) if (library := library_of(part))})
    for part in parts(original.model):
        if why := refusal(part):
            raise ConvertError(f"{_where(original.model, part)} cannot be converted to ONNX: {why}")
    model: Any = telling_sparse(original.model, frame)
    if layout.is_double:
        model = _rounding_where_the_original_does(model)
    if layout.together:
        types = [(ALL, _TYPES[layout.columns[0].datatype]([None, len(layout.columns)]))]
    else:
        types = [(column.name, _TYPES[column.datatype]([None, 1])) for column in layout.columns]
    try:
        converted = _converted(model, types)
    except Exception as error:
        step = failing_step(original.model, frame)
        where = f"the step {step[0]!r} ({step[1]}) of the pipeline" if step else original.source.kind
        why = step[2] if step else _first_line(error)
        raise ConvertError(
            f"{where} cannot be converted to ONNX: {why}. Replace it with one that skl2onnx knows, or "
            "take it out of the model and compute it before"
        ) from None
    # A column that is called as an output is another's name to skl2onnx.
    named = {value.name: name for value, (name, _) in zip(converted.graph.input, types, strict=True)}
    return _as_the_original(renamed(converted, named), original.model, layout.is_double)


def _where(model: Any, part: Any) -> str:
    """A part of a model, as a message names it."""
    kind = type(part).__qualname__
    names = [name for name, step in getattr(model, "steps", []) if step is part]
    return f"the step {names[0]!r} ({kind}) of the pipeline" if names else f"the {kind}"


def _converted(model: Any, types: list[Any]) -> onnx.ModelProto:
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted: onnx.ModelProto = convert_sklearn(
            model, "model", types, options=options, target_opset=_OPSETS
        )
    return converted


def failing_step(model: Any, data: Any, path: tuple[str, ...] = ()) -> tuple[str, str, str] | None:
    """The first step that does not convert by itself: its path in the pipeline, its class, and why.

    ``data`` is what it takes: rows of a frame or an array.
    """
    if isinstance(model, Pipeline):
        for name, step in model.steps:
            found = failing_step(step, data, (*path, name)) if isinstance(step, BaseEstimator) else None
            if found:
                return found
            if isinstance(step, BaseEstimator) and hasattr(step, "transform"):
                data = step.transform(data)
        return None
    if isinstance(model, ColumnTransformer):
        for name, step, columns in model.transformers_:
            if isinstance(step, BaseEstimator):
                taken = data[columns] if isinstance(columns, str) else _columns(data, columns)
                if found := failing_step(step, taken, (*path, name)):
                    return found
        return None
    if isinstance(model, FeatureUnion):
        for name, step in model.transformer_list:
            if isinstance(step, BaseEstimator) and (found := failing_step(step, data, (*path, name))):
                return found
        return None
    try:
        _converted(model, _types_of(data))
    except Exception as error:
        if path:
            return ".".join(path), type(model).__qualname__, _first_line(error)
    return None


def _columns(data: Any, columns: Any) -> Any:
    if not isinstance(data, pd.DataFrame):
        return data[:, columns]
    return data[columns] if all(isinstance(each, str) for each in columns) else data.iloc[:, columns]


def _types_of(data: Any) -> list[Any]:
    width = 1 if data.ndim == 1 else data.shape[1]
    dtypes = [data.dtype] if not isinstance(data, pd.DataFrame) else list(data.dtypes)
    is_text = not all(pd.api.types.is_numeric_dtype(each) for each in dtypes)
    kind = StringTensorType if is_text else FloatTensorType
    return [(ALL, kind([None, width]))]


def _rounding_where_the_original_does(model: Any) -> Any:
    """The model with a cast to 32 bits before trees: ONNX's trees would compare 64."""
    if isinstance(model, Pipeline) and isinstance(model.steps[-1][1], _ROUNDING):
        return Pipeline([*model.steps[:-1], ("round", CastTransformer(dtype=np.float32)), model.steps[-1]])
    if isinstance(model, _ROUNDING):
        return Pipeline([("round", CastTransformer(dtype=np.float32)), ("model", model)])
    return model


def _as_the_original(converted: onnx.ModelProto, model: Any, double: bool) -> onnx.ModelProto:
    for node in converted.graph.node:
        if node.op_type == "StringNormalizer":
            # The default, en_US.UTF-8, is not on every machine.
            node.attribute.append(helper.make_attribute("locale", "C.UTF-8"))
    opsets = {each.domain: each.version for each in converted.opset_import}
    del converted.opset_import[:]
    converted.opset_import.extend(helper.make_opsetid(*each) for each in opsets.items())
    grown = [
        each.nodes[~each.nodes["is_leaf"].astype(bool)]
        for part in parts(model)
        if isinstance(part, _HISTOGRAMS)
        for predictors in part._predictors
        for each in predictors
    ]
    if grown:
        nodes = np.concatenate(grown)
        exact = thresholds_by_rounded(nodes["feature_idx"], nodes["num_threshold"])
        converted = (with_thresholds if double else with_thresholds_below)(converted, exact)
    return with_types_of_outputs(with_missing_values(converted, model))


@cache
def _register() -> None:
    """Let converters write what newer versions of onnx take."""
    for model in _HISTOGRAMS:
        alias = f"Sklearn{model.__name__}"
        update_registered_converter(
            model,
            alias,
            get_shape_calculator(alias),
            _plain(get_converter(alias)),
            options=_OPTIONS if is_classifier(model()) else None,
        )


def _plain(convert: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """A converter whose nodes have lists of plain numbers: newer onnx refuses numpy's booleans in them."""

    class Container:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def add_node(self, *arguments: Any, **attributes: Any) -> None:
            plain = {
                name: [
                    int(each) if isinstance(each, bool | np.bool_ | np.integer) else each for each in value
                ]
                if isinstance(value, list)
                else value
                for name, value in attributes.items()
            }
            self._container.add_node(*arguments, **plain)

    def converted(scope: Any, operator: Any, container: Any) -> None:
        convert(scope, operator, Container(container))

    return converted


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(" .:")
