"""An ONNX model with steps before it that are part of it: pictures or texts in, what it answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from slipway.convert.errors import ConvertError
from slipway.convert.outputs import LABEL, PROBABILITIES, with_names

#: The first that has Resize as Pillow does it.
OPSET = 18
#: Names of the steps begin so, that they are no one's of the model.
PREFIX = "slipway_"
MICROSOFT, CONTRIB = "com.microsoft.extensions", "ai.onnx.contrib"
_LARGEST = 2**31 - 1


@dataclass
class Steps:
    """Nodes that make the model's inputs of a request."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any) -> str:
        """The name of a constant tensor."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), PREFIX + name))
        return PREFIX + name

    def add(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Append an operator; gives its output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output


def opened(path: Path) -> onnx.ModelProto:
    """A whole model, whose operators are of :data:`OPSET` or newer. Raises :class:`ConvertError`."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        raise ConvertError(f"{path} is no ONNX model that can be read: {str(error)[:300]}") from None
    if model.ByteSize() > _LARGEST:
        raise ConvertError(f"{path} is larger than 2 GiB with its weights: such a model takes no more steps")
    if opset_of(model) < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:
            raise ConvertError(
                f"{path} has operators of opset {opset_of(model)}, and the steps need {OPSET} "
                f"({str(error)[:200]}): export the model with opset {OPSET}"
            ) from None
    return model


def opset_of(model: onnx.ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have no value of their own."""
    valued = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in valued]


def sizes_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """The dimensions of a tensor, None for a free one."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]


def joined(
    model: onnx.ModelProto, steps: Steps, taken: onnx.ValueInfoProto, domain: str, labels: Sequence[str] = ()
) -> onnx.ModelProto:
    """The model behind the steps, which make all of its inputs of ``taken``.

    With ``labels`` the first output, a table with a column for each, becomes the probabilities (by a softmax,
    unless it has them) and the label of the largest.
    """
    graph = model.graph
    after, outputs = Steps(), list(graph.output)
    if labels:
        outputs = _labelled(model, after, labels)
    made = helper.make_graph(
        [*steps.nodes, *graph.node, *after.nodes],
        graph.name or "model",
        [taken],
        outputs,
        [*steps.constants, *graph.initializer, *after.constants],
        sparse_initializer=graph.sparse_initializer,
        value_info=graph.value_info,
    )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(made)
    result.ir_version = max(result.ir_version, 8)
    if not any(each.domain == domain for each in result.opset_import):
        result.opset_import.append(helper.make_opsetid(domain, 1))
    try:
        onnx.checker.check_model(result)
    except Exception as error:
        raise ConvertError(f"the model does not fit the steps: {str(error)[:300]}") from None
    return with_names(result, [LABEL, PROBABILITIES]) if labels else result


def _labelled(model: onnx.ModelProto, after: Steps, labels: Sequence[str]) -> list[onnx.ValueInfoProto]:
    first = model.graph.output[0]
    sizes = sizes_of(first)
    if (
        first.type.tensor_type.elem_type != TensorProto.FLOAT
        or len(sizes) != 2
        or sizes[1]
        not in (
            None,
            len(labels),
        )
    ):
        raise ConvertError(
            f"the model's first output {first.name!r} has the shape {sizes}, for {len(labels)} labels: "
            "labels need a table of 32-bit numbers with a column for each"
        )
    scores = first.name
    if not any(node.op_type == "Softmax" and scores in node.output for node in model.graph.node):
        scores = after.add("Softmax", [scores], PREFIX + PROBABILITIES, axis=1)
    best = after.add("ArgMax", [scores], PREFIX + "best", axis=1, keepdims=0)
    names = after.constant("labels", np.array(labels, object))
    label = after.add("Gather", [names, best], PREFIX + LABEL, axis=0)
    return [
        helper.make_tensor_value_info(label, TensorProto.STRING, ["rows"]),
        helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["rows", len(labels)]),
    ]
