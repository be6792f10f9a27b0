"""``slipway-audit``: a table in, counts of how real models treat groups out, in a pod's last words."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from slipway.contract import (
    Audited,
    AuditedAttribute,
    AuditTask,
    Evaded,
    InputColumn,
    Inputs,
    TerminationMessage,
    Unaudited,
    Withstood,
)
from slipway.digest import digest_of
from slipway.names import AUDIT_TASK_ENV, LARGEST_TABLE, MODEL_DIR_ENV
from slipway_server.audit.main import AUDIT_DATA_DIR_ENV, BASELINE_DIR_ENV, TERMINATION_PATH_ENV, run
from tests.server.onnx_models import regressor, save

Row = dict[str, Any]
#: Of the one input of :func:`wide`, as ``spec.inputs`` says it.
PLACES = Inputs(
    columns=tuple(
        InputColumn(name=name, tensor="X", column=place) for place, name in enumerate(("income", "age"))
    )
)
SEX = AuditedAttribute(column="sex", groups=("female", "male"))


def people(rows: int = 3000, seed: int = 0) -> list[Row]:
    """Applicants whose income helps them, and of whom men have more of it."""
    chance = np.random.default_rng(seed)
    sexes = chance.choice(["female", "male", "unknown"], rows, p=[0.3, 0.6, 0.1])
    incomes = chance.normal(2.0, 1.0, rows) + (sexes == "male") * 0.5
    ages = chance.integers(18, 80, rows)
    repaid = (incomes + chance.normal(0, 0.7, rows) > 2.0).astype(int)
    columns = (incomes.tolist(), ages.tolist(), sexes.tolist(), repaid.tolist())
    return [
        {"income": income, "age": age, "sex": str(sex), "repaid": good}
        for income, age, sex, good in zip(*columns, strict=True)
    ]


def numbers_of(rows: Iterable[Row]) -> np.ndarray[Any, Any]:
    return np.array([[row["income"], row["age"]] for row in rows], np.float32)


def wide(rows: Sequence[Row]) -> tuple[Any, Any]:
    """A classifier with one input of two numbers, and the same as ONNX."""
    model = LogisticRegression().fit(numbers_of(rows), [row["repaid"] for row in rows])
    return model, to_onnx(model, numbers_of(rows[:1]), options={"zipmap": False})


def write(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


class Pod:
    """The directories of an audit's pod, and what runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.table = root / "data" / "rows.csv"
        self.words = root / "last-words"

    def model(self, made: Any, place: str = "model") -> str:
        """Put a model into its directory; its digest."""
        return f"{digest_of(save(made, self.root / place))}"

    def environment(self, task: AuditTask | str) -> dict[str, str]:
        text = task if isinstance(task, str) else task.model_dump_json()
        return {
            AUDIT_TASK_ENV: text,
            MODEL_DIR_ENV: str(self.root / "model"),
            BASELINE_DIR_ENV: str(self.root / "baseline"),
            AUDIT_DATA_DIR_ENV: str(self.root / "data"),
            TERMINATION_PATH_ENV: str(self.words),
        }

    def run(self, task: AuditTask) -> Audited | Withstood | Evaded | Unaudited:
        assert run(self.environment(task)) == 0
        assert self.words.stat().st_size <= 4096
        outcome = TerminationMessage.model_validate_json(self.words.read_bytes()).outcome
        assert isinstance(outcome, Audited | Withstood | Evaded | Unaudited)
        return outcome

    def refused(self, task: AuditTask) -> str:
        outcome = self.run(task)
        assert isinstance(outcome, Unaudited), outcome
        return outcome.message


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def task(digest: str, **more: Any) -> AuditTask:
    asked: dict[str, Any] = {
        "digest": digest,
        "file": "rows.csv",
        "label": "repaid",
        "attributes": (SEX,),
        "favorableOutcomes": ("1",),
        "inputs": PLACES,
    }
    return AuditTask(**{**asked, **more})


def rates(tally: Sequence[int]) -> tuple[float, float, float]:
    """Selection, true and false positives."""
    hit, false, missed, spared = tally[:4]
    return (hit + false) / sum(tally[:4]), hit / (hit + missed), false / (false + spared)


def test_the_counts_are_those_of_fairlearn_and_scikit_learn(pod: Pod) -> None:
    rows = people()
    model, made = wide(people(seed=1))
    write(pod.table, rows)
    found = pod.run(task(pod.model(made)))
    assert isinstance(found, Audited)
    said, truth = model.predict(numbers_of(rows)), [row["repaid"] for row in rows]
    assert found.dataDigest == f"sha256:{hashlib.sha256(pod.table.read_bytes()).hexdigest()}"
    assert sum(found.rows[:4]) == len(rows)
    assert found.rows[4] == accuracy_score(truth, said, normalize=False)
    frame = MetricFrame(
        metrics={"selected": selection_rate, "true": true_positive_rate, "false": false_positive_rate},
        y_true=truth,
        y_pred=said,
        sensitive_features=[row["sex"] for row in rows],
    )
    [groups] = found.groups
    for name, tally in zip(SEX.groups, groups, strict=True):
        assert rates(tally) == pytest.approx(tuple(frame.by_group.loc[name]))
    # Whoever is in no group that is named is counted among all, and in none.
    assert sum(sum(tally[:4]) for tally in groups) < len(rows)


