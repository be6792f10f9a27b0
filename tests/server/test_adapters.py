from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.server.running import Server, tensor
from tests.server.test_answers import array_of, outputs_of, reference

Servers = Callable[[str], Server]
PREDICT = "/v1/models/fraud:predict"


def post(server: Server, path: str, document: Any) -> Any:
    response = server.client.post(path, json=document)
    assert response.status_code == 200, response.text
    return response.json()


def refused(server: Server, path: str, document: Any) -> tuple[int, Any]:
    response = server.client.post(path, json=document)
    return response.status_code, response.json()


def bits(values: Any) -> bytes:
    return np.array(values, np.float32).tobytes()


def test_rows_are_answered_bit_by_bit_as_by_the_open_inference_protocol(servers: Servers) -> None:
    rows = np.random.default_rng(1).normal(0, 0.05, (9, 10)).astype(np.float32)
    (expected,) = reference("regressor", X=rows)
    server = servers("regressor")
    by_rows = post(server, PREDICT, {"instances": rows.tolist()})
    by_names = post(server, PREDICT, {"instances": [{"X": row} for row in rows.tolist()]})
    by_columns = post(server, PREDICT, {"inputs": rows.tolist()})
    by_named_columns = post(server, PREDICT, {"inputs": {"X": rows.tolist()}, "signature_name": "default"})
    assert bits(by_rows["predictions"]) == expected.tobytes()
    assert by_names == by_rows
    assert bits(by_columns["outputs"]) == expected.tobytes()
    assert by_named_columns == by_columns
    invoked = post(server, "/invocations", {"inputs": rows.tolist()})["predictions"]
    assert bits(invoked["variable"]) == expected.tobytes()
    assert post(server, "/invocations", {"instances": rows.tolist()})["predictions"] == invoked
    split = {"columns": [f"f{i}" for i in range(10)], "index": list(range(9)), "data": rows.tolist()}
    table = post(server, "/invocations", {"dataframe_split": split})["predictions"]
    assert bits([row["variable"] for row in table]) == expected.tobytes()


def test_a_table_with_strings_is_answered_by_records(servers: Servers) -> None:
    colours, sizes = ["blau", "weiß", "never seen"], [1.2, 4.4, 0.0]
    server = servers("pipeline")
    known = outputs_of(
        server.infer(tensor("colour", "BYTES", [3, 1], colours), tensor("size", "FP32", [3, 1], sizes))
    )
    labels, table = known["output_label"]["data"], array_of(known["output_probability"])
    records = [{"size": size, "colour": colour} for colour, size in zip(colours, sizes, strict=True)]
    split = {
        "columns": ["more", "size", "colour"],
        "data": [[None, s, c] for c, s in zip(colours, sizes, strict=True)],
    }
    for document in ({"dataframe_records": records}, {"dataframe_split": split}):
        answer = post(server, "/invocations", document)["predictions"]
        assert [row["output_label"] for row in answer] == labels
        assert bits([row["output_probability"] for row in answer]) == table.tobytes()
    columns = {"colour": [[c] for c in colours], "size": sizes}
    for document in ({"instances": records}, {"instances": [r | {"size": [r["size"]]} for r in records]}):
        answer = post(server, PREDICT, document)["predictions"]
        assert [row["output_label"] for row in answer] == labels
        assert bits([row["output_probability"] for row in answer]) == table.tobytes()
    assert post(server, PREDICT, {"inputs": columns})["outputs"]["output_label"] == labels
    assert post(server, "/invocations", {"inputs": columns})["predictions"]["output_label"] == labels
    encoded = [{"colour": {"b64": "d2Vpw58="}, "size": 4.4}]
    assert post(server, PREDICT, {"instances": encoded})["predictions"][0]["output_label"] == labels[1]


def test_several_inputs_whose_first_dimensions_differ_go_by_columns(servers: Servers) -> None:
    server = servers("two_inputs")
    columns = {"a": [[1, 2], [3, 4], [5, 6]], "w": [[1, 0], [0, -1]]}
    answer = post(server, PREDICT, {"inputs": columns})["outputs"]
    assert answer["product"] == [[1, -2], [3, -4], [5, -6]]
    assert answer["count"] == 6
    assert answer["root"][0] == [1, None], "JSON has no NaN"
    assert post(server, "/invocations", {"inputs": columns})["predictions"] == answer
    code, error = refused(
        server, PREDICT, {"instances": [{"a": [1, 2], "w": [1, 0]}, {"a": [3, 4], "w": [0, -1]}]}
    )
    assert code == 400
    assert "output 'count' has no value for each of the 2 rows; ask by columns" in error["error"]


