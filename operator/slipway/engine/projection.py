"""What is worth keeping of an object: thousands of them are mostly text that nobody reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from slipway.api.types import GROUP, KIND
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.ownership import REPLICA_SET

#: Field manager of children; fixed, so that what an older operator wrote can be taken back by a newer one.
WORKLOAD_MANAGER = f"{GROUP}/workload"
#: In what is kept of an object's metadata: which of its ``managedFields`` its creation wrote, by its place.
#: There only where no apply followed yet: an apply takes back nothing of what a creation wrote.
CREATED_ENTRY = "createdEntry"

_META = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "labels",
        "annotations",
        "ownerReferences",
    }
)
_OF_PODS = _META - {"annotations"}
_OF_REPLICA_SETS = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences")
#: kubectl's copy of what was applied: the spec once more.
_COPY = "kubectl.kubernetes.io/last-applied-configuration"
_STATUS_OF_PODS = ("phase", "reason", "message", "podIP", "startTime")
_CONTAINERS = ("initContainerStatuses", "containerStatuses")
_OF_CONTAINERS = (
    "name",
    "image",
    "containerID",
    "ready",
    "started",
    "restartCount",
    "state",
    "lastState",
    "resources",
)
_OF_CONDITIONS = ("type", "status", "reason", "message", "lastTransitionTime", "lastUpdateTime")
_OF_DEPLOYMENTS = ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas")


def project(manifest: Manifest) -> Manifest:
    """What is kept of an object, as the API server sends it, which is not changed."""
    kind = str(manifest["kind"])
    names = _OF_REPLICA_SETS if kind == REPLICA_SET else _OF_PODS if kind == ObjectKind.POD else _META
    meta = {name: value for name, value in manifest["metadata"].items() if name in names}
    if kind == KIND and _COPY in (meta.get("annotations") or {}):
        meta["annotations"] = {name: text for name, text in meta["annotations"].items() if name != _COPY}
    if (entry := _created_entry(manifest)) is not None:
        meta[CREATED_ENTRY] = entry
    kept = {**manifest, "metadata": meta, "kind": kind}
    if (reduce := _REDUCED.get(kind)) is not None:
        reduce(kept)
    return kept


def is_same(known: Manifest, kept: Manifest) -> bool:
    """Whether nothing that is kept of an object differs from the state before but its version."""
    version = {"resourceVersion": known["metadata"]["resourceVersion"]}
    return bool(known == {**kept, "metadata": {**kept["metadata"], **version}})


def _reduce_pod(kept: dict[str, Any]) -> None:
    kept.pop("spec", None)
    status = kept.get("status")
    if not status:
        return
    reduced = {name: status[name] for name in _STATUS_OF_PODS if name in status}
    for name in _CONTAINERS:
        if name in status:
            reduced[name] = [_some(found, _OF_CONTAINERS) for found in status[name]]
    kept["status"] = _with_conditions(reduced, status)


def _reduce_deployment(kept: dict[str, Any]) -> None:
    if status := kept.get("status"):
        kept["status"] = _with_conditions(_some(status, _OF_DEPLOYMENTS), status)


def _reduce_slice(kept: dict[str, Any]) -> None:
    for name in ("ports", "addressType"):
        kept.pop(name, None)
    if kept.get("endpoints"):
        kept["endpoints"] = [
            {
                "conditions": {"ready": (found.get("conditions") or {}).get("ready")},
                "targetRef": _some(found.get("targetRef") or {}, ("kind", "name")),
            }
            for found in kept["endpoints"]
        ]


def _reduce_autoscaler(kept: dict[str, Any]) -> None:
    if status := kept.get("status"):
        kept["status"] = _with_conditions({}, status)


def _reduce_resource(kept: dict[str, Any]) -> None:
    # It is kept decoded.
    kept.pop("spec", None)
    if conditions := (kept.get("status") or {}).get("conditions"):
        kept["status"] = {**kept["status"], "conditions": [_interned(found) for found in conditions]}


def _reduce_replica_set(kept: dict[str, Any]) -> None:
    for name in kept.keys() - {"kind", "apiVersion", "metadata"}:
        del kept[name]


def _without_status(kept: dict[str, Any]) -> None:
    kept.pop("status", None)


_REDUCED: Mapping[str, Callable[[dict[str, Any]], None]] = {
    KIND: _reduce_resource,
    REPLICA_SET: _reduce_replica_set,
    ObjectKind.POD: _reduce_pod,
    ObjectKind.DEPLOYMENT: _reduce_deployment,
    ObjectKind.ENDPOINT_SLICE: _reduce_slice,
    ObjectKind.AUTOSCALER: _reduce_autoscaler,
    ObjectKind.DISRUPTION_BUDGET: _without_status,
    ObjectKind.SERVICE: _without_status,
}


def _with_conditions(reduced: dict[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    if conditions := status.get("conditions"):
        reduced["conditions"] = [_some(found, _OF_CONDITIONS) for found in conditions]
    return reduced


def _some(found: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def _interned(found: Mapping[str, Any]) -> dict[str, Any]:
    """Reasons and times that conditions of thousands of decoded resources have in common."""
    return {
        name: sys.intern(value) if type(value) is str and len(value) < 40 else value
        for name, value in found.items()
    }


def _created_entry(manifest: Manifest) -> int | None:
    own = {
        entry.get("operation"): place
        for place, entry in enumerate(manifest["metadata"].get("managedFields") or ())
        if entry.get("manager") == WORKLOAD_MANAGER and not entry.get("subresource")
    }
    return None if "Apply" in own else own.get("Update")
