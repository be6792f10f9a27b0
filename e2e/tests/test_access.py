"""Who may ask a model on a real cluster: by the Service and by a pod's own address."""

from __future__ import annotations

import hashlib
import re
import secrets

from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.kube import Kube
from e2e.ledger import PATIENCE
from e2e.tests import models
from e2e.tests.conditions import wait_for_condition
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry

NAME = "guarded"
#: The kubelet's token, read where it is needed.
_MOUNTED = "$(cat /var/run/models/token)"


def code(kube: Kube, namespace: str, address: str, shown: str = "") -> str:
    """The status that a pod of the ServiceAccount ``checkout`` is answered."""
    header = f'--header "Authorization: Bearer {shown}"' if shown else ""
    command = f"timeout 20 wget -S -O /dev/null {header} http://{address}/v2/models/{NAME} 2>&1 || true"
    said = kube.kubectl("exec", "client", f"--namespace={namespace}", "--", "sh", "-c", command)
    found = re.search(r"HTTP/1\.1 (\d{3})", said)
    return found[1] if found else said


def test_pods_are_answered_by_key_or_by_their_service_account_and_not_otherwise(
    installed: Installation, namespace: str, mlflow: Registry, token: str
) -> None:
    kube, key = installed.kube, secrets.token_urlsafe(32)
    model = f"access-{token}"
    version = mlflow.register(model, models.iris())
    digest = hashlib.sha256(key.encode()).hexdigest()
    audience = f"slipway.dev/{namespace}"
    projected = {"serviceAccountToken": {"audience": audience, "expirationSeconds": 3600, "path": "token"}}
    within = {"namespace": namespace}
    client = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "command": ["sleep", "3600"],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/models"}],
    }
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "checkout", **within}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", **within},
            "stringData": {"app": f"sha256:{digest}"},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", **within},
            "spec": {
                "serviceAccountName": "checkout",
                "terminationGracePeriodSeconds": 0,
                "containers": [client],
                "volumes": [{"name": "token", "projected": {"sources": [projected]}}],
            },
        },
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": NAME, **within},
            "spec": {
                "model": {"uri": f"mlflow://{model}/{version}"},
                "access": {
                    "apiKeys": {"secretRef": {"name": "keys"}},
                    "serviceAccounts": {},
                    "allow": [
                        {
                            "callers": ["key:app", f"system:serviceaccount:{namespace}:checkout"],
                            "actions": ["Metadata"],
                        }
                    ],
                },
            },
        },
    )
    wait_for_condition(kube, NAME, "Ready", "True", namespace=namespace, within=120)
    wait_for_condition(kube, NAME, "AccessControlled", "True", "CallersChecked", namespace=namespace)
    wait = ("wait", "pod/client", "--for=condition=Ready", f"--timeout={60 * PATIENCE:.0f}s")
    kube.kubectl(*wait, f"--namespace={namespace}", seconds=60 * PATIENCE + 10)

    def created(account: str, *words: str) -> str:
        return kube.kubectl("create", "token", account, f"--namespace={namespace}", *words).strip()

    label = f"slipway.dev/modeldeployment={NAME},app.kubernetes.io/component=model-server"
    where = ("get", "pods", f"--namespace={namespace}", f"--selector={label}")
    address = kube.kubectl(*where, "--output=jsonpath={.items[0].status.podIP}").strip()
    other = created("default", f"--audience={audience}")
    for host in (NAME, f"{address}:8080"):
        assert code(kube, namespace, host, key) == "200"
        assert code(kube, namespace, host, _MOUNTED) == "200"
        assert code(kube, namespace, host) == "401"
        assert code(kube, namespace, host, secrets.token_urlsafe(32)) == "401"
        # One for the API server, and one of another ServiceAccount.
        assert code(kube, namespace, host, created("checkout")) == "401"
        assert code(kube, namespace, host, other) == "403"