def test_a_missing_number_is_nan_both_ways_in_each_protocol(servers: Servers) -> None:
    server = servers("identity")
    split = {"dataframe_split": {"columns": [0, 1, 2], "data": [[1, None, 3]]}}
    assert post(server, "/invocations", split) == {"predictions": [{"y": [1, None, 3]}]}
    records = {"dataframe_records": [{"a": 1, "b": 2, "c": 3}, {"c": 6, "a": 4}]}
    assert post(server, "/invocations", records) == {"predictions": [{"y": [1, 2, 3]}, {"y": [4, None, 6]}]}
    assert post(server, "/invocations", {"inputs": [[1, None, 3]]})["predictions"] == {"y": [[1, None, 3]]}
    assert post(server, PREDICT, {"instances": [[1, None, 3]]}) == {"predictions": [[1, None, 3]]}
    for data in ([1, None, 3], [[1, None, 3]]):
        output = server.infer(tensor("x", "FP32", [1, 3], data)).json()["outputs"][0]
        assert (output["data"], output["parameters"]) == ([1, None, 3], {"nonfinite": 1})
    large = [None if number % 7 == 0 else number / 8 for number in range(3000)]
    assert server.infer(tensor("x", "FP32", [1000, 3], large)).json()["outputs"][0]["data"] == large
    blob = server.infer_binary(
        {"inputs": [tensor("x", "FP32", [1, 3], binary_data_size=12)]}, bits([1, math.nan, 3])
    )
    assert blob.json()["outputs"][0]["data"] == [1, None, 3]


ROWS: list[tuple[str, Any, str]] = [
    # (the model, the document, a part of the message)
    ("identity", {}, "send either 'instances', a list of rows, or 'inputs'"),
    ("identity", {"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "send either 'instances'"),
    ("identity", [], "must be a JSON object with 'instances' or 'inputs'"),
    ("identity", {"instances": {"x": 1}}, "'instances' must be a list, not an object"),
    ("two_inputs", {"instances": []}, "'w': an empty list does not tell its shape; the model takes [2, -1]"),
    ("identity", {"instances": [[1, 2]]}, "input 'x': has shape [1, 2], the model takes [-1, 3]"),
    ("identity", {"instances": [[1, 2, 3], [1, 2]]}, "the first has 3 values, number 1 is a list of 2"),
    (
        "identity",
        {"instances": [[1, 2, "3"]]},
        "input 'x': value 2 is '3', which is a string; FP32 takes numbers",
    ),
    ("identity", {"instances": [[1, 2, 1e39]]}, "FP32 goes up to"),
    ("identity", {"inputs": 7}, "input 'x': must be a list, not 7"),
    ("identity", {"inputs": [[[1, 2, 3]]]}, "has shape [1, 1, 3], the model takes [-1, 3]"),
    (
        "pipeline",
        {"inputs": [[1]]},
        "'inputs' is a list of 1; the model needs an object with 'colour', 'size'",
    ),
    ("pipeline", {"instances": [["blau"]]}, "'instances'[0] must be an object with 'colour', 'size'"),
    ("pipeline", {"instances": [{"colour": "blau"}]}, "'instances'[0]: missing input 'size'"),
    ("pipeline", {"instances": [{"colour": "b", "size": 1}, 7]}, "'instances'[1] must be an object"),
    ("pipeline", {"instances": [{"colour": "b", "size": 1, "z": 1}]}, "the model has no input 'z'"),
    ("pipeline", {"instances": [{"colour": 1, "size": 1}]}, "input 'colour': value 0 is 1"),
    ("pipeline", {"instances": [{"colour": {"b64": "///"}, "size": 1}]}, "is not base64 of UTF-8"),
]


@pytest.mark.parametrize(("model", "document", "words"), ROWS, ids=[words for *_, words in ROWS])
def test_predict_refuses_what_does_not_fit_with_what_to_mend(
    servers: Servers, model: str, document: Any, words: str
) -> None:
    code, error = refused(servers(model), PREDICT, document)
    assert code == 400
    assert set(error) == {"error"}
    assert words in error["error"]


TABLES: list[tuple[str, Any, str]] = [
    ("identity", {}, "send exactly one of 'dataframe_split', 'dataframe_records', 'instances', 'inputs'"),
    ("identity", {"inputs": [[1, 2, 3]], "instances": []}, "not 'instances', 'inputs'"),
    ("identity", {"dataframe_split": [1]}, "must be an object with the lists 'columns' and 'data'"),
    ("identity", {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "names, each of them once"),
    ("identity", {"dataframe_split": {"columns": ["a"], "data": 0}}, "'data' must be a list of rows, not 0"),
    ("identity", {"dataframe_split": {"columns": ["a"], "data": []}}, "there are 1 columns; input 'x' has 3"),
    ("identity", {"dataframe_records": []}, "only 'dataframe_split' has columns without rows"),
    (
        "identity",
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [1, 2]]}},
        "row 1 is a list of 2; it must be a list of 3 values",
    ),
    (
        "identity",
        {"dataframe_split": {"columns": ["a"], "data": [[1]]}},
        "there are 1 columns; input 'x' has 3",
    ),
    ("identity", {"dataframe_records": {}}, "must be a list with at least one object, not an object"),
    (
        "identity",
        {"dataframe_records": [{"a": 1}, {"b": 1}]},
        "there are 2 columns; input 'x' has 3",
    ),
    (
        "pipeline",
        {"dataframe_records": [{"colour": "blau"}]},
        "missing column 'size'; the model needs 'colour', 'size'",
    ),
    (
        "pipeline",
        {"dataframe_records": [{"colour": "blau", "size": 1}, {"colour": None, "size": 1}]},
        "column 'colour': value 1 is null, which is null; BYTES takes strings",
    ),
    (
        "pipeline",
        {"dataframe_records": [{"colour": "blau", "size": "1"}]},
        "column 'size': value 0 is '1', which is a string; FP32 takes numbers",
    ),
]


