from __future__ import annotations

import json
import re
import struct
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from bench.server.cases import Case, Protocol, WrongAnswerError, make_case
from bench.server.environments import PEERS
from bench.server.load import Figures
from bench.server.report import markdown, target_rows
from bench.server.results import Results, as_json
from bench.server.scenarios import SCENARIOS, TARGETS
from bench.server.servers import PEER_LIST, SLIPWAY, prepare


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """One model, ``double``: ``x`` [N, 2] → ``y``."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,2] x) => (float[N,2] y) { y = Add(x, x) }"""
    (tmp_path / "double").mkdir()
    onnx.save(parser.parse_model(text), tmp_path / "double" / "model.onnx")
    np.savez(tmp_path / "double.npz", x=np.arange(8, dtype=np.float32).reshape(4, 2) / 10)
    return tmp_path


def rest_answer(values: list[float], shape: list[int]) -> tuple[bytes, dict[str, str]]:
    output = {"name": "y", "datatype": "FP32", "shape": shape, "data": values}
    return json.dumps({"model_name": "model", "outputs": [output]}).encode(), {}


def binary_answer(values: list[float], shape: list[int]) -> tuple[bytes, dict[str, str]]:
    head = json.dumps({"outputs": [{"name": "y", "datatype": "FP32", "shape": shape}]}).encode()
    return head + struct.pack("<4f", *values), {"inference-header-content-length": str(len(head))}


def grpc_answer(values: list[float], shape: list[int]) -> tuple[bytes, dict[str, str]]:
    tensor = b"\x0a\x01y\x12\x04FP32" + b"\x1a\x02" + bytes(shape)
    raw = struct.pack("<4f", *values)
    return b"\x0a\x05model" + b"\x2a" + bytes([len(tensor)]) + tensor + b"\x32\x10" + raw, {}


def grpc_answer_in_contents(values: list[float], shape: list[int]) -> tuple[bytes, dict[str, str]]:
    contents = b"\x2a\x12\x32\x10" + struct.pack("<4f", *values)
    tensor = b"\x0a\x01y\x12\x04FP32" + b"".join(b"\x18" + bytes([size]) for size in shape) + contents
    return b"\x0a\x05model" + b"\x2a" + bytes([len(tensor)]) + tensor, {}


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        (Protocol.JSON, rest_answer),
        (Protocol.BINARY, binary_answer),
        (Protocol.GRPC, grpc_answer),
        (Protocol.GRPC, grpc_answer_in_contents),
    ],
)
def test_only_the_answer_of_onnxruntime_is_taken(models: Path, protocol: Protocol, answer) -> None:  # type: ignore[no-untyped-def]
    case = make_case(models, "double", protocol, 2)
    right = [0.0, *(float(np.float32(value) * 2) for value in (0.1, 0.2, 0.3))]
    case.check(*answer(right, [2, 2]))
    nearly = [*right[:3], float(np.nextafter(np.float32(right[3]), np.float32(1)))]
    for wrong in (answer(nearly, [2, 2]), answer(right, [4, 1]), (b"{}", {}), (b"", {})):
        with pytest.raises(WrongAnswerError):
            case.check(*wrong)


def test_a_json_request_holds_the_floats_exactly(models: Path) -> None:
    case: Case = make_case(models, "double", Protocol.JSON, 4)
    (tensor,) = json.loads(case.body)["inputs"]
    with np.load(models / "double.npz") as file:
        assert np.array(tensor["data"], np.float32).reshape(tensor["shape"]).tolist() == file["x"].tolist()


def test_only_rounds_of_both_servers_are_divided_and_the_median_counts() -> None:
    results = Results()
    for turn, (ours, theirs) in enumerate([(100.0, 10.0), (300.0, 10.0), (90.0, 10.0)]):
        results.rates["gbt"][SLIPWAY][turn] = Figures(ours, 0.1, turn + 1.0)
        results.rates["gbt"]["fastapi"][turn] = Figures(theirs, 1, 1)
    results.rates["gbt"][SLIPWAY][3] = Figures(1e9, 0.1, 1.0)
    results.rates["gbt"]["mlserver"][7] = Figures(1, 1, 1)
    rows = {str(row["what"]): row for row in target_rows(results)}
    assert rows["FastAPI + pydantic"]["found"] == 10.0
    assert rows["FastAPI + pydantic"]["met"] == "met"
    assert rows["MLServer, in process"]["met"] == "not measured"
    assert rows["p99, 32 clients"]["met"] == "met"
    assert rows["p99, 32 clients"]["found"] == 1.5
    assert "| FastAPI + pydantic | ≥ 5 × | 10.00 × | met |" in markdown(results, SCENARIOS, "a machine")
    json.dumps(as_json(results))


def test_a_share_of_onnxruntime_is_counted_in_rows() -> None:
    results = Results()
    results.rates["mlp"][SLIPWAY][0] = Figures(320, 1, 1)
    results.raw["mlp", 32][0] = 20.0
    results.rates["gbt-binary"][SLIPWAY][0] = Figures(10, 1, 1)
    results.raw["gbt", 32][0] = 20.0
    found = {target.what: target.value(results) for target in TARGETS}
    assert found["onnxruntime in batches of 32: dense layers, 1 row, JSON"] == 50.0
    assert found["onnxruntime: 32 rows, binary"] == 50.0


def test_a_ratio_of_latencies_is_taken_within_a_round() -> None:
    results = Results()
    for turn, (ours, theirs) in enumerate([(1.0, 2.0), (3.0, 4.0), (5.0, 5.0)]):
        results.rates["gbt"][SLIPWAY][turn] = Figures(1, 0.1, ours)
        results.rates["gbt"]["rust"][turn] = Figures(1, 0.1, theirs)
    found = {target.what: target.value(results) for target in TARGETS}
    assert found["p99, 32 clients, by Rust's"] == 0.75


def test_peers_in_rust_are_left_out_where_there_is_no_cargo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ready, why = prepare(["rust", "rust-batches"])
    assert not ready
    assert why == [f"{name}: missing: cargo (https://rustup.rs)" for name in ("rust", "rust-batches")]


@pytest.mark.parametrize("folder", sorted({peer.folder for peer in PEER_LIST if peer.crate_program}))
def test_every_crate_asks_for_one_version_of_each_package_and_its_lock_holds_it(folder: str) -> None:
    asked = tomllib.loads((PEERS / folder / "Cargo.toml").read_text())["dependencies"]
    lock = tomllib.loads((PEERS / folder / "Cargo.lock").read_text())["package"]
    locked = {(each["name"], f"={each['version']}") for each in lock if "checksum" in each}
    for name, entry in asked.items():
        assert (name, entry if isinstance(entry, str) else entry["version"]) in locked


PYTHON = {peer.folder for peer in PEER_LIST if not peer.crate_program}


@pytest.mark.parametrize("folder", sorted(PYTHON | {"tools"}))
def test_every_peer_has_a_lock_that_holds_what_it_asks_for(folder: str) -> None:
    asked = (PEERS / folder / "requirements.in").read_text().splitlines()
    locked = (PEERS / folder / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+( ; .+)?", line) for line in locked)
    for line in asked:
        if not line.startswith("#"):
            name = re.sub(r"\[.*\]", "", line)
            assert any(each == name or each.startswith(f"{name}==") for each in locked), line
