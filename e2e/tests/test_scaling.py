"""A model gets more pods while more requests come."""

from __future__ import annotations

from e2e.load import loading
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout, again

#: What one pod does for its share of requests is more than this CPU, so that two are not enough to have.
TARGET = {"type": "CPU", "targetPercent": 20}


def test_a_model_gets_pods_while_requests_come_and_no_request_fails(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"scaled-{token}"
    version = mlflow.register(model, again(2, ""))
    scaled = Rollout(kube, namespace, "scaled")
    scaling = {"minReplicas": 1, "maxReplicas": 2, "metrics": [TARGET]}
    scaled.apply(f"mlflow://{model}/{version}", {"strategy": "RollingUpdate"}, scaling=scaling)
    wait_until_ready(kube, "scaled", namespace)
    with loading(kube, namespace, installed.server_image, scaled.load({version: 2}, rate=120.0)) as load:
        wait_for(
            lambda: scaled.status().get("readyReplicas") == 2, 240, lambda: f"one pod alone: {scaled.found()}"
        )
        load.wait_for(load.so_far()["sent"] + 500, 60)
        account = load.stop()
    assert account["failed"] == 0, account["failures"]
