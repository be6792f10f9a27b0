"""Tables become requests of the protocol, by the names of their columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slipway.notebook.errors import PredictionError
from slipway.notebook.predictions import predictions_of
from slipway.notebook.tables import MOST_ROWS, Input, inputs_of, requests_of

ROWS = Input("X", "FP32", (-1, 2))
NAMED = Input("X", "FP32", (-1, 2), ("age", "income"))


def only(table: Any, *inputs: Input) -> dict[str, dict[str, Any]]:
    """The inputs of the only request that comes of a table, by name."""
    [request] = requests_of(table, inputs)
    return {one["name"]: one for one in request["inputs"]}


def test_the_columns_of_one_input_are_found_by_the_names_of_the_spec_whatever_their_order() -> None:
    frame = pd.DataFrame({"income": [10.0, 20.0], "id": [7, 8], "age": [1.0, 2.0]})
    tensor = only(frame, NAMED)["X"]
    assert tensor == {"name": "X", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 10.0, 2.0, 20.0]}


def test_a_frame_of_polars_and_a_mapping_are_the_same_as_one_of_pandas() -> None:
    columns = {"age": [1.0, 2.0], "income": [10.0, 20.0]}
    wanted = only(pd.DataFrame(columns), NAMED)
    assert only(pl.DataFrame(columns), NAMED) == wanted
    assert only(columns, NAMED) == wanted
    assert only({name: np.array(column) for name, column in columns.items()}, NAMED) == wanted


def test_without_names_the_columns_are_the_inputs_in_their_order() -> None:
    assert only(pd.DataFrame({"b": [1.0], "a": [2.0]}), ROWS)["X"]["data"] == [1.0, 2.0]
    assert only(np.array([[1.0, 2.0]]), ROWS)["X"]["data"] == [1.0, 2.0]
    assert only([[1.0, 2.0]], ROWS)["X"]["shape"] == [1, 2]


def test_each_input_of_a_model_of_many_is_a_column() -> None:
    inputs = (Input("age", "INT64", (-1, 1)), Input("country", "BYTES", (-1,)))
    found = only(pd.DataFrame({"country": ["de", "fr"], "age": [1.0, 2.0]}), *inputs)
    assert found["age"] == {"name": "age", "datatype": "INT64", "shape": [2, 1], "data": [1, 2]}
    assert found["country"]["data"] == ["de", "fr"]
    assert all(type(value) is int for value in found["age"]["data"])


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan], ids=["none", "nan", "numpy"])
def test_what_is_missing_is_null(missing: Any) -> None:
    assert only({"age": [1.0, missing], "income": [2.0, 3.0]}, NAMED)["X"]["data"] == [1.0, 2.0, None, 3.0]


def test_decimals_are_numbers_and_whole_floats_are_integers() -> None:
    assert only({"a": [Decimal("1.5")]}, Input("a", "FP64", (-1,)))["a"]["data"] == [1.5]
    # What is no whole number stays as it is, so that the model server says so.
    assert only({"a": [1.5]}, Input("a", "INT64", (-1,)))["a"]["data"] == [1.5]


@pytest.mark.parametrize(
    ("table", "inputs", "words"),
    [
        ({"age": [1.0]}, (NAMED,), "the table lacks 'income'"),
        ({"a": [1.0], "b": [1.0], "c": [1.0]}, (ROWS,), "takes 2 values a row and the table has 3"),
        (np.zeros((2, 3)), (ROWS,), r"of shape \[-1, 2\] and the rows are of \[2, 3\]"),
        ({"age": [1]}, (Input("age", "INT64", (-1,)), Input("sex", "BYTES", (-1,))), "no column 'sex'"),
        (np.zeros((2, 2)), (Input("a", "FP32", (-1,)), Input("b", "FP32", (-1,))), "the columns a, b"),
        ({"a": [1, 2], "b": [1]}, (Input("a", "FP32", (-1,)), Input("b", "FP32", (-1,))), "one length"),
        ({"a": ["x"]}, (Input("a", "FP32", (-1,)),), "takes numbers, and one value is 'x'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_is_sent(
    table: Any, inputs: tuple[Input, ...], words: str
) -> None:
    with pytest.raises(PredictionError, match=words) as refused:
        list(requests_of(table, inputs))
    assert refused.value.status is None


def test_a_long_table_is_sent_in_parts_that_get_tokens_and_wide_rows_in_smaller_ones() -> None:
    long = list(requests_of(np.zeros((2 * MOST_ROWS + 1, 2)), [ROWS]))
    assert [one["inputs"][0]["shape"][0] for one in long] == [MOST_ROWS, MOST_ROWS, 1]
    wide = list(requests_of(np.zeros((3, 150_000)), [Input("X", "FP32", (-1, 150_000))]))
    assert [one["inputs"][0]["shape"][0] for one in wide] == [1, 1, 1]
    assert list(requests_of(np.zeros((0, 2)), [ROWS])) == []


def test_parameters_with_a_value_for_each_row_go_with_their_rows() -> None:
    rows = MOST_ROWS + 1
    sexes = ["female", *["male"] * (rows - 1)]
    first, second = requests_of(np.zeros((rows, 2)), [ROWS], {"sex": sexes, "as_of": 7})
    assert first["parameters"] == {"sex": sexes[:MOST_ROWS], "as_of": 7}
    assert second["parameters"] == {"sex": ["male"], "as_of": 7}
    with pytest.raises(PredictionError, match="parameter 'sex' has 2 values for 1 rows"):
        list(requests_of(np.zeros((1, 2)), [ROWS], {"sex": ["a", "b"]}))


def test_optional_inputs_are_left_to_their_defaults() -> None:
    metadata = {
        "inputs": [
            {"name": "X", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "threshold", "datatype": "FP32", "shape": [1], "optional": True},
        ]
    }
    assert inputs_of(metadata, {"X": ["age", "income"]}) == (NAMED,)


def answer(*data: float, version: str = "3", tokens: str = "") -> dict[str, Any]:
    output: dict[str, Any] = {
        "name": "p",
        "datatype": "FP32",
        "shape": [len(data) // 2, 2],
        "data": list(data),
    }
    output["parameters"] = {"labels": '["no","yes"]'}
    parameters = {"feedback_token": tokens} if tokens else {}
    return {"model_version": version, "outputs": [output], "parameters": parameters}


def test_answers_in_parts_are_one_table_with_the_index_that_was_given() -> None:
    found = predictions_of([answer(0.1, 0.9, tokens="a"), answer(0.2, 0.8, tokens="b")], ["first", "second"])
    assert found["p"].shape == (2, 2)
    assert found["p"].dtype == np.float32
    assert found.tokens == ("a", "b")
    assert len(found) == 2
    assert list(found.frame.columns) == ["p[no]", "p[yes]"]
    assert list(found.frame.index) == ["first", "second"]
    assert "p[yes]" in str(found._repr_html_())


def test_null_in_an_answer_is_nan_and_strings_stay_strings() -> None:
    outputs = [
        {"name": "y", "datatype": "FP64", "shape": [2], "data": [None, 1.0]},
        {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ]
    found = predictions_of([{"outputs": outputs}])
    assert np.isnan(found["y"][0])
    assert found["s"].tolist() == ["a", "b"]
    assert list(found.frame.columns) == ["y", "s"]


@pytest.mark.parametrize("wrong", [{}, {"outputs": [{"name": "y"}]}, {"outputs": 3}])
def test_an_answer_that_is_not_of_the_protocol_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(PredictionError, match="not of the Open Inference Protocol"):
        predictions_of([wrong])
