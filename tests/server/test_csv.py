"""Tables in CSV at ``/invocations``, as MLflow's scoring server takes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server

from e2e.ledger import hold
from slipway_server.adapters import cells
from slipway_server.adapters.cells import read_csv
from slipway_server.errors import RequestError
from slipway_server.protocol.tensors import Datatype, TensorSpec
from tests.server import onnx_models
from tests.server.running import Server
from tests.server.test_adapters import bits
from tests.server.test_answers import reference

Servers = Callable[[str], Server]


def post(server: Server, text: str | bytes, media: str = "text/csv", **headers: str) -> httpx.Response:
    content = text.encode() if isinstance(text, str) else text
    return server.client.post("/invocations", content=content, headers={"content-type": media, **headers})


def predictions(server: Server, text: str | bytes, media: str = "text/csv") -> Any:
    answer = post(server, text, media)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_a_table_is_answered_as_mlflow_answers_it(servers: Servers, tmp_path: Path) -> None:
    rows = np.random.default_rng(6).normal(0, 0.05, (7, 10)).astype(np.float32)
    text = pd.DataFrame(rows, columns=[f"f{i}" for i in range(10)]).to_csv(index=False)
    mlflow.onnx.save_model(onnx_models.regressor(), str(tmp_path / "model"), pip_requirements=[])
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    known = scoring_server.invocations(text, "text/csv", served, served.metadata.get_input_schema())
    assert known.status == 200
    theirs = [row["variable"] for row in json.loads(known.response)["predictions"]]
    for media in ("text/csv", "Text/CSV; charset=utf-8"):
        mine = [row["variable"] for row in predictions(servers("regressor"), text, media)]
        assert bits(mine) == bits(theirs) == reference("regressor", X=rows)[0].tobytes()


TEXT = (
    '\ufeffcolour,size,more\r\nblau,1.5,x\r\n\r\n"we""iß,\n", 2e1 ,\r\nTrue,-.5,NA\r\nnull2,,\r\n"x",NA,1\r\n'
)


def test_cells_are_what_mlflow_reads_in_them() -> None:
    frame = scoring_server.parse_csv_input(StringIO(TEXT.removeprefix("\ufeff")))
    text, number = (TensorSpec("a", each, (-1,)) for each in (Datatype.BYTES, Datatype.FP32))
    columns, rows = read_csv(TEXT.encode(), lambda _: [text, number, None])
    assert columns == list(frame.columns)
    assert [row[0] for row in rows] == frame["colour"].tolist()
    sizes = np.array([np.nan if row[1] is None else row[1] for row in rows])
    np.testing.assert_array_equal(sizes, frame["size"].to_numpy())
    assert {row[2] for row in rows} == {None}
    whole, flag = (TensorSpec("a", each, (-1,)) for each in (Datatype.INT16, Datatype.BOOL))
    given = "a,b\n1,True\n-32768,false\n32767,TRUE\n"
    frame = scoring_server.parse_csv_input(StringIO(given))
    assert read_csv(given.encode(), lambda _: [whole, flag])[1] == frame.to_numpy().tolist()


def test_columns_are_found_by_name_and_others_are_left_alone(servers: Servers) -> None:
    colours, sizes = ["blau", "weiß", 'we"iß,\n'], [1.5, 4.25, 0.0]
    frame = pd.DataFrame({"more": ["?"] * 3, "size": sizes, "colour": colours})
    label, rows = reference(
        "pipeline",
        colour=np.array(colours, object).reshape(3, 1),
        size=np.array(sizes, np.float32).reshape(3, 1),
    )
    found = predictions(servers("pipeline"), frame.to_csv(index=False))
    assert [row["output_label"] for row in found] == label.tolist()
    table = [[row[name] for name in ("setosa", "versicolor", "virginica")] for row in rows]
    assert bits([row["output_probability"] for row in found]) == bits(table)


def test_a_missing_number_is_nan_and_a_header_alone_has_no_rows(servers: Servers) -> None:
    server = servers("identity")
    assert predictions(server, "a,b,c\n1,,NaN\n") == [{"y": [1, None, None]}]
    assert predictions(server, "a,b,c\n") == []
    assert predictions(servers("pipeline"), "size,colour") == []
    values = [row["y"] for row in predictions(server, "a,b,c\n" + "3.4028235e38,1e-45,-0.0\n")]
    assert bits(values) == bits([[3.4028235e38, 1e-45, -0.0]])


REFUSED: list[tuple[str, str | bytes, str]] = [
    # (the model, the body, a part of the message)
    ("identity", "", "the CSV is empty; it must begin with a row of the columns' names"),
    ("identity", "\n\n", "the CSV is empty"),
    ("identity", "a,b,a\n1,2,3\n", "the CSV's columns must be named, each of them once"),
    ("identity", "a,b\n1,2\n", "there are 2 columns; input 'x' has 3"),
    ("identity", "a,b,c\n1,2,3\n4,5\n", "row 1 of the CSV has 2 cells; there are 3 columns"),
    ("identity", "a,b,c\n1,2,3,4\n", "row 0 of the CSV has 4 cells; there are 3 columns"),
    ("identity", "a,b,c\n1,2,3\n4,five,6\n", "row 1 of the CSV, column 'b': 'five' is not a number"),
    ("identity", "a,b,c\n1,1_000,3\n", "row 0 of the CSV, column 'b': '1_000' is not a number"),
    ("identity", "a,b,c\n1,inf,3\n", "row 0 of the CSV, column 'b': 'inf' is not a number"),
    ("identity", "a,b,c\n1,1e39,3\n", "column 'b': '1e39' is beyond FP32, which goes up to 3.40282e+38"),
    ("identity", 'a,b,c\n1,2,"3\n', "is not CSV: unexpected end of data"),
    ("identity", 'a,b,c\n1,2,"3"4\n', "line 2 is not CSV"),
    ("identity", b"a,b,c\n1,2,\xff\n", "the CSV is not UTF-8"),
    ("identity", f'a,b,c\n1,2,"{"x" * 140_000}"\n', "line 2 is not CSV: field larger than field limit"),
    ("pipeline", "colour\nblau\n", "missing column 'size'; the model needs 'colour', 'size'"),
    ("pipeline", "colour,size\nblau,big\n", "row 0 of the CSV, column 'size': 'big' is not a number"),
    ("gather", "index,shapeless\n1.5,0\n", "column 'index': '1.5' is not a whole number, which INT64 takes"),
    ("gather", "index,shapeless\n,0\n", "column 'index': '' is not a whole number"),
    ("gather", f"index,shapeless\n{2**63},0\n", "is beyond INT64, which goes from -9223372036854775808 to"),
]


@pytest.mark.parametrize(("model", "body", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_does_not_fit_is_refused_by_row_and_column(
    servers: Servers, model: str, body: str | bytes, words: str
) -> None:
    answer = post(servers(model), body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert words in answer.json()["message"]
    assert len(answer.json()["message"]) < 600


def test_the_limits_are_those_of_json(servers: Servers) -> None:
    server = servers("identity")
    answer = post(server, b"a,b,c\n" + b"1,2,3\n" * (9 << 18))
    assert (answer.status_code, "is larger than" in answer.json()["message"]) == (413, True)
    answer = post(server, "a,b,c\n1,2,3\n", **{"Inference-Header-Content-Length": "2"})
    assert answer.status_code == 400
    assert "binary tensors go to /v2/models/<name>/infer" in answer.json()["message"]


def test_a_large_table_is_read_as_well(servers: Servers) -> None:
    rows = np.random.default_rng(5).random((20_000, 3), np.float32)
    found = predictions(servers("identity"), pd.DataFrame(rows).to_csv(index=False))
    assert bits([row["y"] for row in found]) == rows.tobytes()


CELLS = [
    "0",
    "-0",
    "-0.0",
    "1",
    "+1",
    ".5",
    "5.",
    "01",
    "1e3",
    "1E-3",
    "-7",
    "1e400",
    "9007199254740993",
    " 2",
    "2 ",
]
CELLS += [
    "3.4028235677973366e+38",
    "123456789012345678901234567890",
    "0.1",
    "1.1754944e-38",
    "1_0",
    "0x1",
    "1e",
    "-",
]
CELLS += ["", "NaN", '"3"', "65504", "65520", "255", "256", "9223372036854775807", "9223372036854775808"]


@pytest.mark.parametrize(
    "datatype", [Datatype.FP16, Datatype.FP32, Datatype.FP64, Datatype.INT64, Datatype.UINT8]
)
def test_the_quick_way_through_a_table_reads_what_the_slow_one_reads(
    monkeypatch: pytest.MonkeyPatch, datatype: str
) -> None:
    random = np.random.default_rng(3)
    spec = TensorSpec("a", Datatype(datatype), (-1,))
    quick = 0
    for number in range(600):
        width = int(random.integers(1, 4))
        chosen = (
            CELLS if number % 2 else ["1", "2", "0.5", "-3", "1e1"][: 2 if not spec.datatype.is_float else 5]
        )
        lines = [",".join(random.choice(chosen, width)) for _ in range(random.integers(0, 3))]
        if number % 5 == 0:
            lines.insert(int(random.integers(0, len(lines) + 1)), "")
        end = str(random.choice(["\n", "\n", "\r\n", "\r"]))
        header = ",".join(str(random.choice(["a", "b", "1", '"c"'])) + str(at) for at in range(width))
        text = end.join(
            [*[""] * (number % 7 == 0), header, *lines, *[""] * int(random.integers(0, 3))]
        ).encode()
        results: list[Any] = []
        for without in (False, True):
            with monkeypatch.context() as patch:
                if without:
                    patch.setattr(cells, "_quick", lambda *_: None)
                else:
                    quick += cells._quick(text, [spec] * width) is not None
                try:
                    results.append(read_csv(text, lambda columns: [spec] * len(columns)))
                except RequestError as error:
                    results.append(error.message)
        one, other = results
        assert type(one) is type(other), text
        if isinstance(one, str):
            assert one == other, text
        else:
            assert one[0] == other[0], text
            tables = [np.array(rows, np.float64).tobytes() for _, rows in results]
            assert tables[0] == tables[1], text
    assert quick > 50


@pytest.mark.timed
def test_a_million_rows_are_read_within_a_second_of_cpu() -> None:
    body = b"a\n" + b"\n".join(b"%.4f" % number for number in np.random.default_rng(4).random(1_000_000))
    spec = TensorSpec("a", Datatype.FP32, (-1,))
    began = time.process_time()
    _, rows = read_csv(body, lambda _: [spec])
    hold("a million rows of CSV, of CPU", time.process_time() - began, 1)
    assert len(rows) == 1_000_000
