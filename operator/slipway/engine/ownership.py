"""Whose pods are: labels say so, and anybody may write them; the chain of owners is what counts.

A pod counts as a model server's or a router's where its controller is a ReplicaSet that is there, and that
one's controller the Deployment that the operator writes; as an audit's where its controller is a Job that the
operator writes. In its own namespace somebody who may create pods can still name such a ReplicaSet or Job as
the owner of one: docs/permissions.md says what that amounts to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind

#: Kept to its owners alone.
REPLICA_SET = "ReplicaSet"
#: Components whose pods a Deployment or a Job makes.
_MADE = frozenset({"model-server", "router", "audit"})

#: An object of a kind, by namespace and name, if it is there.
Find = Callable[[str, str, str], Manifest | None]


def needs_proof(child: Manifest) -> bool:
    """Whether an object is believed only with its owners: pods that serve, route or audit."""
    labels = child["metadata"].get("labels") or {}
    return child["kind"] == ObjectKind.POD and labels.get(naming.COMPONENT_LABEL) in _MADE


def maker_of(pod: Manifest, find: Find) -> Manifest | None:
    """The Deployment or Job that a pod's owners lead to, where it is one that such a pod has; else None."""
    meta = pod["metadata"]
    labels = meta.get("labels") or {}
    if labels.get(naming.COMPONENT_LABEL) == "audit":
        job = _controller(pod, ObjectKind.JOB.value, find)
        job_labels = (job["metadata"].get("labels") or {}) if job is not None else {}
        return job if job_labels.get(naming.COMPONENT_LABEL) == "audit" else None
    model = str(labels.get(naming.MODEL_LABEL, ""))
    if labels.get(naming.COMPONENT_LABEL) == "router":
        expected = naming.router(model)
    else:
        expected = naming.revision_object(model, str(labels.get(naming.REVISION_LABEL, "")))
    replica_set = _controller(pod, REPLICA_SET, find)
    deployment = (
        _controller(replica_set, ObjectKind.DEPLOYMENT.value, find) if replica_set is not None else None
    )
    return deployment if deployment is not None and deployment["metadata"]["name"] == expected else None


def _is_made_by_others(child: Manifest) -> bool:
    """Whether other controllers make such objects from ours: all pods but the resolver's, EndpointSlices."""
    labels = child["metadata"].get("labels") or {}
    if child["kind"] == ObjectKind.POD:
        return bool(labels.get(naming.COMPONENT_LABEL) != "resolver")
    return bool(child["kind"] == ObjectKind.ENDPOINT_SLICE)


def is_child(child: Manifest, uid: str | None) -> bool:
    """Whether an object labelled as a ModelDeployment's counts as one of this very one, by its uid."""
    return _is_made_by_others(child) or is_owned(child, uid) or is_orphan(child)


def is_owned(child: Manifest, uid: str | None) -> bool:
    """Whether the child's controller is the ModelDeployment with this uid."""
    return any(
        reference.get("controller") and reference["uid"] == uid
        for reference in child["metadata"].get("ownerReferences") or ()
    )


def is_orphan(child: Manifest) -> bool:
    """Whether an object is Slipway's writing and nobody's child: its ModelDeployment went and left it here.

    Whoever has the name that its label says may take it over as it is.
    """
    meta = child["metadata"]
    labels, owners = meta.get("labels") or {}, meta.get("ownerReferences") or ()
    return (
        labels.get(naming.MANAGED_BY_LABEL) == naming.MANAGED_BY
        and naming.APPLIED_ANNOTATION in (meta.get("annotations") or {})
        and not any(owner.get("controller") or owner["kind"] == KIND for owner in owners)
    )


def _controller(child: Manifest, kind: str, find: Find) -> Manifest | None:
    reference: dict[str, Any] = next(
        (found for found in child["metadata"].get("ownerReferences") or () if found.get("controller")), {}
    )
    if reference.get("kind") != kind:
        return None
    found = find(kind, child["metadata"]["namespace"], str(reference.get("name")))
    return found if found is not None and found["metadata"]["uid"] == reference.get("uid") else None
