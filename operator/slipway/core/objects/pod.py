"""What serving pods and resolver pods have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from slipway import contract
from slipway.api.container import EnvVar, ResourceList, Resources
from slipway.api.pods import SKIPPED_CONTAINERS, PodOptions, TopologySpread
from slipway.api.types import Runtime
from slipway.core import naming
from slipway.core.objects.diff import quantity
from slipway.core.objects.metadata import Owner
from slipway.core.objects.service_account import pulling

#: The user that the images run as.
USER_ID = 65532

POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
#: Downloading streams, so that it needs little whatever the model's size; and as a pod asks for what the
#: neediest of its containers does, this must not be what keeps a small model from being scheduled.
DOWNLOAD_RESOURCES: dict[str, Any] = {
    "requests": {"cpu": "5m", "memory": "32Mi"},
    "limits": {"memory": "256Mi"},
}

_MEBIBYTE = 1024 * 1024
#: Scratch space of a pod; nothing of Slipway's writes there, but libraries may.
SCRATCH_MEBIBYTES = 64
#: For the logs that the kubelet keeps of each container (50 MiB unless it is told otherwise), and for others.
_LOG_MEBIBYTES = 512

#: Amounts of a container, as in a pod: ``requests`` and ``limits`` by name.
Amounts = Mapping[str, Mapping[str, str]]

_CLAIM = re.compile(r"^pvc://([^/]+)/")


def task_env(
    task: BaseModel, mlflow_tracking_uri: str, service_account: str | None = None
) -> list[dict[str, Any]]:
    """Environment of ``slipway-model``; with a ServiceAccount it enters stores by that one's identity."""
    env = [{"name": contract.MODEL_TASK_ENV, "value": task.model_dump_json(exclude_none=True)}]
    if service_account is not None:
        env.append({"name": contract.STORE_IDENTITY_ENV, "value": service_account})
    if mlflow_tracking_uri:
        env.append({"name": contract.MLFLOW_TRACKING_URI_ENV, "value": mlflow_tracking_uri})
    return env


def credentials_env(secret: str | None) -> list[dict[str, Any]]:
    """``envFrom`` that brings a Secret's keys under a prefix: none can stand in for another variable."""
    if secret is None:
        return []
    return [{"prefix": contract.CREDENTIAL_ENV_PREFIX, "secretRef": {"name": secret}}]


def plain_env(variables: Iterable[EnvVar]) -> list[dict[str, Any]]:
    """Variables of a container. An empty value is left out, as the API server does."""
    return [{"name": var.name, **({"value": var.value} if var.value else {})} for var in variables]


def resources(asked: Resources) -> dict[str, Any]:
    """What a container asks for and may use at most."""
    # Without a CPU request there is nothing for the autoscaler to measure against.
    extended = {name: str(amount) for name, amount in asked.extended.items()}
    requests = {"cpu": "100m", **_amounts(asked.requests), **extended}
    limits = {**_amounts(asked.limits), **extended}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def download_resources(asked: Resources, installed: Amounts | None = None) -> dict[str, Any]:
    """What a container that brings a model may use: as installed, and whatever else the resource limits.

    A quota on limits of the CPU, say, wants every container of a pod to have one. Devices are for what
    serves: a resolver that waited for a GPU would wait for the model that has it.
    """
    found = installed or DOWNLOAD_RESOURCES
    limits = {**_amounts(asked.limits), **found.get("limits", {})}
    requests = {
        name: amount if name not in limits or quantity(amount) <= quantity(limits[name]) else limits[name]
        for name, amount in found.get("requests", {}).items()
    }
    return {"requests": requests, **({"limits": limits} if limits else {})}


def mebibytes(size: int) -> int:
    """Room on a disk for files of so many bytes, whose blocks are counted whole."""
    return math.ceil(size * 1.05 / _MEBIBYTE) + 16


def scratch(room: int) -> dict[str, Any]:
    """An ``emptyDir`` of so many MiB."""
    return {"sizeLimit": f"{room}Mi"}


def on_disk(resources: Mapping[str, Any], room: int) -> dict[str, Any]:
    """These amounts, and so many MiB of the node's disk: asked for, and with a log limited to.

    Without a request the scheduler puts any number of large models onto a node; without a limit whatever
    writes without end is stopped only when the node evicts whom it likes.
    """
    return {
        "requests": {**resources.get("requests", {}), "ephemeral-storage": f"{room}Mi"},
        "limits": {**resources.get("limits", {}), "ephemeral-storage": f"{room + _LOG_MEBIBYTES}Mi"},
    }