@pytest.mark.parametrize(("model", "document", "words"), TABLES, ids=[words for *_, words in TABLES])
def test_invocations_refuses_what_does_not_fit_in_its_own_words(
    servers: Servers, model: str, document: Any, words: str
) -> None:
    code, error = refused(servers(model), "/invocations", document)
    assert (code, error["error_code"]) == (400, "BAD_REQUEST")
    assert words in error["message"]


def test_each_protocol_refuses_before_the_body_in_its_own_shape(servers: Servers) -> None:
    client = servers("identity").client
    other = {"content-type": "text/tab-separated-values"}
    for path, member in ((PREDICT, "error"), ("/invocations", "message")):
        answer = client.post(path, content="a\tb\n1\t2\n", headers=other)
        assert answer.status_code == 415
        assert "the content type is 'text/tab-separated-values'" in answer.json()[member]
        answer = client.post(path, content=b"{}", headers={"Inference-Header-Content-Length": "2"})
        assert "binary tensors go to /v2/models/<name>/infer" in answer.json()[member]
        assert client.get(path).status_code == 405
    csv = client.post(PREDICT, content="a,b,c\n1,2,3\n", headers={"content-type": "text/csv"})
    assert csv.status_code == 415
    assert "send application/json, or application/octet-stream with" in csv.json()["error"]
    other = client.post("/v1/models/other:predict", json={"instances": [[1]]})
    assert other.status_code == 404
    assert "there is no model 'other' here" in other.json()["error"]


def test_the_small_pages_of_both_protocols_answer(servers: Servers) -> None:
    client = servers("identity").client
    assert client.get("/").json() == {"status": "alive"}
    assert client.get("/v1/models").json() == {"models": ["fraud"]}
    assert client.get("/v1/models/fraud").json() == {"name": "fraud", "ready": True}
    assert client.get("/v1/models/other").status_code == 404
    assert client.get("/v1/models/fraud:explain").status_code == 404
    assert client.get("/ping").status_code == 200
    assert client.get("/health").status_code == 200
    assert client.get("/version").text[0].isdigit()


def test_adapters_are_counted_as_inferences(servers: Servers) -> None:
    server = servers("identity")
    labels = (("model", "fraud"), ("model_version", "3"))
    before = server.metrics()
    post(server, PREDICT, {"instances": [[1, 2, 3]] * 5})
    refused(server, "/invocations", {"inputs": 7})
    after = server.metrics()

    def gained(name: str, *more: tuple[str, str]) -> float:
        key = (name, tuple(sorted((*labels, *more))))
        return after[key] - before[key]

    assert gained("slipway_inference_requests_total", ("code", "200")) == 1
    assert gained("slipway_inference_rows_total") == 5
    assert gained("slipway_inference_requests_total", ("code", "400")) == 1
    assert gained("slipway_inference_rejected_total", ("reason", "schema")) == 1


def test_a_large_table_is_read_as_well(servers: Servers) -> None:
    rows = np.random.default_rng(5).random((5000, 3), np.float32)
    document = {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows.tolist()}}
    assert len(json.dumps(document)) > 100_000
    answer = post(servers("identity"), "/invocations", document)["predictions"]
    assert bits([row["y"] for row in answer]) == rows.tobytes()
