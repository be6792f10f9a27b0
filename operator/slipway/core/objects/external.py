"""The container of a server of one's own: ``spec.runtime.server: External``."""

from __future__ import annotations

from typing import Any

from slipway import contract
from slipway.api.external import DEFAULT_PATH, Ports
from slipway.api.status import ServerStatus
from slipway.api.types import Runtime
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.metadata import Owner
from slipway.core.revision import Revision, Settings

#: A leaving pod stays so long before it is told to end: routers and Services send it nothing any more then.
LEAVING_SECONDS = 10


def is_external(runtime: Runtime) -> bool:
    """Whether a server of one's own runs the model."""
    return runtime.server == "External"


def reached(runtime: Runtime) -> ServerStatus | None:
    """Where such a server is reached; None for Slipway's own."""
    if not is_external(runtime):
        return None
    ports = runtime.ports or Ports()
    path = runtime.readiness.path if runtime.readiness is not None else DEFAULT_PATH
    return ServerStatus(httpPort=ports.http, grpcPort=ports.grpc, readyPath=path)


def external_server(owner: Owner, revision: Revision, settings: Settings, room: int) -> dict[str, Any]:
    """Its container; ``room`` is for the model, in MiB.

    It is called as Slipway's own is, and its ports too, so that Services and whoever reads pods find it.
    """
    runtime, model = revision.runtime, revision.model
    ports = runtime.ports or Ports()
    path = runtime.readiness.path if runtime.readiness is not None else DEFAULT_PATH
    told = {
        "SLIPWAY_MODEL_DIR": contract.MODEL_DIR,
        "SLIPWAY_MODEL_NAME": owner.name,
        "SLIPWAY_MODEL_VERSION": model.version,
        "SLIPWAY_MODEL_DIGEST": model.digest,
        "SLIPWAY_HTTP_PORT": str(ports.http),
        **({"SLIPWAY_GRPC_PORT": str(ports.grpc)} if ports.grpc is not None else {}),
        # Nothing else can be written to.
        "HOME": contract.TMP_DIR,
    }
    own = {each.name for each in runtime.env}
    grpc = [{"name": "grpc", "containerPort": ports.grpc, "protocol": "TCP"}] if ports.grpc else []
    return {
        "name": naming.SERVER_CONTAINER,
        "image": runtime.image,
        "imagePullPolicy": settings.image_pull_policy,
        **({"command": list(runtime.command)} if runtime.command else {}),
        **({"args": list(runtime.args)} if runtime.args else {}),
        "env": [
            *({"name": name, "value": value} for name, value in told.items() if name not in own),
            *pod.plain_env(runtime.env),
        ],
        "ports": [{"name": "http", "containerPort": ports.http, "protocol": "TCP"}, *grpc],
        "readinessProbe": {
            "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "resources": pod.on_disk(pod.resources(runtime.resources), room + pod.SCRATCH_MEBIBYTES),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "model", "mountPath": contract.MODEL_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": contract.TMP_DIR},
        ],
    }
