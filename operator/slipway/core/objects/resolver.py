"""The short-lived pod that finds out what a model URI means."""

from __future__ import annotations

from typing import Any

from slipway import contract
from slipway.api.pods import over
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verify import Hazards
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.diff import quantity
from slipway.core.objects.external import is_external
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.revision import Settings
from slipway.core.signers import built_by, signers_of

#: A resolver that has not answered by then is ended, and another one is tried.
DEADLINE_SECONDS = 900


def resolver_pod(
    owner: Owner,
    spec: ModelDeploymentSpec,
    settings: Settings,
    refresh_token: str | None = None,
    known: contract.Resolution | None = None,
) -> dict[str, Any]:
    """A pod that runs once, in the user's namespace and with the user's Secret.

    A pod rather than a Job: what admission or quota says of it comes back as the answer to its creation, and
    there is one object less to make, watch and delete for every version of every model. ``refresh_token``
    gives a later look at the same name a pod of its own; ``known`` is what the look before found.
    """
    signers = signers_of(spec)
    asked = contract.ResolveTask(
        uri=spec.model.uri,
        digest=spec.model.digest,
        known=known,
        hazards=hazards(spec, is_own=not is_external(spec.runtime)),
        isSigned=True if signers is not None else None,
        identities=signers.identities or None if signers is not None else None,
        provenance=built_by(spec),
        folder=True if is_external(spec.runtime) else None,
    )
    credentials = spec.model.credentials
    secret = credentials.secretRef.name if credentials and credentials.secretRef else None
    account = credentials.serviceAccountName if credentials else None
    container = {
        "name": naming.RESOLVE_CONTAINER,
        "image": settings.server_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["slipway-model", "resolve"],
        "env": pod.task_env(asked, settings.mlflow_tracking_uri, account),
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "resources": pod.download_resources(spec.runtime.resources, settings.downloads),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": contract.TMP_DIR}, *pod.claim_mount(spec.model.uri)],
    }
    if signers is not None:
        place = signers.place.model_dump(mode="json")
        container["env"] = [
            *pod.task_env(asked, settings.mlflow_tracking_uri, account),
            {"name": signers.env, "valueFrom": {"configMapKeyRef": place}},
        ]
    if secret is not None:
        container["envFrom"] = pod.credentials_env(secret)
    own = spec.runtime.pod
    options = pod.under(over(settings.pods, own), account)
    pod_spec = {
        **pod.identity(owner, options, own, settings.image_pull_secrets),
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "terminationGracePeriodSeconds": 5,
        "securityContext": pod.POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *pod.claim_volume(spec.model.uri)],
        # Where the model's pods may go: a claim may be reachable from there alone.
        **pod.placement(spec.runtime),
        **pod.classes(options),
    }
    said = options.labels or options.annotations
    # One that a policy lets nowhere for want of a label gives way to one that has it.
    task = {"spec": pod_spec, "metadata": pod.meta(options, {})} if said else pod_spec
    found = metadata(
        owner, naming.resolver_pod(owner.name, task, refresh_token), naming.labels(owner.name, "resolver")
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**found, **pod.meta(options, found["labels"])},
        "spec": pod_spec,
    }


def hazards(spec: ModelDeploymentSpec, *, is_own: bool) -> contract.Hazards | None:
    """How the model's graph is looked at; None where that is as by default.

    Args:
        spec: of the ModelDeployment.
        is_own: whether Slipway's own server runs it.
    """
    verify = spec.model.verify
    wanted = verify.hazards if verify is not None else Hazards()
    memory = spec.runtime.resources.limits.memory
    found = contract.Hazards(
        # What a server of one's own has for operators is not known here.
        onFinding="Report" if verify is None and not is_own else wanted.onFinding,
        allowedOperatorDomains=wanted.allowedOperatorDomains,
        memoryBytes=max(1, int(quantity(memory))) if memory else None,
    )
    return None if found == contract.Hazards() else found