def test_both_models_answer_the_same_rows(pod: Pod) -> None:
    rows = people()
    model, made = wide(people(seed=1))
    other, before = wide([row for row in people(seed=2) if row["sex"] == "male"])
    write(pod.table, rows)
    found = pod.run(task(pod.model(made), baseline=pod.model(before, "baseline")))
    assert isinstance(found, Audited)
    truth = np.array([row["repaid"] for row in rows])
    mine, theirs = (each.predict(numbers_of(rows)) == truth for each in (model, other))
    assert found.rows[5:7] == (int((mine & ~theirs).sum()), int((theirs & ~mine).sum()))
    women = np.array([row["sex"] == "female" for row in rows])
    tally = found.groups[0][0]
    assert tally[5:7] == (int((mine & ~theirs & women).sum()), int((theirs & ~mine & women).sum()))
    selected = other.predict(numbers_of(rows)) == 1
    assert tally[7] + tally[8] == int((selected & women).sum())


def test_columns_go_where_the_profile_says_in_whatever_order_the_table_has_them(pod: Pod) -> None:
    rows = people(500)
    model, made = wide(people(seed=1))
    digest = pod.model(made)
    features = [
        {"name": name, "tensor": "X", "column": place} for place, name in enumerate(("income", "age"))
    ]
    (pod.root / "model" / "profile.json").write_text(
        json.dumps({"schemaVersion": 1, "modelDigest": digest, "features": features})
    )
    write(pod.table, [dict(random.Random(7).sample(sorted(row.items()), len(row))) for row in rows])
    found = pod.run(task(digest, inputs=None))
    assert isinstance(found, Audited)
    right = model.predict(numbers_of(rows)) == [row["repaid"] for row in rows]
    assert found.rows[4] == int(right.sum())


