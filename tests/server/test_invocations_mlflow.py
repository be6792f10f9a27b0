"""``/invocations`` next to MLflow's own parser of it, over generated frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.scoring_server import infer_and_parse_data
from mlflow.types.schema import ColSpec, DataType, Schema
from onnx import parser

from slipway_server.adapters.invocations import InvocationsCodec
from slipway_server.errors import RequestError
from slipway_server.runtime.model import Model

KINDS = {
    "age": DataType.long,
    "floor": DataType.integer,
    "pay": DataType.float,
    "rate": DataType.double,
    "member": DataType.boolean,
    "town": DataType.string,
}
SCHEMA = Schema([ColSpec(kind, name) for name, kind in KINDS.items()])
GOOD = {"age": 1, "floor": 2, "pay": 0.5, "rate": 0.25, "member": True, "town": "Bonn"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path: Path = tmp_path_factory.mktemp("table") / "model.onnx"
    made = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] age, int32[N] floor, float[N] pay, double[N] rate, bool[N] member, string[N] town)
            => (int64[N] y) { y = Identity(age) }"""
    )
    path.write_bytes(made.SerializeToString())
    return Model(path, 1)


def ours(model: Model, document: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]] | None:
    try:
        return dict(InvocationsCodec().decode(orjson.dumps(document), None, model).inputs)
    except RequestError:
        return None


def mlflows(document: dict[str, Any]) -> pd.DataFrame | None:
    try:
        return _enforce_schema(infer_and_parse_data(document, SCHEMA), SCHEMA)
    except MlflowException:
        return None


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What was sent, as one object for each row; what is missing is ``None``."""
    if "dataframe_records" in document:
        return [{name: row.get(name) for name in KINDS} for row in document["dataframe_records"]]
    split = document["dataframe_split"]
    rows = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
    return [{name: row.get(name) for name in KINDS} for row in rows]


def means(sent: Any, read: Any, kind: DataType) -> bool:
    """Whether a value was read as what was sent, and nothing was made up or cut off."""
    if sent is None:
        return kind in (DataType.float, DataType.double) and math.isnan(read)
    if kind is DataType.string or isinstance(sent, str):
        return type(sent) is str and sent == read
    if kind is DataType.float:
        with np.errstate(over="ignore"):
            return math.isfinite(read) and float(np.float32(sent)) == float(read)
    if type(sent) is float and kind in (DataType.long, DataType.integer) and abs(sent) > 2**53:
        return False  # a float of this size may have been another whole number in the request's text
    return bool(sent == read)


numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-1000, 1000).map(float),
    st.integers(-1000, 1000).map(lambda number: number + 0.5),
)
cells = st.one_of(numbers, numbers, st.booleans(), st.none(), st.text(max_size=3))
natural = {
    "age": numbers,
    "floor": st.integers(-(2**31), 2**31 - 1) | st.integers(-9, 9).map(float),
    "pay": st.none() | numbers,
    "rate": st.none() | numbers,
    "member": st.booleans(),
    "town": st.text(max_size=3),
}


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    odd = draw(st.sampled_from([None, None, *KINDS]))
    columns = draw(st.permutations([*KINDS, *draw(st.sampled_from([[], ["z"], ["z", "y"]]))]))
    columns = columns[draw(st.sampled_from([0, 0, 0, 1])) :]
    rows = [
        {name: draw(cells if name == odd else natural.get(name, cells)) for name in columns}
        for _ in range(draw(st.integers(1, 4)))
    ]
    if draw(st.booleans()):
        return {"dataframe_split": {"columns": columns, "data": [list(row.values()) for row in rows]}}
    for row in rows:
        for name in draw(st.lists(st.sampled_from(columns), max_size=1)):
            del row[name]
    return {"dataframe_records": rows}


def split(**changed: Any) -> dict[str, Any]:
    row = GOOD | changed
    return {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=frames())
@example(document=split(age=1.0))
@example(document=split(age=1.5))
@example(document=split(age=True, floor=2.0, member=1, pay=None))
@example(document=split(age=2**63 - 1))
@example(document=split(floor=2**31))
@example(document=split(pay=1e39))
@example(document={"dataframe_records": [GOOD, {k: v for k, v in GOOD.items() if k != "rate"}]})
@example(document={"dataframe_records": [GOOD, GOOD | {"z": "later"}]})
@example(document={"dataframe_records": [GOOD, {k: v for k, v in GOOD.items() if k != "age"}]})
def test_a_frame_is_read_as_mlflow_reads_it_unless_mlflow_changes_a_value(
    model: Model, document: dict[str, Any]
) -> None:
    sent, mine, theirs = rows_of(document), ours(model, document), mlflows(document)
    if mine is not None:
        for name, kind in KINDS.items():
            for row, value in zip(sent, mine[name].tolist(), strict=True):
                assert means(row[name], value, kind), (name, row[name], value)
    if theirs is None:
        return
    kept = all(
        means(row[name], value, kind)
        for name, kind in KINDS.items()
        for row, value in zip(sent, theirs[name].tolist(), strict=True)
    )
    if not kept:
        return  # 1.5 became 1, 1e39 infinity, null the boolean False
    assert mine is not None, "MLflow takes it, and it means one thing only"
    for name, kind in KINDS.items():
        column = theirs[name].to_numpy()
        if kind is DataType.string:
            assert mine[name].tolist() == column.tolist()
        else:
            assert mine[name].tobytes() == column.astype(mine[name].dtype).tobytes()


BOTH: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda row: {"dataframe_split": {"columns": list(row), "data": [list(row.values())] * 2}},
    lambda row: {"dataframe_records": [row] * 2},
    lambda row: {"inputs": {name: [value] * 2 for name, value in row.items()}},
    lambda row: {"instances": [row] * 2},
]


@pytest.mark.parametrize("form", BOTH)
def test_a_whole_number_may_have_a_point_and_half_a_number_may_not(
    model: Model, form: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    read = ours(model, form(GOOD | {"age": 7.0, "floor": -3.0, "pay": None}))
    assert read is not None
    assert (read["age"].tolist(), read["floor"].tolist()) == ([7, 7], [-3, -3])
    assert np.isnan(read["pay"]).all()
    for wrong in ({"age": 1.5}, {"age": 1e300}, {"age": 2.0**54}, {"floor": 2.0**31}, {"age": None}):
        assert ours(model, form(GOOD | wrong)) is None
