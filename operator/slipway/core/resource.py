"""A ModelDeployment as read from the API server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Fault, Manifest, timestamp
from slipway.core.sharing import with_shared_names


@dataclass(frozen=True)
class Resource:
    """One ModelDeployment.

    Attributes:
        owner: its name, namespace and uid.
        generation: of the spec.
        spec: what is asked for, or the fault that keeps it from being read.
        status: what was reported last, as far as it can be read.
        status_fault: why some of it cannot be read, or None: nothing is to be decided then.
        raw_status: the same as the API server holds it.
        created_at: when the API server got it; None where it does not say.
        deleting: whether it is on its way out.
        annotations: of the resource; commands to a rollout are among them.
    """

    owner: Owner
    generation: int
    spec: ModelDeploymentSpec | Fault
    status: ModelDeploymentStatus
    deleting: bool
    annotations: Mapping[str, str] = field(default_factory=dict)
    status_fault: Fault | None = None
    raw_status: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


def read(manifest: Manifest, before: Resource | None = None) -> Resource:
    """Read a manifest: what the schema does not know is left aside, what it refuses is a fault.

    Args:
        manifest: as the API server holds it.
        before: the same resource in an earlier state, whose spec is not decoded again where it is the same.
    """
    meta = manifest["metadata"]
    generation = int(meta.get("generation", 0))
    # The API server counts a generation for each change of a spec.
    is_same = before is not None and (before.owner.uid, before.generation) == (meta["uid"], generation)
    status, status_fault = _status(manifest.get("status"))
    return Resource(
        owner=Owner(name=meta["name"], namespace=meta["namespace"], uid=meta["uid"]),
        generation=generation,
        spec=before.spec if before is not None and is_same else _spec(manifest),
        status=status,
        deleting="deletionTimestamp" in meta,
        annotations=meta.get("annotations") or {},
        status_fault=status_fault,
        raw_status=manifest.get("status") or {},
        created_at=timestamp(meta.get("creationTimestamp")),
    )


def _spec(manifest: Manifest) -> ModelDeploymentSpec | Fault:
    try:
        return with_shared_names(ModelDeploymentSpec.model_validate(manifest.get("spec") or {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["spec", *(str(part) for part in first["loc"])])
        return Fault(
            Reason.INVALID_RESOURCE,
            f"{where}: {first['msg']}; fix the field, or upgrade the operator if its CRD is newer",
        )


def _status(raw: Any) -> tuple[ModelDeploymentStatus, Fault | None]:
    """What can be read of it, and why not all can."""
    try:
        return with_shared_names(ModelDeploymentStatus.model_validate(raw or {})), None
    except ValidationError as error:
        errors = error.errors()
    where = ".".join(["status", *(str(part) for part in errors[0]["loc"])])
    fault = Fault(
        Reason.STATUS_FROM_ANOTHER_VERSION,
        f"{where}: {errors[0]['msg']}; another version of the operator wrote it: run that one or a newer "
        "one. What serves is left as it is until then",
    )
    return _readable(raw, [found["loc"] for found in errors]), fault


def _readable(raw: Any, faulty: list[tuple[int | str, ...]]) -> ModelDeploymentStatus:
    """Without the fields, or the items of lists, in which the faults are."""
    if not isinstance(raw, Mapping):
        return ModelDeploymentStatus()
    found = dict(raw)
    for name in {loc[0] for loc in faulty if loc}:
        value = found.pop(name, None)
        items = {loc[1] for loc in faulty if loc[0] == name and len(loc) > 1}
        if isinstance(value, list) and items:
            found[name] = [item for number, item in enumerate(value) if number not in items]
    try:
        return ModelDeploymentStatus.model_validate(found)
    except ValidationError:
        return ModelDeploymentStatus()
