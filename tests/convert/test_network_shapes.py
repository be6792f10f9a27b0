"""Rows of data become tensors of a network, whatever library made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from slipway.cli.convert import _arrays
from slipway.conversion import Rows, Source
from slipway.convert.errors import ConvertError
from slipway.convert.make import convert
from slipway.convert.networks import Network, Taken
from slipway.convert.outputs import renamed

WEIGHTS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
PICTURES = np.random.default_rng(1).random((20, 3, 4)).astype(np.float32)
SOURCE = Source(called="a network", kind="numpy", digest=f"sha256:{'0' * 64}")
FLOAT = TensorProto.FLOAT


def exported(taken: Sequence[Taken], rows: int = 0) -> onnx.ModelProto:
    """Pictures of 3 by 4 to three scores; with ``rows`` for so many alone."""
    name = taken[0].name
    nodes = [
        helper.make_node("Reshape", [name, "flat"], ["seen"]),
        helper.make_node("MatMul", ["seen", "weights"], ["scores"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([rows or -1, 12]), "flat"),
        numpy_helper.from_array(WEIGHTS, "weights"),
    ]
    given = helper.make_tensor_value_info(name, FLOAT, ["rows", 3, 4])
    scores = helper.make_tensor_value_info("scores", FLOAT, ["rows", 3])
    graph = helper.make_graph(nodes, "network", [given], [scores], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def scores(given: list[Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        return [given[0].reshape(len(given[0]), 12) @ WEIGHTS]


def network(
    run: Callable[[list[Any]], list[Any]] = scores,
    export: Callable[[Sequence[Taken]], onnx.ModelProto] = exported,
    *inputs: Taken,
) -> Network:
    return Network(None, SOURCE, inputs or (Taken("pictures", "FP32", (3, 4)),), run, export)


def rows_of(array: Any, folder: Path) -> pd.DataFrame:
    np.save(folder / "rows.npy", array)
    return _arrays(folder / "rows.npy")


def test_a_network_takes_all_columns_in_the_shape_of_its_input(tmp_path: Path) -> None:
    made = convert(network(), rows_of(PICTURES, tmp_path))
    (given,) = made.model.graph.input
    assert [given.name, *(each.dim_value for each in given.type.tensor_type.shape.dim[1:])] == ["X", 3, 4]
    assert {*made.proof.compared} == {*Rows} - {Rows.UNKNOWN}
    assert not any(found.beyond for found in made.proof.compared.values())
    assert made.proof.compared[Rows.DATA].rows == 20


def test_a_wide_network_is_compared_at_few_columns_and_not_at_thresholds(tmp_path: Path) -> None:
    wide = np.ones((300, 3), np.float32)

    def export(taken: Sequence[Taken]) -> onnx.ModelProto:
        node = helper.make_node("MatMul", [taken[0].name, "weights"], ["scores"])
        given = helper.make_tensor_value_info(taken[0].name, FLOAT, ["rows", 300])
        found = helper.make_tensor_value_info("scores", FLOAT, ["rows", 3])
        graph = helper.make_graph([node], "n", [given], [found], [numpy_helper.from_array(wide, "weights")])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    one = network(lambda given: [given[0] @ wide], export, Taken("x", "FP32", (300,)))
    made = convert(one, rows_of(np.random.default_rng(2).random((9, 300), np.float32), tmp_path))
    assert made.proof.compared[Rows.MISSING].rows == 8 * 8
    assert Rows.THRESHOLDS not in made.proof.compared


REFUSED: dict[str, tuple[Network, str]] = {
    "columns that do not fit": (
        network(scores, exported, Taken("x", "FP32", (5, 5))),
        "has the shape [5, 5], which takes 25 columns, and the data has 12",
    ),
    "two free dimensions": (
        network(scores, exported, Taken("x", "FP32", (None, None))),
        "has 2 free dimensions next to that of the rows",
    ),
    "a free one that does not fit": (
        network(scores, exported, Taken("x", "FP32", (None, 5))),
        "the shape [free, 5], which takes a multiple of 5 columns",
    ),
    "whole numbers": (
        network(scores, exported, Taken("x", "INT64", (12,))),
        "holds float32, and the model takes whole numbers, none of them missing",
    ),
    "an answer that the other rows decide": (
        network(lambda given: [scores(given)[0] - scores(given)[0].mean(axis=0)]),
        "answers a row otherwise when it comes again, without the others: call eval()",
    ),
    "no rows in the answer": (
        network(lambda given: [scores(given)[0].sum()]),
        "output 0 of the model has the shape [] for 20 rows",
    ),
    "an export for so many rows": (
        network(scores, lambda taken: exported(taken, rows=20)),
        "the converted model refuses rows that the original takes",
    ),
    "an export with other weights": (
        network(lambda given: [scores(given)[0] * 1.01]),
        "answers otherwise than the original by more than the tolerance",
    ),
}


@pytest.mark.parametrize(("one", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_network_that_does_not_fit_is_refused_with_the_reason(
    one: Network, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConvertError) as refused:
        convert(one, rows_of(PICTURES, tmp_path))
    assert words in str(refused.value)


@pytest.mark.parametrize("double", [True, False])
def test_the_bits_of_a_network_are_those_that_it_was_exported_with(double: bool, tmp_path: Path) -> None:
    one = network(scores, exported, Taken("x", "FP32" if double else "FP64", (3, 4)))
    with pytest.raises(ConvertError, match="as it was exported: call"):
        convert(one, rows_of(PICTURES, tmp_path), double=double)


def test_several_inputs_take_the_columns_of_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", b=np.arange(4), a=PICTURES[:4], unused=np.zeros((4, 2)))
    frame = _arrays(tmp_path / "rows.npz")
    one = network(scores, exported, Taken("a", "FP32", (3, None)), Taken("b", "INT64", ()))
    names = one.columns([str(name) for name in frame.columns])
    assert names == [*(f"a.{at}" for at in range(12)), "b"]
    tensors = one.layout(names).tensors(frame[names])
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (4, 3, 4), "b": (4,)}
    assert np.array_equal(tensors["a"], PICTURES[:4])
    with pytest.raises(ConvertError, match="takes the input 'b', and the data has no column 'b'"):
        one.columns(names[:-1])


def test_arrays_of_different_length_are_no_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=np.arange(4), b=np.arange(3))
    with pytest.raises(ValueError, match="its arrays have 3, 4 rows"):
        _arrays(tmp_path / "rows.npz")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        _arrays(tmp_path / "objects.npy")


def test_tensors_are_renamed_wherever_they_are_used() -> None:
    model = exported([Taken("x", "FP32", (3, 4))])
    found = renamed(model, {"x": "X", "scores": "answers"})
    onnx.checker.check_model(found, full_check=True)
    assert [found.graph.input[0].name, found.graph.output[0].name] == ["X", "answers"]
