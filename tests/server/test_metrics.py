from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from slipway.contract import Metric
from slipway_server.errors import Reason
from slipway_server.metrics.counters import CODES
from tests.server.conftest import Start
from tests.server.running import Server, tensor

Servers = Callable[[str], Server]
LABELS = (("model", "fraud"), ("model_version", "3"))


def test_every_series_is_there_from_the_start_and_none_comes_from_requests(start: Start) -> None:
    server = start("identity").wait_until_ready()
    before = server.metrics()
    for code in CODES:
        assert before[Metric.REQUESTS, (("code", str(code)), *LABELS)] == 0
    for reason in Reason:
        assert before[Metric.REJECTED, (*LABELS, ("reason", reason))] == 0
    for name in (Metric.ROWS, Metric.IN_FLIGHT, f"{Metric.DURATION}_count", f"{Metric.DURATION}_sum"):
        assert before[name, LABELS] == 0
    assert before[Metric.MODEL_INFO, (("digest", server.config.digest), *LABELS)] == 1
    assert before[Metric.LOAD_SECONDS, LABELS] > 0

    good = [tensor("x", "FP32", [5, 3], [0] * 15)]
    assert server.infer(*good).status_code == 200
    assert server.infer(tensor("x", "FP32", [1, 3], [0] * 2)).status_code == 400
    client = server.client
    assert client.post("/v2/models/<script>/infer", json={}).status_code == 404
    assert client.post("/v2/models/fraud/versions/evil/infer", json={}).status_code == 404
    assert client.post(server.infer_path, content=b"x", headers={"content-type": "a/b"}).status_code == 415
    assert client.request("PATCH", server.infer_path).status_code == 405

    after = server.metrics()
    assert set(after) == set(before)
    for code, count in ((200, 1), (400, 1), (404, 2), (415, 1), (500, 0), (503, 0)):
        assert after[Metric.REQUESTS, (("code", str(code)), *LABELS)] == count
    for reason, count in ((Reason.SCHEMA, 1), (Reason.NOT_FOUND, 2), (Reason.MEDIA_TYPE, 1)):
        assert after[Metric.REJECTED, (*LABELS, ("reason", reason))] == count
    assert after[Metric.ROWS, LABELS] == 5
    assert after[f"{Metric.DURATION}_count", LABELS] == 5
    assert after[Metric.IN_FLIGHT, LABELS] == 0


def test_the_admin_port_serves_metrics_as_prometheus_expects_and_nothing_of_the_model(
    servers: Servers,
) -> None:
    server = servers("identity")
    response = httpx.get(f"{server.admin}/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "process_resident_memory_bytes" in response.text
    assert httpx.get(f"{server.admin}/v2/models/fraud").status_code == 404
    assert httpx.post(f"{server.admin}/v2/models/fraud/infer").status_code == 404
    assert httpx.get(f"{server.admin}/drain").status_code == 404


def test_the_log_is_json_and_silent_about_requests(servers: Servers) -> None:
    server = servers("identity")
    before = server.log.read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    assert [line["message"] for line in lines] == ["the model is warm", "ready"]
    assert lines[-1]["digest"] == server.config.digest
    for _ in range(5):
        server.infer(tensor("x", "FP32", [1, 3], [1, 2, 3]))
        server.infer()
    assert server.log.read_text() == before


def test_the_server_reports_to_nobody_and_writes_nothing_at_home(servers: Servers) -> None:
    server = servers("identity")
    assert server.infer(tensor("x", "FP32", [1, 3], [1, 2, 3])).status_code == 200
    _, worker, *_ = server.processes()
    assert "onnxruntime" in Path(f"/proc/{worker}/maps").read_text()
    assert list(server.home.rglob("*")) == []
