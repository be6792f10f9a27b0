"""Who may ask a model on a real cluster: by the Service, routers, a canary and a pod's own address."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.kube import Kube
from e2e.ledger import PATIENCE
from e2e.tests import models
from e2e.tests.conditions import wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.network import address_of
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout

NAME, ROUTED = "guarded", "routed"
#: The kubelet's token, read where it is needed.
_MOUNTED = "$(cat /var/run/models/token)"
#: Through a router that splits in halves, nearly always to both of two revisions.
_MANY = 12


@dataclass(frozen=True)
class Client:
    """A pod of the ServiceAccount ``checkout``, and a key of the caller ``app``."""

    kube: Kube
    namespace: str
    key: str

    @property
    def access(self) -> Mapping[str, Any]:
        """A model's that answers it."""
        account = f"system:serviceaccount:{self.namespace}:checkout"
        return {
            "apiKeys": {"secretRef": {"name": "keys"}},
            "serviceAccounts": {},
            "allow": [{"callers": ["key:app", account], "actions": ["Metadata"]}],
        }

    @property
    def good(self) -> tuple[str, ...]:
        """What it may show."""
        return (self.key, _MOUNTED)

    def bad(self) -> Mapping[str, str]:
        """What nobody is answered for, with the status instead."""
        audience = f"--audience=slipway.dev/{self.namespace}"
        return {
            "": "401",
            secrets.token_urlsafe(32): "401",
            # One for the API server, and one of another ServiceAccount.
            self._token("checkout"): "401",
            self._token("default", audience): "403",
        }

    def codes(self, model: str, address: str, shown: str = "", times: int = 1) -> Counter[str]:
        """The statuses that it is answered."""
        said = self._ask(model, address, shown, times, "/dev/null")
        # A line of its own; what went wrong is told once more, in words.
        return Counter(re.findall(r"^\s*HTTP/1\.1 (\d{3})", said, re.MULTILINE))

    def versions(self, model: str, address: str, shown: str) -> Counter[str]:
        """The versions of a model that answer it, of many times."""
        return Counter(re.findall(r'"versions": ?\["(\w+)"\]', self._ask(model, address, shown, _MANY, "-")))

    def _ask(self, model: str, address: str, shown: str, times: int, into: str) -> str:
        header = f'--header "Authorization: Bearer {shown}"' if shown else ""
        once = f"timeout 20 wget -S -O {into} {header} http://{address}/v2/models/{model} 2>&1"
        script = f"for each in $(seq {times}); do {once}; done; true"
        within = f"--namespace={self.namespace}"
        return self.kube.kubectl("exec", "client", within, "--", "sh", "-c", script, seconds=120 * PATIENCE)

    def _token(self, account: str, *words: str) -> str:
        made = self.kube.kubectl("create", "token", account, f"--namespace={self.namespace}", *words)
        return made.strip()


@pytest.fixture(scope="module")
def client(installed: Installation, namespace: str) -> Client:
    """The pod, which is ready, and the Secret with the hash of its key."""
    kube, key = installed.kube, secrets.token_urlsafe(32)
    audience = f"slipway.dev/{namespace}"
    projected = {"serviceAccountToken": {"audience": audience, "expirationSeconds": 3600, "path": "token"}}
    within = {"namespace": namespace}
    container = {
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
            "stringData": {"app": f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", **within},
            "spec": {
                "serviceAccountName": "checkout",
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
                "volumes": [{"name": "token", "projected": {"sources": [projected]}}],
            },
        },
    )
    wait = ("wait", "pod/client", "--for=condition=Ready", f"--timeout={60 * PATIENCE:.0f}s")
    kube.kubectl(*wait, f"--namespace={namespace}", seconds=60 * PATIENCE + 10)
    return Client(kube, namespace, key)


@pytest.fixture(scope="module")
def uris(mlflow: Registry, token: str) -> list[str]:
    """Two versions of a model."""
    model = f"access-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, models.iris(each))}" for each in (1.0, 0.5)]


def test_pods_are_answered_by_key_or_by_their_service_account_and_not_otherwise(
    client: Client, uris: list[str]
) -> None:
    kube, namespace = client.kube, client.namespace
    kube.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {"model": {"uri": uris[0]}, "access": client.access},
        },
    )
    wait_for_condition(kube, NAME, "Ready", "True", namespace=namespace, within=120)
    wait_for_condition(kube, NAME, "AccessControlled", "True", "CallersChecked", namespace=namespace)
    address = address_of(kube, namespace, serving(NAME))
    bad = client.bad()
    for host in (NAME, f"{address}:8080"):
        for shown in client.good:
            assert client.codes(NAME, host, shown) == {"200": 1}
        for shown, code in bad.items():
            assert client.codes(NAME, host, shown) == {code: 1}


def test_a_router_and_the_canary_behind_it_answer_the_same_pods_and_nobody_else(
    client: Client, uris: list[str]
) -> None:
    kube, namespace = client.kube, client.namespace
    one, two = (uri.rsplit("/", 1)[1] for uri in uris)
    routed = Rollout(kube, namespace, ROUTED)
    steps = [{"setWeight": 50}, {"pause": {"untilApproved": True}}]
    routed.apply(uris[0], {"strategy": "Canary", "steps": steps}, access=client.access)
    wait_until_ready(kube, ROUTED, namespace)
    routed.wait_until_synced()
    routed.change(uris[1])
    routed.wait_for_weight(50)
    status = routed.status()
    router = address_of(kube, namespace, {"app.kubernetes.io/component": "router"})
    stable, canary = (
        address_of(kube, namespace, {**serving(ROUTED), "slipway.dev/revision": status[arm]["revision"]})
        for arm in ("stable", "canary")
    )
    # By the Service to any router, and by one router's own address.
    routers, pods = (ROUTED, f"{router}:{status['routerPort']}"), (f"{stable}:8080", f"{canary}:8080")

    def both_answer() -> bool:
        found = [set(client.versions(ROUTED, host, shown)) for host in routers for shown in client.good]
        return found == [{one, two}] * len(found)

    wait_for(both_answer, 60, "not both versions answer through routers")
    assert client.versions(ROUTED, pods[1], client.key) == {two: _MANY}
    bad = client.bad()
    for host in (*routers, *pods):
        times = _MANY if host in routers else 1
        for shown in client.good:
            assert client.codes(ROUTED, host, shown, times) == {"200": times}, host
        for shown, code in bad.items():
            assert client.codes(ROUTED, host, shown, times) == {code: times}, host


def serving(name: str) -> Mapping[str, str]:
    """Labels of a model's pods."""
    return {"slipway.dev/modeldeployment": name, "app.kubernetes.io/component": "model-server"}
