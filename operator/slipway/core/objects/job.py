"""The Job that a breach brings about."""

from __future__ import annotations

from typing import Any

from slipway import contract
from slipway.api.breach import JobTemplate
from slipway.api.verdicts import VerdictStatus
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.revision import Revision

CONTAINER = "job"


def breach_job(
    owner: Owner, name: str, template: JobTemplate, stable: Revision, verdict: VerdictStatus
) -> dict[str, Any]:
    """Job of a breach of the stable revision; its pods are none of the ModelDeployment's."""
    labels = naming.labels(owner.name, "breach-job", stable.name)
    pod_labels = {key: value for key, value in labels.items() if key != naming.MODEL_LABEL}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, name, labels),
        "spec": {
            "activeDeadlineSeconds": template.activeDeadlineSeconds,
            "backoffLimit": template.backoffLimit,
            "ttlSecondsAfterFinished": template.ttlSecondsAfterFinished,
            "template": {
                "metadata": {"labels": pod_labels},
                "spec": {
                    "serviceAccountName": naming.service_account(owner.name),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                    "securityContext": pod.POD_SECURITY,
                    "containers": [_container(owner, template, stable, verdict)],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }


def _container(
    owner: Owner, template: JobTemplate, stable: Revision, verdict: VerdictStatus
) -> dict[str, Any]:
    told = {
        "SLIPWAY_NAMESPACE": owner.namespace,
        "SLIPWAY_MODELDEPLOYMENT": owner.name,
        "SLIPWAY_REVISION": stable.name,
        "SLIPWAY_MODEL_URI": stable.model.resolvedURI,
        "SLIPWAY_MODEL_VERSION": stable.model.version,
        "SLIPWAY_CONDITION": verdict.type,
        "SLIPWAY_REASON": verdict.reason,
        "SLIPWAY_MESSAGE": verdict.message,
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": template.image,
        "env": [
            *pod.plain_env(template.env),
            *({"name": name, "value": value} for name, value in told.items()),
        ],
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": pod.resources(template.resources),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [{"name": "tmp", "mountPath": contract.TMP_DIR}],
    }
    if template.command:
        container["command"] = list(template.command)
    if template.args:
        container["args"] = list(template.args)
    if template.secretRefs:
        container["envFrom"] = [{"secretRef": {"name": found.name}} for found in template.secretRefs]
    return container
