"""``slipway-audit`` with noise: what a linear model makes of copies is known, and so are bounds."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from slipway.contract import AuditTask, InputColumn, Inputs, Smoothing, Withstood
from tests.server.onnx_models import regressor
from tests.server.test_audit import PLACES, Pod, numbers_of, people, pod, wide, write

__all__ = ["pod"]

ASKED = Smoothing(noise=0.5, samples=1000, rows=60)


def task(digest: str, smoothing: Smoothing = ASKED, **more: Any) -> AuditTask:
    asked: dict[str, Any] = {"file": "rows.csv", "label": "repaid", "inputs": PLACES}
    return AuditTask(digest=digest, smoothing=smoothing, **{**asked, **more})


def withstood(pod: Pod, asked: AuditTask) -> Withstood:
    found = pod.run(asked)
    assert isinstance(found, Withstood), found
    return found


def columns(**more: dict[str, Any]) -> Inputs:
    return Inputs(columns=tuple(each.model_copy(update=more.get(each.name, {})) for each in PLACES.columns))


def above(limit: float, place: int = 1) -> Any:
    """A model that says 1 where a column of the two of ``X`` is above a limit, and else 0."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["X", "place"], ["found"], axis=1),
            helper.make_node("Greater", ["found", "limit"], ["is"]),
            helper.make_node("Cast", ["is"], ["label"], to=TensorProto.INT64),
        ],
        "above",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None])],
        [
            helper.make_tensor("place", TensorProto.INT64, [], [place]),
            helper.make_tensor("limit", TensorProto.FLOAT, [], [limit]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def near(hits: Any, chances: Any, samples: int = 1000) -> None:
    """Counts are as likely as chances say, each within 4.5 deviations."""
    hits, chances = np.array(hits), np.array(chances)
    spread = np.sqrt(samples * chances * (1 - chances)) + 1.0
    assert (abs(hits - samples * chances) / spread).max() < 4.5


def test_copies_of_a_linear_model_are_right_as_often_as_its_margin_says(pod: Pod) -> None:
    """Noise of so many deviations in each direction leaves the true side with a chance that is known."""
    rows = people(60)
    model, made = wide(people(seed=1))
    write(pod.table, rows)
    found = withstood(pod, task(pod.model(made)))
    deviations = numbers_of(rows).astype(float).std(axis=0)
    slope = model.coef_[0] * deviations
    sides = np.where([row["repaid"] for row in rows], 1, -1)
    distances = sides * model.decision_function(numbers_of(rows)) / np.linalg.norm(slope)
    near(found.hits, [NormalDist().cdf(each / ASKED.noise) for each in distances])
    assert found.baselineHits is None


def test_both_models_are_given_the_same_copies(pod: Pod) -> None:
    write(pod.table, people(500))
    _, made = wide(people(seed=1))
    _, other = wide([row for row in people(seed=2) if row["sex"] == "male"])
    same = withstood(pod, task(pod.model(made), baseline=pod.model(made, "baseline")))
    assert same.hits == same.baselineHits
    assert len(same.hits) == ASKED.rows
    differ = withstood(pod, task(pod.model(made), baseline=pod.model(other, "baseline")))
    assert differ.hits == same.hits
    assert differ.baselineHits != same.hits
    assert withstood(pod, task(pod.model(made))).hits == same.hits, "the same again"


def test_copies_keep_to_the_bounds_of_a_column(pod: Pod) -> None:
    write(pod.table, [{**row, "repaid": 0} for row in people(40)])
    digest = pod.model(above(85.0))
    assert min(withstood(pod, task(digest)).hits) < 1000
    bounded = columns(age={"minimum": 18.0, "maximum": 85.0})
    assert set(withstood(pod, task(digest, inputs=bounded)).hits) == {1000}


def test_copies_of_whole_numbers_are_whole(pod: Pod) -> None:
    flags = [{"income": 0.1 * place, "age": place % 2, "repaid": 0} for place in range(40)]
    write(pod.table, flags)
    digest, chance = pod.model(above(0.3)), NormalDist(0.0, 0.25)
    zeros, ones = chance.cdf(0.3), chance.cdf(-0.7)
    ages = [row["age"] for row in flags]
    near(withstood(pod, task(digest)).hits, [ones if age else zeros for age in ages])
    whole = withstood(pod, task(digest, inputs=columns(age={"type": "Integer"})))
    near(whole.hits, [chance.cdf(-0.5) if age else chance.cdf(0.5) for age in ages])


@pytest.mark.parametrize(
    "how",
    [
        {"smoothing": ASKED.model_copy(update={"fixedColumns": ("age",)})},
        {"inputs": columns(age={"enum": ("18", "19")})},
        {"inputs": columns(age={"type": "String"})},
    ],
)
def test_what_nobody_can_move_is_not_moved(pod: Pod, how: dict[str, Any]) -> None:
    write(pod.table, [{**row, "repaid": int(row["age"] > 50)} for row in people(40)])
    digest = pod.model(above(50.0))
    assert min(withstood(pod, task(digest)).hits) < 1000
    assert set(withstood(pod, task(digest, **how)).hits) == {1000}


def test_text_stays_and_the_numbers_of_other_inputs_move_by_their_names(pod: Pod) -> None:
    """A pipeline with inputs of its own is compared with a model that takes a part of the columns as one."""
    rows = people(300)
    frame = pd.DataFrame(rows)[["sex", "age", "income"]]
    encode = ColumnTransformer([("sex", OneHotEncoder(), ["sex"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(frame, frame["income"] > 2)
    kinds = [
        ("sex", StringTensorType([None, 1])),
        ("age", Int64TensorType([None, 1])),
        ("income", FloatTensorType([None, 1])),
    ]
    write(pod.table, [{**row, "repaid": int(row["income"] > 2)} for row in rows])
    digest = pod.model(to_onnx(model, initial_types=kinds))
    found = withstood(pod, task(digest, inputs=None))
    assert min(found.hits) < 900 < max(found.hits)


def test_an_empty_cell_stays_empty(pod: Pod) -> None:
    rows = [
        {**row, "income": "" if place == 3 else row["income"], "repaid": 0}
        for place, row in enumerate(people(40))
    ]
    write(pod.table, rows)
    assert withstood(pod, task(pod.model(above(0.0, 0)))).hits[3] == 1000, "NaN is above nothing"


def test_a_large_table_is_drawn_from_and_deviations_are_of_all_of_it(pod: Pod) -> None:
    rows = [{"income": 1.0 if place < 5000 else -1.0, "age": 1, "repaid": 1} for place in range(10_000)]
    write(pod.table, rows)
    found = withstood(pod, task(pod.model(above(0.0, 0)), ASKED.model_copy(update={"rows": 300})))
    right = [hits for hits in found.hits if hits > 500]
    assert 100 < len(right) < 200, "from both ends"
    near(right, [NormalDist().cdf(1.0 / ASKED.noise)] * len(right))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"smoothing": ASKED.model_copy(update={"fixedColumns": ("height",)})}, "no column 'height'"),
        (
            {"smoothing": ASKED.model_copy(update={"fixedColumns": ("age", "income")})},
            "no column can be moved",
        ),
        ({"label": "defaulted"}, "no column 'defaulted'"),
    ],
)
def test_a_task_that_does_not_do_is_told_of_with_what_to_do(
    pod: Pod, how: dict[str, Any], words: str
) -> None:
    write(pod.table, people(50))
    assert words in pod.refused(task(pod.model(above(0.0)), **how))


def test_a_table_without_rows_and_a_model_of_numbers_are_told_of(pod: Pod) -> None:
    pod.table.parent.mkdir()
    pod.table.write_text("income,age,repaid\n")
    assert "has no rows" in pod.refused(task(pod.model(above(0.0))))
    names = tuple(InputColumn(name=f"c{place}", tensor="X", column=place) for place in range(10))
    write(pod.table, [{**{f"c{place}": row * 0.1 for place in range(10)}, "repaid": 1} for row in range(9)])
    assert "compares classes" in pod.refused(task(pod.model(regressor()), inputs=Inputs(columns=names)))
