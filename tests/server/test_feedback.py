from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from slipway.contract import Metric, ModelFault
from slipway_server.rpc import open_inference_pb2 as oip
from tests.server.running import Server, tensor

KEY = b"0123456789abcdef0123456789abcdef"
LABELS = (("model", "fraud"), ("model_version", "3"))
Dirs = Callable[[str], Path]


class Replicas:
    """Servers of one model that share a Secret."""

    def __init__(self, root: Path, dirs: Dirs) -> None:
        self.keys = root / "keys"
        self.keys.mkdir()
        (self.keys / "2026-11").write_bytes(KEY)
        self._dirs = dirs
        self._running: list[Server] = []

    def start(self, model: str, stack: str = "own", **config: Any) -> Server:
        environment = {"SLIPWAY_FEEDBACK_KEYS_DIR": str(self.keys)}
        config.setdefault("feedbackMaxAgeDays", 90)
        server = Server(self._dirs(model), stack, environment=environment, **config)
        self._running.append(server)
        return server

    def close(self) -> None:
        for server in self._running:
            server.__exit__(None, None, None)


@pytest.fixture
def replicas(tmp_path: Path, model_dirs: Dirs) -> Iterator[Replicas]:
    made = Replicas(tmp_path, model_dirs)
    yield made
    made.close()


def cancer(rows: int) -> dict[str, Any]:
    table = load_breast_cancer().data[:rows].astype(np.float32)
    return tensor("X", "FP32", list(table.shape), table.reshape(-1).tolist())


