"""What stands for a cluster that nobody asks: a ModelDeployment as if it served, with the objects it has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from slipway.api.status import ModelDeploymentStatus, ModelStatus, RevisionStatus
from slipway.cli.planned import merged, plan_of
from slipway.core.observed import Fault, Manifest
from slipway.core.resolution import unresolved
from slipway.core.resource import read
from slipway.core.revision import Settings, revision_of

#: Plans that follow one another until they ask for nothing more: the stable Service comes after its revision.
_ROUNDS = 3


def assumed(
    manifest: dict[str, Any], settings: Settings, now: datetime, model: ModelStatus | None = None
) -> tuple[Manifest, list[Manifest]] | None:
    """A ModelDeployment that serves since it was applied, and its children; None where it is not valid.

    Args:
        manifest: of the ModelDeployment.
        settings: of the installation.
        now: the time, with a time zone.
        model: what its URI means; unless given, nobody has looked it up.
    """
    live = merged(manifest, None)
    resource = read(live)
    if isinstance(resource.spec, Fault):
        return None
    model = model or unresolved(resource.spec)
    stable = RevisionStatus(
        revision=revision_of(resource.spec, model).name,
        version=model.version,
        digest=model.digest,
        replicas=1,
        readyReplicas=1,
        modelCreatedAt=model.createdAt,
        profile=model.profile,
        resolvedURI=model.resolvedURI,
        bytes=model.bytes,
    )
    status = ModelDeploymentStatus(model=model, stable=stable)
    serving = {**live, "status": status.model_dump(mode="json", exclude_none=True)}
    children: dict[tuple[str, str], Manifest] = {}
    for state in [live, *[serving] * _ROUNDS]:
        found = plan_of(read(state), model, settings, now, list(children.values()))
        children |= {(str(one["kind"]), str(one["metadata"]["name"])): _as_stored(one) for one in found.apply}
    return serving, list(children.values())


def _as_stored(wanted: dict[str, Any]) -> Manifest:
    return {**wanted, "metadata": {"uid": "", **wanted["metadata"]}}
