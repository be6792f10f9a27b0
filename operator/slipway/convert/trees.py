"""Trees in ONNX, made to answer as the original's where converters do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from sklearn.ensemble._forest import BaseForest
from sklearn.tree import BaseDecisionTree

from slipway.convert.originals import parts

#: Thresholds in 64 bits, by feature and by what rounding to 32 makes of them.
Thresholds = Mapping[tuple[int, float], float]

_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_DOMAIN, _VERSION_OF_DOUBLES = "ai.onnx.ml", 3
_WEIGHTS = ("class_weights", "target_weights", "base_values")


def with_missing_values(converted: onnx.ModelProto, model: Any) -> onnx.ModelProto:
    """With trees that send a missing value where scikit-learn's do; skl2onnx sends all to the right."""
    (fitted,) = [part for part in parts(model) if isinstance(part, BaseDecisionTree | BaseForest)] or (None,)
    nodes = _nodes(converted)
    if fitted is None or len(nodes) != 1:
        return converted
    trees = [fitted] if isinstance(fitted, BaseDecisionTree) else fitted.estimators_
    attributes = _attributes(nodes[0])
    places = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    to_left = [int(trees[tree].tree_.missing_go_to_left[node]) for tree, node in places]
    attributes["nodes_missing_value_tracks_true"].ints[:] = to_left
    return converted


def thresholds_by_rounded(features: Any, thresholds: Any) -> Thresholds:
    """Those of an original that compares 64 bits."""
    rounded = np.asarray(thresholds, np.float32)
    return {
        (int(feature), float(key)): float(exact)
        for feature, key, exact in zip(features, rounded, thresholds, strict=True)
    }


def with_thresholds(converted: onnx.ModelProto, thresholds: Thresholds) -> onnx.ModelProto:
    """With trees that compare with thresholds of 64 bits."""
    for node in _nodes(converted):
        attributes = _attributes(node)
        features, rounded = attributes["nodes_featureids"].ints, attributes["nodes_values"].floats
        exact = [thresholds.get(key, key[1]) for key in zip(features, rounded, strict=True)]
        doubles = {"nodes_values": exact}
        doubles |= {name: list(attributes[name].floats) for name in _WEIGHTS if name in attributes}
        kept = [each for each in node.attribute if each.name not in (*doubles, "nodes_hitrates")]
        del node.attribute[:]
        node.attribute.extend(kept)
        for name, values in doubles.items():
            tensor = numpy_helper.from_array(np.array(values, np.float64), name)
            node.attribute.append(helper.make_attribute(f"{name}_as_tensor", tensor))
    for opset in converted.opset_import:
        if opset.domain == _DOMAIN:
            opset.version = max(opset.version, _VERSION_OF_DOUBLES)
    return converted


def with_thresholds_below(converted: onnx.ModelProto, thresholds: Thresholds) -> onnx.ModelProto:
    """With trees that take every number of 32 bits to the side where thresholds of 64 bits take it."""
    for node in _nodes(converted):
        attributes = _attributes(node)
        features, rounded = attributes["nodes_featureids"].ints, attributes["nodes_values"].floats
        exact = [thresholds.get(key, key[1]) for key in zip(features, rounded, strict=True)]
        attributes["nodes_values"].floats[:] = rounded_down(exact).tolist()
    return converted


def with_types_of_outputs(converted: onnx.ModelProto) -> onnx.ModelProto:
    """With outputs of 32 bits where trees make them, whatever their thresholds have."""
    made = {name for node in _nodes(converted) for name in node.output}
    for output in converted.graph.output:
        if output.name in made and output.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return converted


def _nodes(converted: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in converted.graph.node if node.op_type in _OPERATORS]


def _attributes(node: onnx.NodeProto) -> dict[str, onnx.AttributeProto]:
    return {each.name: each for each in node.attribute}


def rounded_down(thresholds: Any) -> npt.NDArray[np.float32]:
    """Thresholds of 64 bits in 32: any number of 32 bits is at most the one where it is at most the other."""
    exact = np.asarray(thresholds, np.float64)
    nearest = exact.astype(np.float32)
    lower: npt.NDArray[np.float32] = np.where(
        nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest
    )
    return lower
