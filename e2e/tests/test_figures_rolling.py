"""No request fails while the model changes, pods come and go, and the load does not let up."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from onnx import ModelProto, parser

from e2e.kube import Kube
from e2e.ledger import LONG, note
from e2e.load import Load, loading
from e2e.load.client import Plan
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry

NAME = "rolling"
REQUESTS = 20_000 if LONG else 6_000
#: Requests a second; more than this machine's two cores carry beside everything else would only queue.
RATE = 250.0
FACTORS = (2, 3, 5)
SELECTOR = f"slipway.dev/modeldeployment={NAME}"


@pytest.mark.timed
def test_no_request_fails_while_the_model_is_replaced(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"rolling-{token}"
    versions = [mlflow.register(model, times(factor)) for factor in FACTORS]
    kube.apply(resource(namespace, f"mlflow://{model}/{versions[0]}"))
    wait_until_ready(kube, NAME, namespace)
    wait_for(lambda: len(pods(kube, namespace)) == 2, 60, "there are not two pods")

    steps: list[str] = []
    began = time.time()
    with loading(kube, namespace, installed.server_image, plan(namespace, versions)) as load:
        load.wait_for(1000, 60)

        scale(kube, namespace, 3)
        wait_for(lambda: len(pods(kube, namespace)) == 3, 60, "there are not three pods")
        steps.append(f"scaled to 3 at {time.time() - began:.0f} s")

        change(kube, namespace, f"mlflow://{model}/{versions[1]}")
        replaced_by(kube, namespace, load, versions[1])
        steps.append(f"version 2 alone at {time.time() - began:.0f} s")

        scale(kube, namespace, 2)
        kube.kubectl("delete", "pod", pods(kube, namespace)[0], f"--namespace={namespace}", "--wait=false")
        steps.append(f"scaled to 2 and a pod deleted at {time.time() - began:.0f} s")
        load.wait_for(load.so_far()["sent"] + 1000, 60)

        change(kube, namespace, f"mlflow://{model}/{versions[2]}")
        alone = replaced_by(kube, namespace, load, versions[2])
        steps.append(f"version 3 alone at {time.time() - began:.0f} s")

        wait_for(lambda: len(pods(kube, namespace)) == 2, 420, "it is not scaled down to two pods")
        steps.append(f"2 pods at {time.time() - began:.0f} s")
        load.wait_for(REQUESTS, 300)
        account = load.stop()

    note(f"rolling update under load: {'; '.join(steps)}; {json.dumps(account)}")
    assert account["sent"] >= REQUESTS
    assert account["failed"] == 0, account["failures"]
    assert set(account["answers"]) == set(versions)
    assert sum(account["answers"].values()) == account["sent"]
    assert max(account["last"][version] for version in versions[:2]) < alone


def times(factor: int) -> ModelProto:
    """`y = x * factor`, float [N, 3]."""
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3] x) => (float[N,3] y) {{
            factor = Constant<value: tensor = float {{{factor}.0}}>()
            y = Mul(x, factor)
        }}"""
    )


def resource(namespace: str, uri: str) -> dict[str, Any]:
    """Two pods to begin with, and as many as are asked for: CPU never calls for more."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"uri": uri},
            "runtime": {
                "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}},
                # The machine is small and does much else meanwhile; a late answer is not what is looked for.
                "requestTimeoutMilliseconds": 8000,
            },
            "scaling": {
                "minReplicas": 2,
                "maxReplicas": 3,
                "metrics": [{"type": "CPU", "targetPercent": 1000}],
            },
        },
    }


def plan(namespace: str, versions: list[str], name: str = NAME, rate: float = RATE) -> Plan:
    """Sixteen inputs in turn, and what each version makes of them."""
    rows = [[float(index), float(index + 1), float(-index)] for index in range(16)]

    def tensor(name: str, row: list[float]) -> dict[str, Any]:
        return {"name": name, "datatype": "FP32", "shape": [1, 3], "data": row}

    return Plan(
        url=f"http://{name}.{namespace}.svc/v2/models/{name}/infer",
        inputs=[[tensor("x", row)] for row in rows],
        answers={
            version: [[tensor("y", [value * factor for value in row])] for row in rows]
            for version, factor in zip(versions, FACTORS[: len(versions)], strict=True)
        },
        rate=rate,
        kept=8,
        patient=3,
        fresh=2,
    )


def change(kube: Kube, namespace: str, uri: str, name: str = NAME) -> None:
    """Ask for another model."""
    patch = json.dumps({"spec": {"model": {"uri": uri}}})
    kube.kubectl(
        "patch", "modeldeployment", name, f"--namespace={namespace}", "--type=merge", f"--patch={patch}"
    )


def scale(kube: Kube, namespace: str, replicas: int, name: str = NAME) -> None:
    kube.kubectl("scale", f"modeldeployment/{name}", f"--namespace={namespace}", f"--replicas={replicas}")


def replaced_by(kube: Kube, namespace: str, load: Load, version: str) -> float:
    """Wait until a version answers and pods of no other one are left; when that was."""
    wait_until_ready(kube, NAME, namespace)

    def alone() -> bool:
        found = kube.items("pods", namespace, f"{SELECTOR},app.kubernetes.io/component=model-server")
        return len({pod["metadata"]["labels"]["slipway.dev/revision"] for pod in found}) == 1

    wait_for(alone, 120, "pods of the old version stay")
    at = time.time()
    before = load.so_far()["answers"].get(version, 0)
    wait_for(
        lambda: load.so_far()["answers"].get(version, 0) > before, 30, f"version {version} does not answer"
    )
    return at


def pods(kube: Kube, namespace: str) -> list[str]:
    """Names of the ready pods that stay."""
    found = kube.items("pods", namespace, f"{SELECTOR},app.kubernetes.io/component=model-server")
    return [
        pod["metadata"]["name"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])
    ]
