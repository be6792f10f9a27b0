"""A ModelDeployment as read from the API server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.build.metadata import Owner
from slipway.core.observed import Fault, Manifest


@dataclass(frozen=True)
class Resource:
    """One ModelDeployment.

    Attributes:
        owner: its name, namespace and uid.
        generation: of the spec.
        spec: what is asked for, or the fault that keeps it from being read.
        status: what was reported last; empty if it cannot be read.
        deleting: whether it is on its way out.
        annotations: of the resource; commands to a rollout are among them.
    """

    owner: Owner
    generation: int
    spec: ModelDeploymentSpec | Fault
    status: ModelDeploymentStatus
    deleting: bool
    annotations: Mapping[str, str] = field(default_factory=dict)


def read(manifest: Manifest) -> Resource:
    """Read a manifest: what the schema does not know is left aside, what it refuses is a fault."""
    meta = manifest["metadata"]
    return Resource(
        owner=Owner(name=meta["name"], namespace=meta["namespace"], uid=meta["uid"]),
        generation=int(meta.get("generation", 0)),
        spec=_spec(manifest),
        status=_status(manifest),
        deleting="deletionTimestamp" in meta,
        annotations=meta.get("annotations") or {},
    )


def _spec(manifest: Manifest) -> ModelDeploymentSpec | Fault:
    try:
        return ModelDeploymentSpec.model_validate(manifest.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["spec", *(str(part) for part in first["loc"])])
        return Fault(
            Reason.INVALID_RESOURCE,
            f"{where}: {first['msg']}; mend the field, or upgrade the operator if its CRD is newer",
        )


def _status(manifest: Manifest) -> ModelDeploymentStatus:
    try:
        return ModelDeploymentStatus.model_validate(manifest.get("status") or {})
    except ValidationError:
        return ModelDeploymentStatus()