def _amounts(amounts: ResourceList) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.model_dump(exclude_none=True).items()}


def claim_of(uri: str) -> str | None:
    """The PersistentVolumeClaim that a ``pvc://`` URI names, or None."""
    found = _CLAIM.match(uri)
    return found.group(1) if found else None


def claim_volume(uri: str, name: str = "claim") -> list[dict[str, Any]]:
    """The volume of a ``pvc://`` URI, read-only."""
    claim = claim_of(uri)
    if claim is None:
        return []
    return [{"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}]


def claim_mount(uri: str, name: str = "claim") -> list[dict[str, Any]]:
    """Where that volume is mounted."""
    if claim_of(uri) is None:
        return []
    return [{"name": name, "mountPath": contract.PVC_MOUNT_DIR, "readOnly": True}]


def meta(
    options: PodOptions, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """``metadata`` of pods: what people want in it, and what is Slipway's before that."""
    found = {**options.annotations, **(annotations or {})}
    return {"labels": {**options.labels, **labels}, **({"annotations": found} if found else {})}


def skipped(options: PodOptions, container: str = naming.SERVER_CONTAINER) -> dict[str, str]:
    """Annotations that keep a ServiceAccount's credentials from the container that runs the model."""
    return dict.fromkeys(SKIPPED_CONTAINERS, container) if options.serviceAccountName else {}


def without_credentials(service_account: str | None) -> list[dict[str, Any]]:
    """Where the pod's ServiceAccount opens stores, a webhook may put that into every container."""
    if service_account is None:
        return []
    return [{"name": contract.WITHOUT_CREDENTIALS_ENV, "value": "true"}]


def under(options: PodOptions, service_account: str | None) -> PodOptions:
    """What holds for pods that bring a model by the identity of a ServiceAccount: they run under it."""
    if service_account is None:
        return options
    return options.model_copy(update={"serviceAccountName": service_account})


def identity(owner: Owner, options: PodOptions, own: PodOptions, installed: Iterable[str]) -> dict[str, Any]:
    """Under which ServiceAccount pods of a model run, and what their images are pulled with.

    The ServiceAccount that Slipway makes brings the installation's Secrets. Pods that name any get none of
    those, and pods that cannot be pulled are made again for what their ModelDeployment names.

    Args:
        owner: the ModelDeployment.
        options: what holds for the pods.
        own: what of it the ModelDeployment says.
        installed: Secrets of the installation.
    """
    name = options.serviceAccountName or naming.service_account(owner.name)
    found = {"serviceAccountName": name, "automountServiceAccountToken": False}
    if own.imagePullSecrets or options.serviceAccountName:
        return {**found, **pulling(pulled(own, installed))}
    return found


def pulled(own: PodOptions, installed: Iterable[str]) -> tuple[str, ...]:
    """Secrets to pull with: of the installation, whose images are pulled too, and of a ModelDeployment."""
    return tuple(dict.fromkeys((*installed, *(found.name for found in own.imagePullSecrets))))


def classes(options: PodOptions) -> dict[str, str]:
    """What the cluster's administrators named for pods to take."""
    found = {
        "priorityClassName": options.priorityClassName,
        "runtimeClassName": options.runtimeClassName,
    }
    return {name: value for name, value in found.items() if value is not None}


def spread(options: PodOptions, selector: Mapping[str, str]) -> list[dict[str, Any]]:
    """How the pods that a selector finds lie over nodes, or what was said instead."""
    return [
        {
            "maxSkew": found.maxSkew,
            "topologyKey": found.topologyKey,
            "whenUnsatisfiable": found.whenUnsatisfiable,
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for found in options.topologySpread or (TopologySpread(topologyKey="kubernetes.io/hostname"),)
    ]


def placement(runtime: Runtime) -> dict[str, Any]:
    """Where pods may run, as the resource says."""
    placed: dict[str, Any] = {}
    if runtime.nodeSelector:
        placed["nodeSelector"] = dict(runtime.nodeSelector)
    if runtime.tolerations:
        placed["tolerations"] = [found.model_dump(exclude_none=True) for found in runtime.tolerations]
    if runtime.affinity:
        placed["affinity"] = dict(runtime.affinity)
    return placed
