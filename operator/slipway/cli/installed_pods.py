"""What an installation says of pods, told from those that are there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from slipway.api.pods import (
    NOTHING,
    OWNED_ANNOTATIONS,
    OWNED_LABELS,
    OWNED_PREFIX,
    PodOptions,
    TopologySpread,
)
from slipway.core import naming
from slipway.core.observed import Fault, Manifest
from slipway.core.resource import Resource
from slipway.core.revision import Settings

#: How pods lie unless somebody says something else.
_OVER_NODES = TopologySpread(topologyKey="kubernetes.io/hostname").model_dump()


def with_pods(settings: Settings, live: Manifest, resource: Resource) -> Settings:
    """These settings with what pods of a Deployment have that their ModelDeployment does not say.

    Args:
        settings: what else is known of the installation.
        live: the Deployment.
        resource: the ModelDeployment as it is.
    """
    own = NOTHING if isinstance(resource.spec, Fault) else resource.spec.runtime.pod
    pods = _without(_pod_options(live, naming.service_account(resource.owner.name)), own)
    return replace(
        settings,
        pods=pods.model_copy(update={"imagePullSecrets": ()}),
        image_pull_secrets=tuple(each.name for each in pods.imagePullSecrets),
    )


def _pod_options(live: Manifest, account: str) -> PodOptions:
    """What pods of a Deployment have by what anybody said of them."""
    template = live["spec"]["template"]
    meta, spec = template["metadata"], template["spec"]
    labels = {
        name: value
        for name, value in (meta.get("labels") or {}).items()
        if not name.startswith(OWNED_PREFIX) and name not in OWNED_LABELS
    }
    annotations = {
        name: value
        for name, value in (meta.get("annotations") or {}).items()
        if name not in OWNED_ANNOTATIONS and (name, value) != ("prometheus.io/scrape", "true")
    }
    spread = tuple(
        {name: value for name, value in found.items() if name != "labelSelector"}
        for found in spec.get("topologySpreadConstraints") or ()
    )
    found = {
        "labels": labels,
        "annotations": annotations,
        "serviceAccountName": spec["serviceAccountName"] if spec["serviceAccountName"] != account else None,
        "priorityClassName": spec.get("priorityClassName"),
        "runtimeClassName": spec.get("runtimeClassName"),
        "imagePullSecrets": spec.get("imagePullSecrets") or (),
        "topologySpread": spread if spread != (_OVER_NODES,) else (),
    }
    try:
        return PodOptions.model_validate(found)
    except ValidationError:
        return NOTHING


def _without(found: PodOptions, own: PodOptions) -> PodOptions:
    """What is left for the installation to have said."""
    left: dict[str, Any] = {
        name: value
        for name in PodOptions.model_fields
        if (value := getattr(found, name)) != getattr(own, name)
    }
    for name in ("labels", "annotations"):
        said = getattr(own, name)
        left[name] = {key: value for key, value in getattr(found, name).items() if said.get(key) != value}
    left["imagePullSecrets"] = tuple(
        each for each in found.imagePullSecrets if each not in own.imagePullSecrets
    )
    return NOTHING.model_copy(update=left)
