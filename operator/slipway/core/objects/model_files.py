"""The container that brings a model's files into a pod, and the room they take there."""

from __future__ import annotations

from typing import Any

from slipway import contract
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.revision import Revision, Settings
from slipway.names import LARGEST_PROFILE


def room(revision: Revision) -> int:
    """Of the volume that the model is brought to, in MiB."""
    return pod.mebibytes(_most_bytes(revision))


def fetch_container(
    revision: Revision, settings: Settings, volume: str = "model", claim: str = "claim"
) -> dict[str, Any]:
    """Brings the model and verifies its digest; the only container that sees the store's credentials.

    Args:
        revision: whose model it is.
        settings: of the installation.
        volume: that it is brought to: ``model``, or ``baseline`` for the model that another is compared with.
        claim: name of the volume of a ``pvc://`` URI.
    """
    task = contract.FetchTask(
        uri=revision.model.resolvedURI,
        digest=revision.model.digest,
        maxBytes=_most_bytes(revision),
        profile=revision.profile,
        folder=True if revision.model.folder else None,
    )
    is_own = volume == "model"
    directory = contract.MODEL_DIR if is_own else contract.BASELINE_DIR
    elsewhere = [] if is_own else [{"name": contract.MODEL_DIR_ENV, "value": directory}]
    container: dict[str, Any] = {
        "name": naming.FETCH_CONTAINER if is_own else f"{naming.FETCH_CONTAINER}-{volume}",
        "image": settings.server_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["slipway-model", "fetch"],
        "env": [
            *pod.task_env(
                task,
                settings.mlflow_tracking_uri if _is_of_mlflow(revision) else "",
                revision.service_account,
            ),
            *elsewhere,
        ],
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "resources": pod.on_disk(
            pod.download_resources(revision.runtime.resources, settings.downloads),
            room(revision) + pod.SCRATCH_MEBIBYTES,
        ),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": volume, "mountPath": directory},
            {"name": "tmp", "mountPath": contract.TMP_DIR},
            *pod.claim_mount(revision.model.resolvedURI, claim),
        ],
    }
    if revision.credentials is not None:
        container["envFrom"] = pod.credentials_env(revision.credentials)
    return container


def _most_bytes(revision: Revision) -> int:
    """Of the model and what lies next to it: a store that now sends more, or without end, fills no disk."""
    return revision.model.bytes + LARGEST_PROFILE


def _is_of_mlflow(revision: Revision) -> bool:
    return revision.model.resolvedURI.startswith("mlflow:")