def tokens_of(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return str(response.json()["parameters"]["feedback_token"]).split(" ")


def send(server: Server, body: Any) -> httpx.Response:
    return server.client.post(f"/v2/models/{server.name}/feedback", json=body)


def test_a_label_sent_to_another_replica_is_counted_once_for_the_version_that_predicted(
    replicas: Replicas, stack: str
) -> None:
    old, new = replicas.start("classifier", stack), replicas.start("classifier", stack, modelVersion="4")
    old.wait_until_ready()
    new.wait_until_ready()
    answer = old.infer(cancer(3))
    tokens = tokens_of(answer)
    outcomes = next(each for each in answer.json()["outputs"] if each["name"] == "output_label")["data"]
    assert len(set(tokens)) == 3
    without_rows = old.infer(cancer(0))
    assert (without_rows.status_code, "parameters" in without_rows.json()) == (200, False)
    assert "could not" not in old.log.read_text()
    before = new.metrics()
    assert before[Metric.FEEDBACK, (("model", "fraud"), ("model_version", "4"), ("result", "accepted"))] == 0

    assert send(new, {"token": tokens[0], "label": outcomes[0]}).json() == {"accepted": 1}
    again = send(new, {"token": tokens[0], "label": outcomes[0]})
    assert (again.status_code, again.json()["result"]) == (409, "duplicate")
    batch = send(
        new,
        {
            "feedback": [
                {"token": tokens[1], "label": 1 - outcomes[1]},
                {"token": tokens[0], "label": 0},
                {"token": tokens[2][:-2] + "AA", "label": 0},
                {"token": tokens[2]},
            ]
        },
    )
    assert batch.status_code == 200
    counts = batch.json()
    assert [counts[name] for name in ("accepted", "duplicate", "expired", "invalid")] == [1, 1, 0, 2]
    assert [each["position"] for each in counts["refused"]] == [1, 2, 3]

    after = new.metrics()
    labels = {key[1]: value for key, value in after.items() if key[0] == Metric.FEEDBACK_LABELS and value}
    assert sum(labels.values()) == 2
    assert all(dict(key)["model_version"] == "3" for key in labels)
    assert sum(value for key, value in labels.items() if dict(key)["correct"] == "true") == 1
    assert after[f"{Metric.FEEDBACK_DELAY}_count", LABELS] == 2
    of_new = (("model", "fraud"), ("model_version", "4"))
    assert after[Metric.FEEDBACK, (*of_new, ("result", "duplicate"))] == 2
    assert after[Metric.FEEDBACK, (*of_new, ("result", "invalid"))] == 2
    assert after[Metric.REQUESTS, (("code", "200"), *of_new)] == 0


def test_forged_tokens_and_tokens_of_another_model_are_refused(replicas: Replicas) -> None:
    mine, other = replicas.start("classifier"), replicas.start("classifier", modelName="churn")
    mine.wait_until_ready()
    other.wait_until_ready()
    (foreign,) = tokens_of(other.infer(cancer(1)))
    for token in (foreign, "", "x", "é" * 40, "A" * 5000, foreign[:20]):
        refused = send(mine, {"token": token, "label": 1})
        assert (refused.status_code, refused.json()["result"]) == (400, "invalid"), token
    assert mine.client.get("/v2/models/fraud/feedback").status_code == 405
    assert send(mine, [1]).status_code == 400
    assert send(mine, {"feedback": [{}] * 1001}).status_code == 400
    large = mine.client.post("/v2/models/fraud/feedback", json={"feedback": "x" * 600_000})
    assert large.status_code == 413
    assert mine.client.post("/v2/models/nobody/feedback", json={}).status_code == 404


def test_binary_answers_carry_tokens_too_and_a_number_is_scored_by_its_error(replicas: Replicas) -> None:
    server = replicas.start("regressor").wait_until_ready()
    row = tensor("X", "FP32", [2, 10], [0.01 * value for value in range(20)])
    whole = server.infer(row, parameters={"binary_data_output": True})
    size = int(whole.headers["inference-header-content-length"])
    document = json.loads(whole.content[:size])
    predicted = np.frombuffer(whole.content[size:], np.float32)
    tokens = document["parameters"]["feedback_token"].split(" ")
    assert len(predicted) == len(tokens) == 2
    assert send(server, {"token": tokens[0], "label": float(predicted[0]) + 3}).status_code == 200
    assert send(server, {"token": tokens[1], "label": "high"}).status_code == 400
    # Two of these would make the sum of errors infinite, and what all others sent worth nothing.
    for label in (1e308, -1e308, 1.1e15, 10**18):
        refused = send(server, {"token": tokens[1], "label": label})
        assert refused.status_code == 400
        assert "must be between -1e+15 and 1e+15" in refused.text
    assert send(server, {"token": tokens[1], "label": float(predicted[1])}).status_code == 200
    found = server.metrics()
    assert found[f"{Metric.FEEDBACK_ERROR}_sum", LABELS] == pytest.approx(3, abs=1e-4)
    assert found[f"{Metric.FEEDBACK_ERROR}_bucket", (("le", "2.0"), *LABELS)] == 1
    assert found[f"{Metric.FEEDBACK_ERROR}_bucket", (("le", "5.0"), *LABELS)] == 2


def test_processes_of_a_pod_count_together_and_know_each_others_tokens(replicas: Replicas) -> None:
    server = replicas.start("classifier", processes=2).wait_until_ready()
    tokens = []
    for _ in range(20):
        with httpx.Client(base_url=server.url) as client:
            answer = client.post(server.infer_path, json={"inputs": [cancer(1)]})
        tokens += tokens_of(answer)
    codes = []
    for token in tokens * 2:
        with httpx.Client(base_url=server.url) as client:
            sent = client.post("/v2/models/fraud/feedback", json={"token": token, "label": 0})
        codes.append(sent.status_code)
    assert codes == [200] * 20 + [409] * 20
    found = server.metrics()
    assert found[Metric.FEEDBACK, (*LABELS, ("result", "accepted"))] == 20
    assert found[Metric.FEEDBACK, (*LABELS, ("result", "duplicate"))] == 20


def test_groups_from_parameters_and_inputs_are_counted_and_come_back_with_labels(replicas: Replicas) -> None:
    server = replicas.start(
        "classifier",
        sensitiveAttributes=[
            {"name": "sex", "groups": ["female", "male"], "parameter": "sex"},
            {"name": "first", "groups": ["18"], "tensor": "X", "column": 0},
        ],
        favorableOutcomes=["1"],
    ).wait_until_ready()
    before = server.metrics()
    asked = server.infer(cancer(2), parameters={"sex": ["female", "<script>"]})
    tokens = tokens_of(asked)
    outcomes = next(each for each in asked.json()["outputs"] if each["name"] == "output_label")["data"]
    tokens_of(server.infer(cancer(1), parameters={"sex": "male"}))
    tokens_of(server.infer(cancer(1)))
    assert send(server, {"token": tokens[0], "label": 1}).status_code == 200
    after = server.metrics()
    got: dict[str, float] = {}
    for (name, labels), value in after.items():
        if name == Metric.GROUP_PREDICTIONS and dict(labels)["attribute"] == "sex":
            got[dict(labels)["group"]] = got.get(dict(labels)["group"], 0) + value
    assert got == {"female": 1, "male": 1, "other": 2}
    outcome = "favorable" if outcomes[0] == 1 else "unfavorable"
    of = (("attribute", "sex"), ("group", "female"), ("label", "favorable"), *LABELS, ("outcome", outcome))
    assert after[Metric.GROUP_FEEDBACK, of] == 1
    known = {key for key in before if key[0].startswith("slipway_group")}
    assert {key for key in after if key[0].startswith("slipway_group")} == known


def test_groups_from_a_header_are_counted_by_request_and_never_told_raw(
    replicas: Replicas, stack: str
) -> None:
    server = replicas.start(
        "classifier",
        stack,
        feedbackMaxAgeDays=0,
        sensitiveAttributes=[{"name": "region", "groups": ["north", "south"], "header": "X-Region"}],
        favorableOutcomes=["1"],
    ).wait_until_ready()
    body = json.dumps({"inputs": [cancer(2)]}).encode()
    # Twice each, since heads that come again are not read again.
    for region in ("north", "north", "south", "south", "secret-place", None):
        headers = {} if region is None else {"x-region": region}
        assert server.client.post(server.infer_path, content=body, headers=headers).status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        contents = oip.InferTensorContents(fp32_contents=cancer(1)["data"])
        rows = oip.ModelInferRequest.InferInputTensor(
            name="X", datatype="FP32", shape=[1, 30], contents=contents
        )
        request = oip.ModelInferRequest(model_name="fraud", inputs=[rows])
        for _ in range(3):
            call(request, metadata=[("x-region", "north")], timeout=10)
    got: dict[str, float] = {}
    for (name, labels), value in server.metrics().items():
        assert "secret-place" not in str(labels)
        if name == Metric.GROUP_PREDICTIONS:
            got[dict(labels)["group"]] = got.get(dict(labels)["group"], 0) + value
    assert got == {"north": 4 + 3, "south": 4, "other": 4}


def test_a_missing_or_short_key_is_said_before_anything_is_served(replicas: Replicas) -> None:
    (replicas.keys / "2026-11").write_bytes(b"short")
    server = replicas.start("identity")
    assert server.wait() == 1
    failure = server.last_words().outcome
    assert failure.kind == "Failed"
    assert failure.failure.reason == ModelFault.MODEL_LOAD_FAILED
    assert "openssl rand -hex 32" in failure.failure.message


def test_without_feedback_answers_have_no_tokens(replicas: Replicas) -> None:
    server = replicas.start("classifier", feedbackMaxAgeDays=0).wait_until_ready()
    assert "parameters" not in server.infer(cancer(1)).json()
    assert send(server, {"token": "x", "label": 1}).status_code == 404
