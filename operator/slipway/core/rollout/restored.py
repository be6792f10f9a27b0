"""A ModelDeployment that was brought here with its status, from a backup or from another cluster.

Its children do not come with it, or are deleted at once since their owner has another uid. See
docs/adr/0021-restored-with-status.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import ModelStatus, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.metadata import Owner
from slipway.core.observed import ObjectKind, Observed, revision_of_object, timestamp
from slipway.core.resource import Resource
from slipway.core.revision import Revision, revision_of


def is_restored(resource: Resource, observed: Observed) -> bool:
    """Whether what status says of the stable revision is of another cluster still.

    It is until the stable revision has been seen to answer here, or another one is stable.
    """
    status, created = resource.status, resource.created_at
    promoted = timestamp(status.promotedAt)
    if status.stable is None or created is None or promoted is None or promoted >= created:
        return False
    name = naming.revision_object(resource.owner.name, status.stable.revision)
    deployment = observed.find(ObjectKind.DEPLOYMENT, name)
    since = timestamp(deployment["metadata"].get("creationTimestamp")) if deployment is not None else None
    if since is not None and since < created:
        # It was left here by a resource that went without its children.
        return False
    said = next((found for found in status.conditions if found.type == ConditionType.ROUTE_READY), None)
    turned = timestamp(said.lastTransitionTime) if said is not None else None
    if said is None or turned is None or turned < created:
        return True
    # Any other reason may be said before the stable revision answers, as of a Service that was refused.
    return said.status != "True" and said.reason != Reason.NO_READY_ENDPOINTS


def with_stable_record(resource: Resource, spec: ModelDeploymentSpec, observed: Observed) -> Observed:
    """What is observed, with the stable revision's ControllerRevision where status and spec still tell it.

    A revision's name is a hash of all that it is: what gives that name is that revision.
    """
    stable, kind = resource.status.stable, ObjectKind.CONTROLLER_REVISION
    if stable is None or any(revision_of_object(found) == stable.revision for found in observed.of(kind)):
        return observed
    for found in _guesses(spec, stable, resource.status.model):
        if found.name == stable.revision:
            numbers = (int(record["revision"]) for record in observed.of(kind))
            least = min(numbers, default=2) - 1
            record = controller_revision(resource.owner, found, max(least, 1))
            return replace(observed, children={**observed.children, kind: (*observed.of(kind), record)})
    return observed


def _guesses(
    spec: ModelDeploymentSpec, role: RevisionStatus, model: ModelStatus | None
) -> Iterator[Revision]:
    """What a revision may be if the spec says of all but its model what it said then."""
    uri, size = role.resolvedURI, role.bytes
    if (uri is None or size is None) and model is not None and model.digest == role.digest:
        # An operator that remembered neither: they are still known where both are of the same bytes.
        uri, size = model.resolvedURI, model.bytes
    if uri is None or size is None:
        return
    known = ModelStatus(
        uri=uri,
        resolvedURI=uri,
        version=role.version,
        digest=role.digest,
        bytes=size,
        createdAt=role.modelCreatedAt,
        profile=role.profile,
    )
    for folder in (None, True):
        found = revision_of(spec, known.model_copy(update={"folder": folder}))
        yield found
        yield found.with_any_profile()


def is_forgotten(owner: Owner, stable: str | None, wanted: Revision | None, observed: Observed) -> bool:
    """Whether nothing tells any more what the stable revision is, and nothing of it is there."""
    if stable is None or (wanted is not None and wanted.name == stable):
        return False
    name = naming.revision_object(owner.name, stable)
    return all(
        observed.find(kind, name) is None for kind in (ObjectKind.CONTROLLER_REVISION, ObjectKind.DEPLOYMENT)
    )


def how_to_go_on(owner: Owner, stable: RevisionStatus | None, revision: str) -> str:
    """What a person can do about a forgotten revision."""
    version = f" (version {stable.version})" if stable is not None and stable.version else ""
    record = naming.revision_object(owner.name, revision)
    return (
        f"revision {revision}{version} is the stable one by status, but neither its ControllerRevision nor "
        "its Deployment is there, and with another model the spec does not make it: apply "
        f"ControllerRevision {record} from the backup without ownerReferences, or set the spec back to what "
        "it was"
    )


def what_is_awaited(owner: Owner, forgotten: bool) -> str:
    """What a canary waits for that came with a restored status."""
    what = "is not known here" if forgotten else "starts here"
    return (
        f"it was restored from a backup, and the stable revision {what}: nothing is decided before that one "
        f"has ready pods, or kubectl slipway promote-full {owner.name} lets this one take over without it"
    )
