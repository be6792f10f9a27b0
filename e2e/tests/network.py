"""Pods that only try whom they reach, and NetworkPolicies for what docs/pods.md says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.kube import Kube, Object
from e2e.tests.pods import CONFINED, RESTRICTED

MANAGED_BY = {"app.kubernetes.io/managed-by": "slipway"}
COMPONENT, MODEL = "app.kubernetes.io/component", "slipway.dev/modeldeployment"


@dataclass(frozen=True)
class Address:
    """A port of a pod, by the pod's own address: no Service is in between."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Caller:
    """A pod that tries connections."""

    kube: Kube
    namespace: str
    name: str

    @classmethod
    def start(cls, kube: Kube, namespace: str, name: str) -> Caller:
        """Its label `app` is its name."""
        container = {
            "name": "main",
            "image": BUSYBOX_IMAGE,
            "command": ["sleep", "3600"],
            "securityContext": CONFINED,
        }
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": RESTRICTED,
                    "containers": [container],
                },
            }
        )
        return cls(kube, namespace, name)

    def wait(self) -> None:
        words = ("wait", f"pod/{self.name}", "--for=condition=Ready", "--timeout=240s")
        self.kube.kubectl(*words, f"--namespace={self.namespace}", seconds=270)

    def reached(self, addresses: Iterable[Address]) -> set[Address]:
        """To which of these a connection is made; all are tried at once."""
        tried = [
            f"(nc -w 3 {one.host} {one.port} -e /bin/true 2> /dev/null && echo {one}) &" for one in addresses
        ]
        said = self._run(" ".join([*tried, "wait"])).split()
        return {one for one in addresses if str(one) in said}

    def answers(self, url: str) -> str:
        """The answer to a GET; empty where there is none."""
        return self._run(f"timeout 5 wget -q -O - {url} 2> /dev/null || true")

    def _run(self, script: str) -> str:
        return self.kube.kubectl("exec", self.name, f"--namespace={self.namespace}", "--", "sh", "-c", script)


def address_of(kube: Kube, namespace: str, labels: Mapping[str, str]) -> str:
    """The address of a pod that is ready and has these labels."""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    found = [
        pod["status"]["podIP"]
        for pod in kube.items("pods", namespace, selector)
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            (one["type"], one["status"]) == ("Ready", "True") for one in pod["status"].get("conditions", ())
        )
    ]
    assert found, f"no pod of {namespace} with {selector} is ready"
    return str(found[0])


def policy(
    namespace: str,
    name: str,
    pods: Object,
    *,
    into: list[Object] | None = None,
    out: list[Object] | None = None,
) -> Object:
    """A NetworkPolicy for pods by their selector, with rules for what comes in and what goes out."""
    rules = {"ingress": into, "egress": out}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": pods,
            "policyTypes": [kind.capitalize() for kind, found in rules.items() if found is not None],
            **{kind: found for kind, found in rules.items() if found is not None},
        },
    }


def component(*names: str, but: Sequence[str] = ()) -> Object:
    """Selects pods of Slipway by what they are, but those of these ModelDeployments."""
    expressions: list[Object] = [{"key": COMPONENT, "operator": "In", "values": list(names)}]
    if but:
        expressions.append({"key": MODEL, "operator": "NotIn", "values": list(but)})
    return {"matchLabels": MANAGED_BY, "matchExpressions": expressions}


def of_namespace(name: str, pods: Mapping[str, str] | None = None) -> Object:
    """A peer: pods of a namespace, all or those with these labels."""
    found: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return found | ({"podSelector": {"matchLabels": dict(pods)}} if pods else {})


def ports(*numbers: int, end: int | None = None, protocol: str = "TCP") -> list[Object]:
    """Ports of a rule; up to ``end`` where it is given."""
    upto = {"endPort": end} if end is not None else {}
    return [{"port": number, "protocol": protocol, **upto} for number in numbers]


def shown(kube: Kube, namespace: str, name: str) -> str:
    """The status of a ModelDeployment, to be read where a test fails."""
    found = kube.get("modeldeployment", name, namespace) or {}
    return json.dumps(found.get("status", {}), indent=1)
