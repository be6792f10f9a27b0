from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from slipway.contract import ModelFault
from slipway.models.faults import ModelError
from slipway.models.onnx_file import Tape, external_data
from tests.models.examples import onnx_classifier, wide_model

CLASSIFIER = onnx_classifier().SerializeToString()


def read(content: bytes, size: int = 1000) -> list[str]:
    return external_data(Tape(pieces(content, size), len), "model.onnx")


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def outside(name: str, location: str) -> TensorProto:
    """A tensor with its values in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    set_external_data(tensor, location, offset=0, length=16)
    tensor.ClearField("raw_data")
    return tensor


def graph(name: str, nodes: list[onnx.NodeProto], tensors: list[TensorProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [], tensors)


def test_weights_are_found_wherever_a_tensor_can_be() -> None:
    branch = graph("then", [helper.make_node("Constant", [], ["c"], value=outside("c", "in-branch"))], [])
    lists = {"many": [outside("m", "in-list"), outside("n", "in-list-2")]}
    graphs = {"graphs": [graph("g", [], [outside("o", "in-graphs")])]}
    nodes = [
        helper.make_node("Constant", [], ["a"], value=outside("a", "in-attribute")),
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=graph("else", [], [])),
        helper.make_node("Odd", [], ["z"], domain="d", **lists),
        helper.make_node("Odd", [], ["z"], domain="d", **graphs),
    ]
    initializers = [outside("w", "./in-initializer"), outside("v", "in-initializer")]
    model = helper.make_model(graph("main", nodes, initializers))
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("s", "in/sparse"))
    function = model.functions.add()
    function.node.append(helper.make_node("Constant", [], ["f"], value=outside("f", "in-function")))
    training = model.training_info.add()
    training.algorithm.initializer.append(outside("t", "in-training"))
    assert read(model.SerializeToString()) == sorted(
        [
            "in-branch",
            "in-attribute",
            "in-list",
            "in-list-2",
            "in-graphs",
            "in-initializer",
            "in/sparse",
            "in-function",
            "in-training",
        ]
    )


def test_a_model_in_one_file_needs_no_other() -> None:
    assert read(CLASSIFIER) == []
    assert read(wide_model().SerializeToString()) == []


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_the_size_of_the_pieces_does_not_matter(size: int) -> None:
    content = helper.make_model(graph("g", [], [outside("w", "weights")])).SerializeToString()
    got: list[bytes] = []
    assert external_data(Tape(pieces(content, size), got.append), "model.onnx") == ["weights"]
    assert b"".join(got) == content


@settings(deadline=None)
@given(st.integers(3, len(CLASSIFIER) - 100))
def test_a_model_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ModelError) as caught:
        read(CLASSIFIER[:length])
    assert caught.value.reason in (ModelFault.MODEL_TRUNCATED, ModelFault.NOT_AN_ONNX_MODEL)


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_either_read_or_refused(content: bytes, begins_well: bool) -> None:
    allowed = {ModelFault.MODEL_TRUNCATED, ModelFault.NOT_AN_ONNX_MODEL, ModelFault.MODEL_LOAD_FAILED}
    reasons = set()
    try:
        read(b"\x08\x09" + content if begins_well else content)
    except ModelError as error:
        reasons.add(error.reason)
    assert reasons <= allowed


def test_messages_within_messages_do_not_go_on_for_ever() -> None:
    content = b""
    for _ in range(3000):
        attribute = b"\x32" + varint(len(content)) + content
        node = b"\x2a" + varint(len(attribute)) + attribute
        content = b"\x0a" + varint(len(node)) + node
    with pytest.raises(ModelError) as caught:
        read(b"\x08\x09\x3a" + varint(len(content)) + content)
    assert caught.value.reason == ModelFault.NOT_AN_ONNX_MODEL


@pytest.mark.parametrize(
    "location", ["../weights", "/etc/passwd", "a/../../b", "..", ".", "", "a\\b", "a\nb"]
)
def test_weights_outside_of_the_folder_are_refused(location: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(helper.make_model(graph("g", [], [outside("w", location)])).SerializeToString())
    assert caught.value.reason == ModelFault.MODEL_LOAD_FAILED


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
