from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from e2e.ledger import hold
from slipway.contract import Failed, ModelFault
from slipway.digest import digest_of
from slipway_server.runtime.load import LoadError, load
from slipway_server.runtime.onnx_bytes import Shape, look_at
from slipway_server.settings import Serving
from tests.server import onnx_models
from tests.server.conftest import Start
from tests.server.running import Server


def unknown_operator() -> Any:
    model = onnx_models.identity()
    model.graph.node[0].op_type = "Transmogrify"
    return model


def newer_ml_opset() -> Any:
    model = onnx_models.identity()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 99))
    return model


def sequence_output() -> Any:
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }"""
    )


GOOD = onnx_models.identity().SerializeToString()
FAULTS: dict[str, tuple[bytes, ModelFault, str]] = {
    "empty": (b"", ModelFault.MODEL_TRUNCATED, "model.onnx is empty (0 bytes): upload the model again"),
    "cut off": (GOOD[:-20], ModelFault.MODEL_TRUNCATED, f"ends early ({len(GOOD) - 20} bytes)"),
    "page": (b"<html>Sign in</html>", ModelFault.NOT_AN_ONNX_MODEL, "is not an ONNX model: export the model"),
    "damaged": (
        GOOD[:12] + b"\xff" * 8 + GOOD[20:],
        ModelFault.NOT_AN_ONNX_MODEL,
        "is a damaged ONNX model",
    ),
    "pickle": (b"\x80\x04\x95" * 99, ModelFault.NOT_AN_ONNX_MODEL, "is not an ONNX model"),
    "opset": (
        onnx_models.identity(opset=99).SerializeToString(),
        ModelFault.UNSUPPORTED_OPSET,
        "needs opset 99 of ai.onnx, but onnxruntime",
    ),
    "ml opset": (
        newer_ml_opset().SerializeToString(),
        ModelFault.UNSUPPORTED_OPSET,
        "needs opset 99 of ai.onnx.ml, but onnxruntime",
    ),
    "ir version": (
        onnx_models.identity(ir=99).SerializeToString(),
        ModelFault.UNSUPPORTED_OPSET,
        "has ONNX IR version 99, but onnxruntime",
    ),
    "operator": (
        unknown_operator().SerializeToString(),
        ModelFault.MODEL_LOAD_FAILED,
        "No Op registered for Transmogrify",
    ),
    "tensor": (
        sequence_output().SerializeToString(),
        ModelFault.MODEL_LOAD_FAILED,
        "output 'y' is a seq(tensor(float)), which the Open Inference Protocol has no datatype for",
    ),
}


def check_last_words(server: Server, fault: ModelFault, message: str) -> None:
    assert server.wait() == 1
    outcome = server.last_words().outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == fault
    assert message in outcome.failure.message
    assert server.termination.stat().st_size <= 4096
    assert f'"reason":"{fault}"' in server.log.read_text()


def written(directory: Path, content: bytes) -> Path:
    directory.mkdir()
    (directory / "model.onnx").write_bytes(content)
    return directory


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_model_that_cannot_be_served_has_its_own_reason(tmp_path: Path, name: str) -> None:
    content, fault, message = FAULTS[name]
    directory = written(tmp_path / "model", content)
    config = Serving(modelName="fraud", modelVersion="3", digest=digest_of(directory))
    with pytest.raises(LoadError) as refused:
        load(directory, config)
    assert refused.value.failure.reason == fault
    assert message in refused.value.failure.message
    assert "/onnxruntime_src" not in refused.value.failure.message


def test_a_server_without_a_model_to_serve_leaves_the_reason_and_ends(tmp_path: Path, start: Start) -> None:
    faults = [FAULTS[name] for name in ("cut off", "page", "opset")]
    servers = [start(written(tmp_path / fault, content)) for content, fault, _ in faults]
    for server, (_, fault, message) in zip(servers, faults, strict=True):
        check_last_words(server, fault, message)


def test_files_with_another_digest_are_not_loaded(tmp_path: Path, start: Start) -> None:
    directory = onnx_models.save(onnx_models.identity(), tmp_path / "model")
    other = "sha256:" + "0" * 64
    server = start(directory, digest=other)
    check_last_words(server, ModelFault.DIGEST_MISMATCH, f"but {other} was to be served")


def test_an_empty_or_missing_directory_leaves_its_reason(tmp_path: Path, start: Start) -> None:
    (tmp_path / "empty").mkdir()
    digest = "sha256:" + "0" * 64
    servers = [start(tmp_path / name, digest=digest) for name in ("empty", "missing")]
    for server, message in zip(servers, ("no files", "No such file"), strict=True):
        check_last_words(server, ModelFault.MODEL_LOAD_FAILED, message)


def test_which_of_several_files_is_the_model_must_be_clear(tmp_path: Path, start: Start) -> None:
    several = onnx_models.save(onnx_models.identity(), tmp_path / "several", "a.onnx")
    onnx_models.save(onnx_models.identity(), several, "b.onnx")
    none = tmp_path / "none"
    none.mkdir()
    (none / "model.pkl").write_bytes(b"1")
    (none / "MLmodel").write_bytes(b"2")
    servers = [start(several), start(none)]
    check_last_words(
        servers[0],
        ModelFault.MODEL_LOAD_FAILED,
        "several models (a.onnx, b.onnx): name the one to serve model.onnx",
    )
    check_last_words(
        servers[1], ModelFault.NOT_AN_ONNX_MODEL, "no *.onnx file among MLmodel, model.pkl: export"
    )


def test_weights_beside_the_model_and_other_files_are_fine(tmp_path: Path, start: Start) -> None:
    weights = numpy_helper.from_array(np.arange(300, dtype=np.float32).reshape(100, 3), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 100])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    directory = tmp_path / "model" / "deep"
    directory.mkdir(parents=True)
    onnx.save(
        model, directory / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    assert (directory / "weights.bin").stat().st_size == 1200
    server = start(tmp_path / "model").wait_until_ready()
    row = {"name": "x", "datatype": "FP32", "shape": [1, 100], "data": [1] + [0] * 99}
    assert server.infer(row).json()["outputs"][0]["data"] == [0.0, 1.0, 2.0]


def test_a_server_that_loads_is_alive_but_not_ready(tmp_path: Path, start: Start) -> None:
    size = 1400
    weights = np.random.default_rng(0).random((size, size), dtype=np.float32)
    nodes = [helper.make_node("MatMul", [f"w{n}", "w0"], [f"w{n + 1}"]) for n in range(4)]
    nodes.append(helper.make_node("MatMul", ["x", "w4"], ["y"]))
    shape: list[str | int | None] = ["N", size]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w0")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    server = start(onnx_models.save(model, tmp_path / "model"))
    seen: list[tuple[int, int, int]] = []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not seen or seen[-1][1] != 200):
        try:
            seen.append(
                (
                    server.client.get("/v2/health/live").status_code,
                    server.client.get("/v2/health/ready").status_code,
                    server.client.post(server.infer_path, json={}).status_code,
                )
            )
        except httpx.TransportError:
            assert not seen, "the server stopped answering while it loaded"
            time.sleep(0.01)
    assert seen[0] == (200, 503, 503)
    assert seen[-1][:2] == (200, 200)
    assert {live for live, _, _ in seen} == {200}
    assert [ready for _, ready, _ in seen] == sorted((ready for _, ready, _ in seen), reverse=True)
    assert server.metrics()["slipway_model_load_seconds", (("model", "fraud"), ("model_version", "3"))] > 0


@pytest.mark.timed
def test_a_server_told_to_stop_while_it_loads_leaves_at_once(tmp_path: Path, start: Start) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    with (directory / "model.onnx").open("wb") as file:
        file.truncate(20 * 2**30)  # sparse: quick to make, long to read
    server = start(directory, digest="sha256:" + "0" * 64)
    while server.process.poll() is None:
        try:
            server.client.get("/v2/health/live")
            break
        except httpx.TransportError:
            time.sleep(0.01)
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    hold("SIGTERM while a model of 20 GiB is read", time.monotonic() - began, 3)
    assert not server.termination.exists()


@pytest.mark.parametrize("value", [None, "{", '{"modelName": "a"}', '{"surprise": 1}'])
def test_a_wrong_configuration_is_named_and_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    from slipway_server.main import main

    monkeypatch.delenv("SLIPWAY_SERVING_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("SLIPWAY_SERVING_CONFIG", value)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "SLIPWAY_SERVING_CONFIG" in capsys.readouterr().err


def test_a_model_cut_anywhere_is_told_from_a_foreign_file(tmp_path: Path) -> None:
    whole = onnx_models.every_datatype().SerializeToString()
    path = tmp_path / "m"
    path.write_bytes(whole)
    assert look_at(path) is Shape.WHOLE
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        assert look_at(path) is Shape.CUT_OFF, size
    for foreign in (b"GIF89a", b"PK\x03\x04", b"\x80\x05", b"{}", b"\x93NUMPY", b"\x1f\x8b", b"\x89HDF\r\n"):
        path.write_bytes(foreign + whole)
        assert look_at(path) is Shape.FOREIGN, foreign
