"""The request that a user begins with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from slipway.api.inputs import Inputs
from slipway.local.request import curl, example

DIGEST = "sha256:" + "0" * 64
METADATA = {
    "inputs": [
        {"name": "X", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "colour", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "left", "datatype": "BOOL", "shape": [-1], "optional": True},
    ]
}


def sent(bodies: list[Any], answers: list[tuple[int, str]]) -> Any:
    def ask(body: bytes) -> tuple[int, str]:
        bodies.append(json.loads(body)["inputs"])
        return answers.pop(0)

    return ask


def test_without_a_contract_it_is_one_row_of_ones_and_then_of_zeros(tmp_path: Path) -> None:
    bodies: list[Any] = []
    found = example(None, tmp_path, DIGEST, METADATA, sent(bodies, [(422, "no"), (200, "")]))
    assert [[one["data"] for one in body] for body in bodies] == [
        [[1.0, 1.0, 1.0], ["a"]],
        [[0.0, 0.0, 0.0], ["a"]],
    ]
    assert [one["shape"] for one in bodies[0]] == [[1, 3], [1, 1]]
    assert (json.loads(found.body)["inputs"], found.refusal) == (bodies[1], "")


def test_a_contract_gives_values_that_it_takes(tmp_path: Path) -> None:
    inputs = Inputs.model_validate(
        {
            "tensors": [
                {
                    "name": "X",
                    "columns": [
                        {"name": "age", "type": "Integer", "minimum": 18, "maximum": 21},
                        {"name": "income", "minimum": "1000.5"},
                        {"name": "kind", "enum": ["7", "8"]},
                    ],
                },
                {"name": "colour", "columns": [{"name": "colour", "type": "String", "enum": ["red"]}]},
            ]
        }
    )
    bodies: list[Any] = []
    example(inputs, tmp_path, DIGEST, METADATA, sent(bodies, [(200, "")]))
    numbers, colour = (one["data"] for one in bodies[0])
    assert numbers == [20.0, 1000.5, 7.0]
    assert colour == ["red"]


def test_where_nothing_is_answered_the_first_refusal_is_told(tmp_path: Path) -> None:
    found = example(None, tmp_path, DIGEST, METADATA, sent([], [(422, "first"), (422, "second")]))
    assert (found.refusal, json.loads(found.body)["inputs"][0]["data"]) == ("first", [1.0, 1.0, 1.0])


def test_a_shell_gets_the_body_as_it_is_and_a_long_one_from_a_file(tmp_path: Path) -> None:
    body = json.dumps({"inputs": [{"data": ["it's $HOME"]}]})
    assert shlex.split(curl("http://localhost:1/infer", body, tmp_path))[-1] == body
    long = json.dumps({"inputs": [{"data": [0.5] * 1000}]})
    typed = shlex.split(curl("http://localhost:1/infer", long, tmp_path))
    assert typed[-1].startswith("@")
    assert Path(typed[-1][1:]).read_text() == long
