"""Two replicas, of which one leads: one that was stopped writes nothing when it goes on."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime

import pytest

from e2e.kube import Object
from e2e.tests import figures, models
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation
from e2e.tests.registry import Registry

STOPPED = 30.0
#: What the operator logs before each write.
WRITES = ("applying", "deleting", "claiming")


@pytest.mark.alone
def test_a_leader_that_was_stopped_for_30_seconds_writes_nothing_and_hands_over(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"leaders-{token}"
    uri = f"mlflow://{model}/{mlflow.register(model, models.iris(1.0))}"
    kube.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "leaders", "namespace": namespace},
            "spec": {
                "model": {"uri": uri},
                "runtime": {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}},
            },
        }
    )
    wait_until_ready(kube, "leaders", namespace)
    before = _lease(installed)
    pod = _pod(installed, figures.leader(kube))
    with figures.killer(installed, f"stopper-{token}") as stopper:
        # It has work that it did not get to when it stops.
        _scale(installed, namespace, 2)
        assert stopper.signal(pod, signal.SIGSTOP)
        began = time.monotonic()
        _scale(installed, namespace, 3)
        wait_for(
            lambda: figures.leader(kube) not in ("", pod["metadata"]["name"]),
            25,
            "nobody took the lease over",
        )
        wait_until_ready(kube, "leaders", namespace)
        time.sleep(max(0.0, began + STOPPED - time.monotonic()))
        went_on = datetime.now(UTC)
        assert stopper.signal(pod, signal.SIGCONT)
        wait_for(
            lambda: _restarts(_pod(installed, pod["metadata"]["name"])) > _restarts(pod),
            30,
            "the old leader did not end",
        )
        leader = figures.leader(kube)
        version = kube.get("modeldeployment", "leaders", namespace)
        assert leader != pod["metadata"]["name"]
    words = ("logs", pod["metadata"]["name"], f"--namespace={SYSTEM_NAMESPACE}", "--previous")
    lines = [json.loads(line) for line in kube.kubectl(*words).splitlines() if line.startswith("{")]
    late = [line for line in lines if _time(line) > went_on]
    assert [line for line in late if line["message"] in WRITES] == []
    transitions = [int(found["spec"].get("leaseTransitions") or 0) for found in (before, _lease(installed))]
    assert transitions[1] == transitions[0] + 1
    # What the second one reported stands.
    time.sleep(5)
    after = kube.get("modeldeployment", "leaders", namespace)
    assert version is not None
    assert after is not None
    assert after["status"]["observedGeneration"] == version["metadata"]["generation"]
    assert after["status"]["operator"] == f"{SYSTEM_NAMESPACE}/{figures.LEASE}"


def _lease(installed: Installation) -> Object:
    found = installed.kube.get("lease", figures.LEASE, SYSTEM_NAMESPACE)
    assert found is not None
    return found


def _pod(installed: Installation, name: str) -> Object:
    found = installed.kube.get("pod", name, SYSTEM_NAMESPACE)
    assert found is not None
    return found


def _restarts(pod: Object) -> int:
    return sum(int(found["restartCount"]) for found in pod["status"]["containerStatuses"])


def _scale(installed: Installation, namespace: str, replicas: int) -> None:
    patch = json.dumps({"spec": {"scaling": {"minReplicas": replicas, "maxReplicas": 4}}})
    installed.kube.kubectl(
        "patch", "modeldeployment", "leaders", f"--namespace={namespace}", "--type=merge", f"--patch={patch}"
    )


def _time(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["time"])
