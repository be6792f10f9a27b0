"""Services: the one that clients use, and one per revision."""

from __future__ import annotations

from typing import Any

from slipway.contract import GRPC_PORT, HTTP_PORT
from slipway.core import names
from slipway.core.build.metadata import Owner, metadata


def stable_service(owner: Owner, revision: str) -> dict[str, Any]:
    """The Service that carries the ModelDeployment's name and leads to the pods of one revision."""
    return _service(owner, owner.name, names.labels(owner.name, "route"), revision)


def revision_service(owner: Owner, revision: str) -> dict[str, Any]:
    """The Service of one revision, whatever share of traffic that has."""
    return _service(
        owner,
        names.revision_object(owner.name, revision),
        names.labels(owner.name, "model-server", revision),
        revision,
    )


def _service(owner: Owner, name: str, labels: dict[str, str], revision: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, name, labels),
        "spec": {
            "type": "ClusterIP",
            "selector": names.pod_selector(owner.name, revision),
            "ports": [
                # Port 80 needs no number in a URL; the pods' own port is there for clients that know it.
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
                {
                    "name": "http-oip",
                    "port": HTTP_PORT,
                    "targetPort": "http",
                    "protocol": "TCP",
                    "appProtocol": "http",
                },
                {
                    "name": "grpc",
                    "port": GRPC_PORT,
                    "targetPort": "grpc",
                    "protocol": "TCP",
                    # What Gateway API knows; "grpc" is known to some meshes only.
                    "appProtocol": "kubernetes.io/h2c",
                },
            ],
        },
    }
