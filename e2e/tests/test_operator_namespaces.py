"""A namespace that is being deleted: nothing new is made in it, nothing is tried without end, and it goes."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from e2e.cluster.errors import ClusterError
from e2e.kube import Kube, Object
from e2e.tests import models
from e2e.tests.conditions import wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation
from e2e.tests.registry import Registry
from e2e.tests.stage import SMALL

HOLD = "slipway.test/hold"
QUIET_SECONDS = 30


@pytest.fixture
def protected(kube: Kube) -> Iterator[str]:
    """A namespace whose ModelDeployments a policy protects from deletion, as long as the label says so."""
    name = f"e2e-going-{secrets.token_hex(3)}"
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {HOLD: "yes", "pod-security.kubernetes.io/enforce": "restricted"},
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["slipway.dev"],
                            "apiVersions": ["*"],
                            "operations": ["DELETE"],
                            "resources": ["modeldeployments"],
                        }
                    ]
                },
                "validations": [
                    {"expression": "oldObject.metadata.name == 'held'", "message": "protected by the test"}
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {HOLD: "yes"}}},
            },
        },
    )
    wait_for(lambda: refuses_deletion(kube, name), 30, "the policy is not enforced")
    yield name
    kube.kubectl("delete", "validatingadmissionpolicybinding", name, "--ignore-not-found")
    kube.kubectl("delete", "validatingadmissionpolicy", name)
    # Where the test failed, its finalizer would hold the namespace for good.
    if kube.get("modeldeployment", "held", name):
        patch(kube, "held", name, {"metadata": {"finalizers": None}})
    kube.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def test_a_namespace_that_is_being_deleted_is_left_in_peace_and_goes(
    installed: Installation, kube: Kube, mlflow: Registry, token: str, protected: str
) -> None:
    name = f"going-{token}"
    mlflow.register(name, models.iris(), "champion")
    # One that a policy protects, and one that somebody's finalizer holds.
    kube.apply(*(model_deployment(one, protected, f"mlflow://{name}@champion") for one in ("kept", "held")))
    for one in ("kept", "held"):
        wait_until_ready(kube, one, protected)
    finalizers = {"metadata": {"finalizers": [HOLD]}}
    patch(kube, "held", protected, finalizers)

    operators = installed.pods()
    kube.kubectl("delete", "modeldeployment", "held", f"--namespace={protected}", "--wait=false")
    kube.kubectl("delete", "namespace", protected, "--wait=false")
    wait_for_condition(
        kube, "kept", "RevisionReady", "False", "NamespaceTerminating", namespace=protected, within=60
    )
    wait_for_condition(kube, "kept", "Ready", "False", "NamespaceTerminating", namespace=protected, within=60)
    wait_for(lambda: not kube.items("pods", protected), 90, "pods are left")

    began = time.monotonic()
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(QUIET_SECONDS)
    tried = writes_to(kube, installed.leader(), protected, since)
    # Each object is tried again now and then, later each time; a loop would make hundreds of these.
    assert max(tried.values(), default=0) <= 12, (tried, time.monotonic() - began)
    assert not [place for place in tried if "held" in place], tried
    assert installed.pods() == operators

    kube.kubectl("label", "namespace", protected, f"{HOLD}-")
    patch(kube, "held", protected, {"metadata": {"finalizers": None}})
    wait_for(lambda: kube.get("namespace", protected) is None, 90, "the namespace is still there")


def model_deployment(name: str, namespace: str, uri: str) -> Object:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": uri}, "runtime": SMALL},
    }


def patch(kube: Kube, name: str, namespace: str, change: Object) -> None:
    words = ["patch", "modeldeployment", name, f"--namespace={namespace}", "--type=merge"]
    kube.kubectl(*words, f"--patch={json.dumps(change)}")


def refuses_deletion(kube: Kube, namespace: str) -> bool:
    """Whether the API server knows the policy by now; it says so for a name that need not exist."""
    kube.apply(model_deployment("probe", namespace, "mlflow://nobody@nowhere"))
    try:
        kube.kubectl("delete", "modeldeployment", "probe", f"--namespace={namespace}", "--dry-run=server")
    except ClusterError as error:
        return "protected by the test" in str(error)
    return False


def writes_to(kube: Kube, leader: str, namespace: str, since: str) -> Counter[str]:
    """How often the operator tried to write each object of a namespace, by its own log."""
    words = ["logs", leader, f"--namespace={SYSTEM_NAMESPACE}", f"--since-time={since}"]
    lines = [json.loads(line) for line in kube.kubectl(*words).splitlines() if line.startswith("{")]
    return Counter(
        line["object"]
        for line in lines
        if line.get("message") == "applying" and f" {namespace}/" in line["object"]
    )
