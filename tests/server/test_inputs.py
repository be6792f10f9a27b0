"""The contract of a model's inputs: what is refused, what is only counted, and in which words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.contract import InputColumn, Inputs, ModelFault, ServingConfig
from slipway.names import Metric
from slipway_server.settings import InputColumn as OwnColumn
from slipway_server.settings import SettingsError, parse_serving
from tests.server import onnx_models
from tests.server.running import Server, tensor

REQUIRED = {"modelName": "a", "modelVersion": "b", "digest": "sha256:" + "0" * 64}
RULES = (
    InputColumn(name="age", tensor="x", column=0, type="Integer", minimum=18, maximum=110, nullable=False),
    InputColumn(name="rate", tensor="x", column=1, minimum=0.1, maximum=0.3),
    InputColumn(name="channel", tensor="x", column=2, enum=("0", "1", "2.5")),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = onnx_models.save(onnx_models.identity(), tmp_path_factory.mktemp("inputs") / "model")
    with Server(directory, inputs=Inputs(columns=RULES)) as running:
        yield running.wait_until_ready()


def violations(server: Server) -> dict[tuple[str, str], float]:
    """By feature and rule."""
    return {
        (dict(labels)["feature"], dict(labels)["rule"]): value
        for (name, labels), value in server.metrics().items()
        if name == Metric.VIOLATIONS
    }


def rows(*values: list[float]) -> dict[str, Any]:
    return tensor("x", "FP32", [len(values), 3], [each for row in values for each in row])


def test_every_rule_is_counted_from_0(server: Server) -> None:
    assert set(violations(server)) == {
        ("age", "missing"),
        ("age", "range"),
        ("age", "integer"),
        ("rate", "range"),
        ("channel", "enum"),
    }


@pytest.mark.parametrize(
    ("row", "message", "broken"),
    [
        ([17, 0.2, 1], "column 'age': 17.0 breaks the rule 'range': it must be from 18 to 110", "age range"),
        ([111, 0.2, 1], "column 'age': 111.0 breaks the rule 'range'", "age range"),
        ([20.5, 0.2, 1], "column 'age': 20.5 breaks the rule 'integer': it must be a whole", "age integer"),
        ([20, 0.30001, 1], "breaks the rule 'range': it must be from 0.1 to 0.3", "rate range"),
        (
            [20, 0.2, 3],
            "column 'channel': 3.0 breaks the rule 'enum': it must be one of 0, 1, 2.5",
            "channel enum",
        ),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused_by_column_rule_and_row(
    server: Server, row: list[float], message: str, broken: str
) -> None:
    before = violations(server)
    answer = server.infer(rows([20, 0.2, 1], row))
    assert answer.status_code == 400
    assert "input 'x', row 1, " in answer.json()["error"]
    assert message in answer.json()["error"]
    after = violations(server)
    feature, rule = broken.split()
    assert {key for key in after if after[key] != before[key]} == {(feature, rule)}
    assert after[feature, rule] == before[feature, rule] + 1


def test_a_missing_value_is_refused_where_it_must_not_be(server: Server) -> None:
    for place, status in ((0, 400), (1, 200), (2, 200)):
        row = np.array([[20, 0.2, 1]], np.float32)
        row[0, place] = np.nan
        document = {"inputs": [tensor("x", "FP32", [1, 3], binary_data_size=12)]}
        document["parameters"] = {"binary_data_output": True}  # type: ignore[assignment]
        answer = server.infer_binary(document, row.tobytes())
        assert answer.status_code == status
        if status == 400:
            assert "'age': nan breaks the rule 'missing': it must not be missing" in answer.json()["error"]


def test_bounds_themselves_are_inside_in_the_served_datatype(server: Server) -> None:
    assert server.infer(rows([18, 0.1, 0], [110, 0.3, 2.5])).status_code == 200


def test_without_rows_no_rule_is_broken(server: Server) -> None:
    before = violations(server)
    answer = server.infer(tensor("x", "FP32", [0, 3], []))
    assert (answer.status_code, answer.json()["outputs"][0]["shape"]) == (200, [0, 3])
    assert violations(server) == before


def test_others_in_the_same_moment_are_answered(server: Server) -> None:
    import asyncio

    import httpx

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            bodies = [{"inputs": [rows([20 if number % 4 else 3, 0.2, 1])]} for number in range(80)]
            return await asyncio.gather(*(client.post(server.infer_path, json=body) for body in bodies))

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200 if number % 4 else 400 for number in range(80)]


def test_report_answers_and_counts(tmp_path: Path) -> None:
    directory = onnx_models.save(onnx_models.identity(), tmp_path / "model")
    with Server(directory, inputs=Inputs(columns=RULES, onViolation="Report")) as server:
        server.wait_until_ready()
        assert server.infer(rows([3, 0.2, 7], [3.5, 0.2, 1])).status_code == 200
        assert violations(server) == {
            ("age", "missing"): 0,
            ("age", "range"): 2,
            ("age", "integer"): 1,
            ("rate", "range"): 0,
            ("channel", "enum"): 1,
        }
        for _ in range(3):
            assert server.infer(rows([20, 0.2, 1], [20, 0.2, 2])).status_code == 200
        assert server.infer(rows([20, 0.2, 1])).status_code == 200
        (reported,) = (value for (name, _), value in server.metrics().items() if name == Metric.REPORTED)
        assert reported == 4, "requests, however many of their rows and rules"


def test_text_is_held_to_its_values(tmp_path: Path) -> None:
    directory = onnx_models.save(onnx_models.pipeline(), tmp_path / "model")
    column = InputColumn(
        name="colour", tensor="colour", column=0, type="String", nullable=False, enum=("blau", "weiß")
    )
    with Server(directory, inputs=Inputs(columns=(column,))) as server:
        server.wait_until_ready()
        for value, message in (
            ("weiß", ""),
            ("rot", "must be one of blau, weiß"),
            ("", "must not be missing"),
        ):
            size = tensor("size", "FP32", [1, 1], [2.0])
            answer = server.infer(tensor("colour", "BYTES", [1, 1], [value]), size)
            assert answer.status_code == (400 if message else 200)
            assert message in answer.text


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"tensor": "y"}, "the model has no input 'y'; it has 'x'"),
        ({"column": 3}, "column 'a' is number 4 of 'x', which has 3"),
        ({"enum": ("1", "one")}, "column 'a' is a Number, but not all values of its enum are numbers"),
        ({"type": "String"}, "column 'a' is a String, but 'x' has FP32"),
    ],
)
def test_rules_that_do_not_fit_the_model_are_refused_when_it_is_loaded(
    tmp_path: Path, column: dict[str, Any], message: str
) -> None:
    directory = onnx_models.save(onnx_models.identity(), tmp_path / "model")
    rule = InputColumn(**{"name": "a", "tensor": "x", "column": 0, **column})
    with Server(directory, inputs=Inputs(columns=(rule,))) as server:
        assert server.wait() == 1
        failure: Any = server.last_words().outcome
        assert failure.failure.reason == ModelFault.MODEL_LOAD_FAILED
        assert failure.failure.message == f"spec.inputs does not fit the model: {message}"


def test_the_server_reads_the_contract_as_it_is_written() -> None:
    config = ServingConfig(**REQUIRED, inputs=Inputs(columns=RULES, onViolation="Report"))
    read = parse_serving(config.model_dump_json())
    assert read.inputs is not None
    assert read.inputs.onViolation == "Report"
    for own, given in zip(read.inputs.columns, RULES, strict=True):
        assert own == OwnColumn(**given.model_dump())
    good = json.loads(config.model_dump_json())["inputs"]
    wrong = [
        5,
        {},
        good | {"onViolation": "Ignore"},
        good | {"surprise": 1},
        {"columns": [5]},
        {"columns": [{"name": "a"}]},
        *(
            {"columns": [good["columns"][0] | change]}
            for change in ({"minimum": "1"}, {"type": "X"}, {"z": 1})
        ),
        *({"columns": [good["columns"][0] | change]} for change in ({"column": -1}, {"column": True})),
    ]
    for inputs in wrong:
        with pytest.raises(SettingsError, match="inputs"):
            parse_serving(json.dumps(REQUIRED | {"inputs": inputs}))
