"""A ModelDeployment as its users meet it: through kubectl, through its Service, and gone when deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from e2e.cluster.settings import Settings
from e2e.kube import Kube, Object
from e2e.tests import models
from e2e.tests.conditions import condition, events, wait_for, wait_until_ready
from e2e.tests.installation import Installation, temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.stage import SMALL, answers, question

NAME = "iris"
KINDS = (
    "serviceaccounts",
    "controllerrevisions",
    "deployments",
    "replicasets",
    "pods",
    "services",
    "endpointslices",
    "horizontalpodautoscalers",
)
#: As Argo CD and Helm put them on what they manage; with them a child looks like something to prune.
FOREIGN_LABELS = {"app.kubernetes.io/instance": "shop", "argocd.argoproj.io/instance": "shop", "team": "risk"}
FOREIGN_ANNOTATIONS = {"argocd.argoproj.io/tracking-id": "shop:slipway.dev/ModelDeployment:shop/iris"}


@pytest.fixture(scope="module")
def registered(mlflow: Registry, token: str) -> str:
    """A model with two versions, the alias champion on the first."""
    name = f"resources-{token}"
    mlflow.register(name, models.iris(), "champion")
    mlflow.register(name, models.iris(0.01))
    return name


@pytest.fixture(scope="module")
def served(kube: Kube, registered: str) -> Iterator[str]:
    """A namespace with one ModelDeployment that is ready, as `kubectl wait` sees it."""
    with temporary_namespace(kube) as namespace:
        kube.apply(model_deployment(NAME, namespace, f"mlflow://{registered}/1"))
        kube.kubectl(
            "wait",
            "--for=condition=Ready",
            f"mdep/{NAME}",
            f"--namespace={namespace}",
            "--timeout=300s",
            seconds=330,
        )
        yield namespace


def model_deployment(name: str, namespace: str, uri: str) -> Object:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": FOREIGN_LABELS,
            "annotations": FOREIGN_ANNOTATIONS,
        },
        "spec": {"model": {"uri": uri}, "runtime": SMALL},
    }


def ask(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    """The answer to `question` through a Service, as a client that speaks the protocol gets it."""
    with kube.port_forward(f"service/{name}", namespace, 80) as url:
        answer = httpx.post(f"{url}/v2/models/{NAME}/infer", json=question(), timeout=20)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def outputs(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}


def children(kube: Kube, namespace: str, name: str = NAME) -> dict[str, list[Object]]:
    """All objects that belong to a ModelDeployment, by kind."""
    selector = f"slipway.dev/modeldeployment={name}"
    return {kind: found for kind in KINDS if (found := kube.items(kind, namespace, selector))}


def test_the_service_answers_as_onnxruntime_itself(kube: Kube, served: str) -> None:
    found, expected = outputs(ask(kube, served, NAME)), answers()
    assert found.keys() == expected.keys()
    assert (found["label"] == expected["label"]).all()
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-7)


def test_the_answer_names_the_version_and_status_the_digest_that_serves(kube: Kube, served: str) -> None:
    status = (kube.get("mdep", NAME, served) or {})["status"]
    assert ask(kube, served, NAME)["model_version"] == "1" == status["stable"]["version"]
    logged = kube.kubectl("logs", f"--namespace={served}", f"service/{NAME}", "--container=server")
    [ready] = [line for line in logged.splitlines() if '"ready"' in line]
    assert json.loads(ready)["digest"] == status["stable"]["digest"] == status["model"]["digest"]
    assert status["url"] == f"http://{NAME}.{served}.svc"


PODS = ("REPLICAS", "AVAILABLE")


def test_kubectl_get_shows_what_matters(kube: Kube, served: str) -> None:
    header, line = kube.kubectl("get", "mdep", NAME, f"--namespace={served}").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "STABLE", "CANARY", "WEIGHT", *PODS, "AGE"]
    revision = (kube.get("mdep", NAME, served) or {})["status"]["stable"]["revision"]
    # Nothing stands under CANARY and WEIGHT while there is no rollout.
    assert line.split()[:-1] == [NAME, "True", "Serving", revision, "1", "1"]
    assert NAME in kube.kubectl("get", "slipway", f"--namespace={served}")


def test_a_report_reads_the_pods_by_way_of_the_api_server(
    settings: Settings, kube: Kube, served: str, tmp_path: Path
) -> None:
    ask(kube, served, NAME)
    page = tmp_path / "report.html"
    program = Path(sys.executable).with_name("kubectl-slipway")
    command = ["report", NAME, "-n", served, "--kubeconfig", str(settings.kubeconfig), "-o", str(page)]
    done = subprocess.run([program, *command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{page}: 1 of 1 ready pods read\n"), done.stderr
    status = (kube.get("mdep", NAME, served) or {})["status"]
    text = page.read_text()
    for words in ("answered 200", status["stable"]["digest"], status["stable"]["revision"], "True, Serving"):
        assert words in text


def test_every_child_is_there_and_owned(kube: Kube, served: str) -> None:
    found = children(kube, served)
    assert set(found) == set(KINDS)
    uid = (kube.get("mdep", NAME, served) or {})["metadata"]["uid"]
    for kind in set(KINDS) - {"replicasets", "pods", "endpointslices"}:
        for child in found[kind]:
            assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [uid], kind


def test_labels_and_annotations_of_a_deployment_tool_reach_no_child(kube: Kube, served: str) -> None:
    for kind, found in children(kube, served).items():
        for child in found:
            meta = child["metadata"]
            assert not FOREIGN_LABELS.keys() & meta["labels"].keys(), kind
            assert not FOREIGN_ANNOTATIONS.keys() & meta.get("annotations", {}).keys(), kind


def test_a_pod_runs_restricted_and_pinned(kube: Kube, served: str, installed: Installation) -> None:
    [pod] = children(kube, served)["pods"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        assert container["image"] == installed.server_image
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_kubectl_scale_sets_the_number_of_pods(kube: Kube, served: str) -> None:
    def scale(replicas: int) -> None:
        kube.kubectl("scale", f"mdep/{NAME}", f"--namespace={served}", f"--replicas={replicas}")

    def ready() -> bool:
        status = (kube.get("mdep", NAME, served) or {})["status"]
        return (status["replicas"], status["stable"]["readyReplicas"]) == (3, 3)

    scale(3)
    wait_for(ready, 60, "not three pods")
    found = kube.get("mdep", NAME, served) or {}
    assert found["spec"]["scaling"]["minReplicas"] == 3
    assert found["status"]["selector"] in kube.kubectl(
        "get", "--raw", f"/apis/slipway.dev/v1alpha1/namespaces/{served}/modeldeployments/{NAME}/scale"
    )
    scale(1)


def test_another_version_takes_over(kube: Kube, served: str, registered: str) -> None:
    before = wait_until_ready(kube, NAME, served)["status"]["stable"]["revision"]
    kube.apply(model_deployment(NAME, served, f"mlflow://{registered}/2"))

    def taken_over() -> bool:
        status = (kube.get("mdep", NAME, served) or {})["status"]
        return status["stable"]["revision"] != before and "canary" not in status

    wait_for(taken_over, 90, "the new revision did not take over")
    wait_until_ready(kube, NAME, served)
    found = outputs(ask(kube, served, NAME))["probabilities"]
    np.testing.assert_allclose(found, answers(0.01)["probabilities"], rtol=1e-5, atol=1e-7)
    assert np.abs(found - answers()["probabilities"]).max() > 0.01
    told = [event["message"] for event in events(kube, NAME, served) if event["reason"] == "Serving"]
    assert any("took over from" in message for message in told), told


def test_deletion_takes_every_child_along(kube: Kube, served: str, registered: str) -> None:
    kube.apply(model_deployment("passing", served, f"mlflow://{registered}@champion"))
    ready = condition(wait_until_ready(kube, "passing", served), "Ready")
    assert ready["reason"] == "Serving"
    assert len(children(kube, served, "passing")) == len(KINDS)
    kube.kubectl("delete", "mdep", "passing", f"--namespace={served}", seconds=20)
    wait_for(lambda: not children(kube, served, "passing"), 90, "children are left")
