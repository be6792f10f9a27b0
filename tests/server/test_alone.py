"""Models whose rows share no call: each request is read quickly, and answered as the ordinary way does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from slipway_server.call.call import Call
from slipway_server.engine.light import LightDecoder
from slipway_server.engine.served import Served
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.runtime.run import Run

#: Outputs of all shapes: of rows, of columns, of one row whatever came, and of none.
MODEL = """
<ir_version: 8, opset_import: ["" : 15]>
g (float[n, 3] a, int64[n, 1] b)
    => (float[n, 3] rows, float[3, n] columns, float[1, 3] most, float sum, int64[2] shape, double[n, 1] wide)
{
  one = Cast <to: int = 1> (b)
  rows = Mul (a, one)
  columns = Transpose (rows)
  most = ReduceMax <axes: ints = [0], keepdims: int = 1> (rows)
  sum = ReduceSum <keepdims: int = 0> (rows)
  shape = Shape (rows)
  wide = Cast <to: int = 11> (b)
}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    path = tmp_path_factory.mktemp("alone") / "model.onnx"
    onnx.save(parser.parse_model(MODEL), path)
    # As it is where a model could not be measured: calls of so many rows, which nobody shares.
    return Served(Model(path, 1), "fraud", "3", Profile(batches=False, inline=True, max_rows=128))


def asked(rows: int, outputs: list[str] | None, binary: bool) -> tuple[bytes, int | None]:
    a = np.random.default_rng(rows).normal(0, 1, (rows, 3)).astype(np.float32)
    b = np.arange(1, rows + 1).reshape(rows, 1)
    document: dict[str, Any] = {"inputs": []}
    for name, kind, array in (("a", "FP32", a), ("b", "INT64", b)):
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(array.shape)}
        if binary:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            tensor["data"] = array.ravel().tolist()
        document["inputs"].append(tensor)
    if outputs is not None:
        wish = {"parameters": {"binary_data": True}} if binary else {}
        document["outputs"] = [{"name": each, **wish} for each in outputs]
    head = json.dumps(document).encode()
    return (head + a.tobytes() + b.tobytes(), len(head)) if binary else (head, None)


def answers(
    served: Served, requests: list[tuple[bytes, int | None]]
) -> list[tuple[bytes | None, int | None]]:
    calls = [Call(*each, 0.0, 1e9) for each in requests]
    served.answer(calls, Run())
    assert [call.error for call in calls] == [None] * len(calls)
    return [(call.content, call.header_length) for call in calls]


NAMES = ["rows", "columns", "most", "sum", "shape", "wide"]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("outputs", [None, *([name] for name in NAMES), ["sum", "rows"], ["wide", "rows"]])
def test_a_request_that_is_read_quickly_gets_the_ordinary_answer(
    served: Served, monkeypatch: pytest.MonkeyPatch, outputs: list[str] | None, binary: bool
) -> None:
    requests = [asked(rows, outputs, binary) for rows in (1, 2, 1, 3, 5)]
    with monkeypatch.context() as context:
        context.setattr(LightDecoder, "read", lambda *_: False)
        ordinary = [answers(served, [each])[0] for each in requests]
    monkeypatch.setattr(served, "_read", None)
    assert [answers(served, [each])[0] for each in requests] == ordinary
    assert answers(served, requests) == ordinary
