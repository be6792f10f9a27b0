"""Slipway as the tests install it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e import services
from e2e.cluster.settings import Settings
from e2e.helm import IMAGES, RELEASE, Helm, image_values
from e2e.helm import NAMESPACE as SYSTEM_NAMESPACE
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube

__all__ = [
    "MLFLOW_ADDRESS",
    "RELEASE",
    "SYSTEM_NAMESPACE",
    "Installation",
    "install",
    "temporary_namespace",
]

MLFLOW_ADDRESS = "http://mlflow.mlflow:5000"
GATEWAYS = {"namespaces": ["*"], "gateways": ["envoy-gateway/public"], "hostnames": ["*"]}


PROMETHEUS_ADDRESS = "http://prometheus.monitoring:9090"
#: The Secret with the webhook's token, and the token.
WEBHOOK, WEBHOOK_TOKEN = "slipway-webhook", "only-for-tests"


@dataclass(frozen=True)
class Installation:
    """The operator's release, and the images it was installed with, as `name@sha256:…`."""

    kube: Kube
    helm: Helm
    operator_image: str
    server_image: str
    audit_image: str
    router_image: str

    def pods(self) -> list[str]:
        """The operator's pods, each with its uid and how often it was restarted."""
        found = self.kube.items("pods", SYSTEM_NAMESPACE, f"app.kubernetes.io/instance={RELEASE}")
        return sorted(
            f"{pod['metadata']['name']} {pod['metadata']['uid']} {status['restartCount']}"
            for pod in found
            if "deletionTimestamp" not in pod["metadata"]
            for status in pod["status"].get("containerStatuses", ())
        )

    def leader(self) -> str:
        """The operator's pod that acts now."""
        leases = self.kube.items("leases", SYSTEM_NAMESPACE)
        [holder] = {
            found["spec"]["holderIdentity"] for found in leases if found["spec"].get("holderIdentity")
        }
        return str(holder)


def install(settings: Settings, kube: Kube) -> Installation:
    """Build, load and install what this checkout holds, with MLflow beside it; what is there stays."""
    services.start(["mlflow"], settings)
    images = load(build(map(find_image, IMAGES), settings.cache), settings)
    helm = Helm.of(settings)
    kube.ensure_namespace(SYSTEM_NAMESPACE)
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": WEBHOOK, "namespace": SYSTEM_NAMESPACE},
            "stringData": {"token": WEBHOOK_TOKEN},
        }
    )
    made = Installation(kube, helm, **{f"{short}_image": images[short] for short in IMAGES})
    helm.upgrade(RELEASE, SYSTEM_NAMESPACE, installation_values(made))
    return made


def installation_values(installed: Installation) -> dict[str, Any]:
    """The chart's values of the tests' release."""
    values = image_values(
        {short: getattr(installed, f"{short}_image") for short in IMAGES},
        mlflow={"trackingURI": MLFLOW_ADDRESS},
        gatewayAPI={"allow": [GATEWAYS]},
        rollouts={"prometheus": {"addresses": [PROMETHEUS_ADDRESS]}},
        webhook={"tokenSecret": {"name": WEBHOOK}},
    )
    # Each namespace of a test has two, and a node of two cores room for few.
    values["router"]["resources"] = {"requests": {"cpu": "50m"}}
    return values


@contextmanager
def temporary_namespace(kube: Kube, prefix: str = "e2e") -> Iterator[str]:
    """A namespace of the restricted pod standard; its deletion is begun at the end and not waited for."""
    name = f"{prefix}-{secrets.token_hex(4)}"
    kube.ensure_namespace(name)
    try:
        yield name
    finally:
        kube.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
