"""Pods that only try whom they reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.kube import Kube, Object
from e2e.tests.pods import CONFINED, RESTRICTED


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


def of_namespace(name: str, pods: Mapping[str, str] | None = None) -> Object:
    """A peer: pods of a namespace, all or those with these labels."""
    found: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
    return found | ({"podSelector": {"matchLabels": dict(pods)}} if pods else {})
