"""Every name and label that Slipway gives to an object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from slipway.api.types import GROUP

MODEL_LABEL = f"{GROUP}/modeldeployment"
REVISION_LABEL = f"{GROUP}/revision"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY = "slipway"

#: Hash of what was applied last, so that a field that left a manifest is noticed.
APPLIED_ANNOTATION = f"{GROUP}/applied"
#: Of a ControllerRevision: a hash of the ``spec.model.verify`` that its model was last verified for.
VERIFIED_ANNOTATION = f"{GROUP}/verified-for"

#: Hash of a Deployment's pod template as it would be without spec.runtime.pod, where that makes a difference:
#: what the installation alone decides.
INSTALLED_ANNOTATION = f"{GROUP}/installed"

#: What a router's volumes hold, noted on its pod.
TOUCHED_ANNOTATION = f"{GROUP}/touched"

SERVER_CONTAINER = "server"
FETCH_CONTAINER = "fetch"
RESOLVE_CONTAINER = "resolve"


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def content_hash(content: Any) -> str:
    """Ten hexadecimal digits of the SHA-256 of the content's canonical JSON."""
    return hashlib.sha256(_canonical.encode(content).encode()).hexdigest()[:10]


def revision_object(model_deployment: str, revision: str) -> str:
    """Name of a revision's Deployment, Service, autoscaler, disruption budget and ControllerRevision."""
    return f"{model_deployment}-{revision}"


def resolver_pod(model_deployment: str, task: Mapping[str, Any], refresh_token: str | None = None) -> str:
    """Name of the pod that resolves what the task asks; another task, or another time, gets another pod."""
    asked = task if refresh_token is None else [task, refresh_token]
    return f"{model_deployment}-resolve-{content_hash(asked)[:8]}"


def breach_job(model_deployment: str, episode: Any) -> str:
    """Name of the Job that is created for an episode of bad figures."""
    return f"{model_deployment}-breach-{content_hash(episode)[:8]}"


def audit_job(model_deployment: str, occasion: Any) -> str:
    """Name of the Job of an audit: what is audited, by what, and since which result."""
    return f"{model_deployment}-audit-{content_hash(occasion)[:8]}"


def service_account(model_deployment: str) -> str:
    """Name of the identity that a ModelDeployment's pods run under."""
    return f"{model_deployment}-model"


def cluster_keys(model_deployment: str) -> str:
    """Name of the ConfigMap with the keys by which its pods verify tokens of ServiceAccounts."""
    return f"{model_deployment}-cluster-keys"


def issuer_keys(model_deployment: str) -> str:
    """Name of the ConfigMap with the keys of issuers that are read at addresses."""
    return f"{model_deployment}-issuer-keys"


def token_audience(namespace: str) -> str:
    """What tokens of ServiceAccounts have to be for, to be taken by models of a namespace."""
    return f"{GROUP}/{namespace}"


def labels(model_deployment: str, component: str, revision: str | None = None) -> dict[str, str]:
    """Labels of a child; ``component`` says what it is for, such as ``model-server`` or ``audit``."""
    found = {
        MANAGED_BY_LABEL: MANAGED_BY,
        COMPONENT_LABEL: component,
        MODEL_LABEL: model_deployment,
    }
    if revision is not None:
        found[REVISION_LABEL] = revision
    return found


def pod_selector(model_deployment: str, revision: str | None = None) -> dict[str, str]:
    """Labels that select the serving pods of a ModelDeployment or of one of its revisions."""
    selector = {MODEL_LABEL: model_deployment, COMPONENT_LABEL: "model-server"}
    if revision is not None:
        selector[REVISION_LABEL] = revision
    return selector


def router(group: str = "") -> str:
    """Name of the Deployment, autoscaler, disruption budget and ServiceAccount of a group of routers.

    Up to 80 ModelDeployments of a namespace share a group, or one has it for itself: then it has its name.
    """
    return f"slipway-router-{group}" if group else "slipway-router"


def router_labels(group: str = "") -> dict[str, str]:
    """Labels of a group's objects and pods, and the selector of a Service that leads to them."""
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        COMPONENT_LABEL: "router",
        # Empty, or a number, for those of no ModelDeployment in particular.
        MODEL_LABEL: group,
    }
