"""Services: the one that clients use, and one per revision."""

from __future__ import annotations

from typing import Any

from slipway.contract import GRPC_PORT, HTTP_PORT
from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata

#: HTTP/2 without TLS, by the name that Kubernetes gives it; "grpc" is known to some meshes alone.
_GRPC = "kubernetes.io/h2c"


def stable_service(owner: Owner, revision: str, tls: bool = False) -> dict[str, Any]:
    """The Service that carries the ModelDeployment's name and leads to the pods of one revision."""
    return _client_service(owner, naming.pod_selector(owner.name, revision), "http", "grpc", tls)


def routed_service(owner: Owner, port: int, routers: str = "") -> dict[str, Any]:
    """The same Service, leading to the ModelDeployment's listener on a group of routers.

    The listener tells gRPC and REST apart by itself. ``routers`` is the name of the ModelDeployment whose own
    they are; empty for those of the namespace.
    """
    return _client_service(owner, naming.router_labels(routers), port, port)


def shared_service(owner: Owner, selector: dict[str, str], tls: bool = False) -> dict[str, Any]:
    """The same Service, leading to whichever pods the selector says."""
    return _client_service(owner, selector, "http", "grpc", tls)


def revision_service(owner: Owner, revision: str) -> dict[str, Any]:
    """The Service of one revision, whatever share of traffic that has.

    Headless: a router has to know every pod, to count, to check and to balance between them.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(
            owner,
            naming.revision_object(owner.name, revision),
            naming.labels(owner.name, "model-server", revision),
        ),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": naming.pod_selector(owner.name, revision),
            "ports": [_port("http", HTTP_PORT, "http"), _port("grpc", GRPC_PORT, "grpc", _GRPC)],
        },
    }


def _client_service(
    owner: Owner, selector: dict[str, str], http: str | int, grpc: str | int, tls: bool = False
) -> dict[str, Any]:
    rest, rpc = ("https", None) if tls else ("http", _GRPC)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name, naming.labels(owner.name, "route")),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            # Port 80 needs no number in a URL; the pods' own port is there for clients that know it.
            "ports": [
                _port("http", 80, http, rest),
                _port("http-oip", HTTP_PORT, http, rest),
                _port("grpc", GRPC_PORT, grpc, rpc),
            ],
        },
    }


def _port(name: str, port: int, target: str | int, protocol: str | None = "http") -> dict[str, Any]:
    """``protocol`` is None where Kubernetes has no name for it, as for gRPC by TLS."""
    told = {} if protocol is None else {"appProtocol": protocol}
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP", **told}
