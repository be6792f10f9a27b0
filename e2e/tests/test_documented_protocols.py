"""Every protocol of docs/model-server.md, once through a Service of the cluster, and the rules of inputs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,
)

from e2e.kube import Kube
from e2e.tests import models
from e2e.tests.conditions import wait_until_ready
from e2e.tests.installation import Installation, temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.stage import SMALL, answers, question
from slipway_server.rpc import open_inference_pb2 as oip

NAME = "flowers"
STRICT = "strict"
COLUMNS = ("sepal length", "sepal width", "petal length", "petal width")


@pytest.fixture(scope="module")
def served(installed: Installation, mlflow: Registry, token: str) -> Iterator[str]:
    """The namespace of a model without rules for its inputs, and of one with some."""
    kube, model = installed.kube, f"flowers-{token}"
    uri = f"mlflow://{model}/{mlflow.register(model, models.iris())}"
    rules = [{"name": name, "minimum": "0", "maximum": "10"} for name in COLUMNS]
    inputs = {"tensors": [{"name": "X", "columns": rules}]}
    with temporary_namespace(kube, "protocols") as namespace:
        for name, spec in ((NAME, {}), (STRICT, {"inputs": inputs})):
            kube.apply(
                {
                    "apiVersion": "slipway.dev/v1alpha1",
                    "kind": "ModelDeployment",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {"model": {"uri": uri}, "runtime": SMALL, **spec},
                }
            )
        for name in (NAME, STRICT):
            wait_until_ready(kube, name, namespace)
        yield namespace


@pytest.fixture(scope="module")
def client(kube: Kube, served: str) -> Iterator[httpx.Client]:
    with (
        kube.port_forward(f"service/{NAME}", served, 80) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def rows() -> list[list[float]]:
    return [[float(value) for value in row] for row in models.flowers()]


def labels() -> list[int]:
    return [int(label) for label in answers()["label"]]


def test_the_open_inference_protocol_answers_json_and_binary(client: httpx.Client) -> None:
    model = client.get(f"/v2/models/{NAME}").raise_for_status().json()
    assert [(each["name"], each["datatype"]) for each in model["inputs"]] == [("X", "FP32")]
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get(f"/v2/models/{NAME}/versions/1/ready").status_code == 200
    found = client.post(f"/v2/models/{NAME}/infer", json=question()).raise_for_status().json()
    assert {each["name"]: each["data"] for each in found["outputs"]}["label"] == labels()
    described = client.get(f"/v2/models/{NAME}/openapi.json").raise_for_status().json()
    assert described["openapi"].startswith("3.1")

    data = models.flowers().tobytes()
    head = (
        b'{"inputs":[{"name":"X","datatype":"FP32","shape":[10,4],"parameters":{"binary_data_size":%d}}],'
        b'"outputs":[{"name":"probabilities","parameters":{"binary_data":true}}]}' % len(data)
    )
    sized = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = client.post(f"/v2/models/{NAME}/infer", content=head + data, headers=sized).raise_for_status()
    body = answer.content[int(answer.headers["inference-header-content-length"]) :]
    expected = answers()["probabilities"]
    np.testing.assert_allclose(np.frombuffer(body, np.float32).reshape(expected.shape), expected, rtol=1e-5)


def test_kserves_v1_answers_rows_and_tensors(client: httpx.Client) -> None:
    assert NAME in client.get("/v1/models").raise_for_status().json()["models"]
    assert client.get(f"/v1/models/{NAME}").raise_for_status().json()["name"] == NAME
    by_rows = client.post(f"/v1/models/{NAME}:predict", json={"instances": rows()}).raise_for_status()
    assert [each["label"] for each in by_rows.json()["predictions"]] == labels()
    by_tensors = client.post(f"/v1/models/{NAME}:predict", json={"inputs": {"X": rows()}}).raise_for_status()
    assert by_tensors.json()["outputs"]["label"] == labels()


def test_mlflows_own_protocol_answers_tables_and_csv(client: httpx.Client) -> None:
    assert client.get("/ping").status_code == client.get("/version").status_code == 200
    table = {"dataframe_split": {"columns": list(COLUMNS), "data": rows()}}
    csv = "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows())])
    for answer in (
        client.post("/invocations", json=table),
        client.post("/invocations", content=csv, headers={"content-type": "text/csv"}),
    ):
        assert [each["label"] for each in answer.raise_for_status().json()["predictions"]] == labels()
    by_name = client.post("/invocations", json={"inputs": {"X": rows()}}).raise_for_status().json()
    assert by_name["predictions"]["label"] == labels()


def test_grpc_answers_and_describes_itself(kube: Kube, served: str) -> None:
    tensor = oip.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[10, 4])
    tensor.contents.fp32_contents.extend(models.flowers().ravel().tolist())
    asked = oip.ModelInferRequest(model_name=NAME, inputs=[tensor])
    with (
        kube.port_forward(f"service/{NAME}", served, 9000) as url,
        grpc.insecure_channel(url.removeprefix("http://")) as channel,
    ):
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        found = infer(asked, timeout=60)
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    [label] = [each for each in found.outputs if each.name == "label"]
    assert list(label.contents.int64_contents) == labels()
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)


def test_a_request_that_breaks_a_rule_of_the_inputs_is_refused_with_the_rule(kube: Kube, served: str) -> None:
    broken = question()
    broken["inputs"][0]["data"][2] = 11.5
    with (
        kube.port_forward(f"service/{STRICT}", served, 80) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        assert client.post(f"/v2/models/{STRICT}/infer", json=question()).status_code == 200
        answer = client.post(f"/v2/models/{STRICT}/infer", json=broken)
        assert answer.status_code == 400
        assert "petal length" in answer.json()["error"]
        assert (
            client.post(f"/v1/models/{STRICT}:predict", json={"instances": [[1, 2, 11.5, 1]]}).status_code
            == 400
        )