def test_a_pipeline_of_text_and_numbers_takes_columns_by_its_inputs_names(pod: Pod) -> None:
    rows = people(800)
    labels = ["good" if row["repaid"] else "bad" for row in rows]
    frame = pd.DataFrame(rows)[["sex", "age", "income"]]
    encode = ColumnTransformer([("sex", OneHotEncoder(), ["sex"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(frame, labels)
    kinds = [
        ("sex", StringTensorType([None, 1])),
        ("age", Int64TensorType([None, 1])),
        ("income", FloatTensorType([None, 1])),
    ]
    made = to_onnx(model, initial_types=kinds)
    write(pod.table, [{**row, "repaid": label} for row, label in zip(rows, labels, strict=True)])
    found = pod.run(task(pod.model(made), inputs=None, favorableOutcomes=("good",)))
    assert isinstance(found, Audited)
    assert sum(found.rows[:4]) == len(rows)
    assert found.rows[4] / len(rows) == pytest.approx(model.score(frame, labels), abs=0.005)
    assert found.rows[0] + found.rows[2] == labels.count("good")


@pytest.mark.parametrize("written", ["1", "1.0", "true", "TRUE", " 1 "])
def test_classes_and_groups_are_the_same_however_a_table_writes_them(pod: Pod, written: str) -> None:
    rows = people(400)
    model, made = wide(people(seed=1))
    other = "0.0" if "." in written else "false" if written.lower() == "true" else "0"
    write(pod.table, [{**row, "repaid": written if row["repaid"] else other} for row in rows])
    flags = AuditedAttribute(column="repaid", groups=("0", "1"))
    found = pod.run(task(pod.model(made), attributes=(flags,)))
    assert isinstance(found, Audited)
    right = model.predict(numbers_of(rows)) == [row["repaid"] for row in rows]
    assert found.rows[4] == int(right.sum())
    assert [sum(tally[:4]) for tally in found.groups[0]] == [
        sum(row["repaid"] == value for row in rows) for value in (0, 1)
    ]


def test_thirty_groups_of_a_million_rows_have_room_in_a_termination_message() -> None:
    tally = (1_000_000,) * 11
    digest = f"sha256:{'f' * 64}"
    found = Audited(
        digest=digest, baseline=digest, dataDigest=digest, rows=tally, groups=((tally,) * 10,) * 3
    )
    assert len(TerminationMessage(outcome=found).model_dump_json()) <= 4096


def zipped(pod: Pod, text: bytes) -> None:
    pod.table.write_bytes(gzip.compress(text))


def _bomb(pod: Pod) -> None:
    row = b"1,2," + b"m" * 60_000 + b",1\n"
    zipped(pod, HEAD.encode() + row * (LARGEST_TABLE // len(row) + 10))


def _text(text: str) -> Callable[[Pod], None]:
    return lambda pod: pod.table.write_text(text)


HEAD = "income,age,sex,repaid\n"
#: What is done to a table, and what the audit says then.
BAD: dict[str, tuple[Callable[[Pod], Any], str]] = {
    "it is not there": (lambda pod: pod.table.unlink(), "cannot be read"),
    "it is empty": (_text(""), "has 0 columns"),
    "it has a head alone": (_text(HEAD), "has no rows"),
    "a column of the model is missing": (_text("age,sex,repaid\n1,male,1\n"), "no column 'income'"),
    "the label is missing": (_text("income,age,sex\n1,1,male\n"), "no column 'repaid'"),
    "the attribute is missing": (_text("income,age,repaid\n1,1,1\n"), "no column 'sex'"),
    "two columns are alike": (
        _text("income,income,age,sex,repaid\n1,1,1,male,1\n"),
        "two columns of the table",
    ),
    "a row is short": (_text(f"{HEAD}1,2,male,1\n1,2\n"), "row 2 of the table rows.csv has 2 values"),
    "a number is none": (
        _text(f"{HEAD}much,2,male,1\n"),
        "column 'income' holds something that is no number",
    ),
    "it is no text": (lambda pod: pod.table.write_bytes(b"\xff\xfe" * 9), "no text in UTF-8"),
    "it is cut off": (
        lambda pod: pod.table.write_bytes(gzip.compress(HEAD.encode() * 900)[:-20]),
        "cannot be read",
    ),
    "it is damaged": (
        lambda pod: pod.table.write_bytes(b"\x1f\x8b\x08\x00" + b"\x00" * 6 + b"\xff" * 40),
        "cannot be read",
    ),
    "it unpacks to more than it may": (_bomb, "more than 64 MiB"),
    "a cell has no end": (_text(f'{HEAD}"{"x" * 200_000}'), "is no CSV"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_table_that_does_not_do_is_told_of_with_what_to_do(pod: Pod, case: str) -> None:
    change, words = BAD[case]
    write(pod.table, people(50))
    _, made = wide(people(200))
    digest = pod.model(made)
    change(pod)
    assert words in pod.refused(task(digest))


@pytest.mark.parametrize(
    "text",
    ["password: hunter2\nport: 1\n", f"{HEAD}hunter2,1,male,1\n", f"{HEAD}hunter2\n", "hunter2,hunter2\n"],
)
def test_nothing_of_a_file_is_told_to_those_who_read_status(pod: Pod, text: str) -> None:
    write(pod.table, people(5))
    _, made = wide(people(200))
    digest = pod.model(made)
    pod.table.write_text(text)
    assert "hunter2" not in pod.refused(task(digest))


def test_another_table_than_the_pinned_one_is_not_counted(pod: Pod) -> None:
    write(pod.table, people(50))
    _, made = wide(people(200))
    other = f"sha256:{'0' * 64}"
    message = pod.refused(task(pod.model(made), dataDigest=other))
    assert f"asks for {other}" in message
    assert hashlib.sha256(pod.table.read_bytes()).hexdigest() in message


def test_another_model_than_the_one_that_is_asked_about_is_not_counted(pod: Pod) -> None:
    write(pod.table, people(50))
    _, made = wide(people(200))
    pod.model(made)
    assert "DigestMismatch" in pod.refused(task(f"sha256:{'1' * 64}"))


def test_nothing_is_guessed_where_columns_have_no_place(pod: Pod) -> None:
    write(pod.table, people(50))
    _, made = wide(people(200))
    half = Inputs(columns=PLACES.columns[:1])
    assert "value 1 of the model's input 'X'" in pod.refused(task(pod.model(made), inputs=half))


def test_a_model_of_numbers_has_no_classes_to_compare(pod: Pod) -> None:
    columns = tuple(InputColumn(name=f"c{place}", tensor="X", column=place) for place in range(10))
    write(pod.table, [{**{f"c{place}": 0.1 for place in range(10)}, "sex": "male", "repaid": 1}])
    digest = pod.model(regressor())
    assert "compares classes" in pod.refused(task(digest, inputs=Inputs(columns=columns)))


def test_a_task_that_cannot_be_read_is_no_answer(pod: Pod) -> None:
    assert run(pod.environment("{}")) == 2
    assert not pod.words.exists()


def test_the_command_does_the_same_in_a_process_of_its_own(pod: Pod) -> None:
    write(pod.table, people(300))
    _, made = wide(people(seed=1))
    asked = task(pod.model(made))
    here = pod.run(asked)
    pod.words.unlink()
    subprocess.run(
        [sys.executable, "-m", "slipway_server.audit.main"],
        env={**pod.environment(asked), "PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    assert TerminationMessage.model_validate_json(pod.words.read_bytes()).outcome == here
