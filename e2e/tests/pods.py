"""Pods that stand beside the models in the tests: a web server with models, and a client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme

from e2e.kube import Kube, Object
from e2e.tests.web_server import INTERN, READER

__all__ = ["INTERN", "READER", "Client", "Web", "placed", "script_pod"]

HERE = Path(__file__).parent
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def script_pod(
    name: str,
    script: str,
    image: str,
    env: Mapping[str, str],
    ready_port: int | None = None,
    secret: str | None = None,
) -> tuple[Object, Object]:
    """A ConfigMap `NAME` with a script of this folder, and the template of a pod that runs it."""
    volumes: list[Object] = [{"name": "script", "configMap": {"name": name}}]
    mounts = [{"name": "script", "mountPath": "/script"}]
    if secret:
        volumes.append({"name": "tls", "secret": {"secretName": secret}})
        mounts.append({"name": "tls", "mountPath": "/tls"})
    container: Object = {
        "name": "main",
        "image": image,
        "command": ["python", f"/script/{script}"],
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": CONFINED,
        "volumeMounts": mounts,
    }
    if ready_port is not None:
        container["readinessProbe"] = {"tcpSocket": {"port": ready_port}, "periodSeconds": 1}
    return (
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {script: (HERE / script).read_text()},
        },
        {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": RESTRICTED,
                "containers": [container],
                "volumes": volumes,
            },
        },
    )


@dataclass(frozen=True)
class Web:
    """The web server of `web_server.py`, as Deployment and Service of one name."""

    kube: Kube
    namespace: str
    name: str
    authority: str
    """PEM of who signed its certificate."""

    @classmethod
    def deploy(
        cls, kube: Kube, namespace: str, name: str, image: str, upstream: str, replicas: int = 1
    ) -> Web:
        authority = trustme.CA()
        issued = authority.issue_cert(f"{name}.{namespace}.svc")
        config, template = script_pod(
            name, "web_server.py", image, {"UPSTREAM": upstream}, ready_port=8000, secret=f"{name}-tls"
        )
        tls = {
            "tls.crt": b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
            "tls.key": issued.private_key_pem.bytes().decode(),
        }
        objects: list[Object] = [
            config,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": f"{name}-tls"},
                "stringData": tls,
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {
                    "selector": {"app": name},
                    "ports": [{"name": "https", "port": 8443}, {"name": "http", "port": 5000}],
                },
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": name}},
                    "template": template,
                },
            },
        ]
        kube.apply(*(placed(one, namespace) for one in objects))
        if replicas:
            kube.wait_for_rollout(f"deployment/{name}", namespace, 120)
        return cls(kube, namespace, name, authority.cert_pem.bytes().decode())

    @property
    def url(self) -> str:
        """Its address by TLS, from inside the cluster."""
        return f"https://{self.name}.{self.namespace}.svc:8443"

    @property
    def plain_url(self) -> str:
        """Its address without TLS, from inside the cluster."""
        return f"http://{self.name}.{self.namespace}.svc:5000"

    @contextmanager
    def control(self) -> Iterator[Shelf]:
        """A way to put files there."""
        with self.kube.port_forward(f"deployment/{self.name}", self.namespace, 8000) as url:
            yield Shelf(url, self.url)


@dataclass(frozen=True)
class Shelf:
    """The files of a web server."""

    control_url: str
    url: str

    def put(self, path: str, body: bytes, announced: int | None = None) -> str:
        """Put a file, or replace it; returns its address for clients."""
        headers = {} if announced is None else {"Announced": str(announced)}
        httpx.put(f"{self.control_url}{path}", content=body, headers=headers, timeout=30).raise_for_status()
        return f"{self.url}{path}"


@dataclass(frozen=True)
class Client:
    """The client of `steady_client.py`, as a pod."""

    kube: Kube
    namespace: str
    name: str

    @classmethod
    def start(
        cls, kube: Kube, namespace: str, name: str, image: str, url: str, body: Any, expected: list[Any]
    ) -> Client:
        env = {"URL": url, "BODY": json.dumps(body), "EXPECTED": json.dumps(expected)}
        config, template = script_pod(name, "steady_client.py", image, env)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template["metadata"]},
            "spec": template["spec"] | {"restartPolicy": "Never"},
        }
        kube.apply(placed(config, namespace), placed(pod, namespace))
        return cls(kube, namespace, name)

    def tally(self) -> dict[str, Any]:
        """Right and wrong answers so far; empty before the first."""
        lines = self.kube.kubectl("logs", self.name, f"--namespace={self.namespace}", "--tail=1").split("\n")
        told: dict[str, Any] = json.loads(lines[0]) if lines[0] else {}
        return told


def placed(one: Object, namespace: str) -> Object:
    """The same object in a namespace."""
    return one | {"metadata": one["metadata"] | {"namespace": namespace}}
