"""The Job that audits a version: models are brought as to pods, and counted without any credentials."""

from __future__ import annotations

from typing import Any

from slipway import contract
from slipway.api.audits import Audit, RobustnessOptions
from slipway.api.pods import PodOptions, over
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.deployment import server_inputs
from slipway.core.objects.diff import quantity
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.objects.model_files import fetch_container, room
from slipway.core.revision import Revision, Settings

CONTAINER = "audit"
#: CPU of the container that counts, where the model's own resources limit none.
_MOST_CPU = "1"
_TRIES_AFTER_THE_FIRST = 1
#: A Job is deleted once status has its result; this is for one that nobody looks after any more.
_KEPT_SECONDS = 86_400
_TIMEOUT_SECONDS = 600
_SAMPLES, _QUERIES, _MOVED_ROWS = 1000, 1000, 200


def audit_job(
    owner: Owner,
    name: str,
    audit: Audit,
    revision: Revision,
    baseline: Revision | None,
    settings: Settings,
    own: PodOptions,
) -> dict[str, Any]:
    """Job of one audit of a revision.

    Args:
        owner: the ModelDeployment.
        name: of the Job.
        audit: as the spec has it.
        revision: that is audited.
        baseline: that it is compared with, or None.
        settings: of the installation.
        own: what the ModelDeployment says of pods.
    """
    labels = naming.labels(owner.name, "audit", revision.name)
    options = pod.under(over(settings.pods, own), revision.service_account)
    models = {"model": revision, **({"baseline": baseline} if baseline is not None else {})}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, name, labels),
        "spec": {
            "activeDeadlineSeconds": audit.timeoutSeconds or _TIMEOUT_SECONDS,
            "backoffLimit": _TRIES_AFTER_THE_FIRST,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {
                "metadata": pod.meta(options, labels, pod.skipped(options, CONTAINER)),
                "spec": {
                    **pod.identity(owner, options, own, settings.image_pull_secrets),
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": pod.POD_SECURITY,
                    "initContainers": [
                        fetch_container(each, settings, volume, f"claim-of-{volume}")
                        for volume, each in models.items()
                    ],
                    "containers": [_container(audit, models, settings)],
                    "volumes": [
                        *(_volume(volume, each) for volume, each in models.items()),
                        {"name": "tmp", "emptyDir": pod.scratch(pod.SCRATCH_MEBIBYTES)},
                        _table(audit),
                        *(
                            found
                            for volume, each in models.items()
                            for found in pod.claim_volume(each.model.resolvedURI, f"claim-of-{volume}")
                        ),
                    ],
                    **pod.placement(revision.runtime),
                    **pod.classes(options),
                },
            },
        },
    }


def _volume(name: str, revision: Revision) -> dict[str, Any]:
    return {"name": name, "emptyDir": pod.scratch(room(revision))}


def _table(audit: Audit) -> dict[str, Any]:
    """Optional, so that a ConfigMap that is missing is told of at once, and not after a deadline."""
    found = audit.data.configMapRef
    source = {"name": found.name, "optional": True, "items": [{"key": found.key, "path": found.key}]}
    return {"name": "table", "configMap": source}


def _container(audit: Audit, models: dict[str, Revision], settings: Settings) -> dict[str, Any]:
    revision = models["model"]
    directories = {"model": contract.MODEL_DIR, "baseline": contract.BASELINE_DIR}
    mounts = [*((volume, directories[volume]) for volume in models), ("table", contract.AUDIT_DATA_DIR)]
    # Without an image of its own it runs in the server's, which says what is missing.
    attacks = audit.type == "Evasion" and bool(settings.audit_image)
    return {
        "name": CONTAINER,
        "image": settings.audit_image if attacks else settings.server_image,
        "imagePullPolicy": settings.audit_pull_policy if attacks else settings.image_pull_policy,
        "command": ["slipway-audit"],
        "env": [
            {
                "name": contract.AUDIT_TASK_ENV,
                "value": audit_task(audit, revision, models.get("baseline")).model_dump_json(
                    exclude_defaults=True
                ),
            },
            *pod.without_credentials(revision.service_account),
        ],
        "terminationMessagePath": contract.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "resources": pod.on_disk(
            _resources(revision), pod.SCRATCH_MEBIBYTES + sum(map(room, models.values()))
        ),
        "securityContext": pod.CONTAINER_SECURITY,
        "volumeMounts": [
            *({"name": name, "mountPath": path, "readOnly": True} for name, path in mounts),
            {"name": "tmp", "mountPath": contract.TMP_DIR},
        ],
    }


def _resources(revision: Revision) -> dict[str, Any]:
    """What the model's pods ask for, without devices, and never without a limit of CPU."""
    asked = revision.runtime.resources
    limits = (
        asked.limits if asked.limits.cpu is not None else asked.limits.model_copy(update={"cpu": _MOST_CPU})
    )
    found = pod.resources(asked.model_copy(update={"limits": limits, "extended": {}}))
    if asked.limits.cpu is None and quantity(found["requests"]["cpu"]) > quantity(_MOST_CPU):
        found["limits"]["cpu"] = found["requests"]["cpu"]
    return found


def audit_task(audit: Audit, revision: Revision, baseline: Revision | None) -> contract.AuditTask:
    """The task of the pod of an audit."""
    return contract.AuditTask(
        digest=revision.model.digest,
        baseline=None if baseline is None else baseline.model.digest,
        file=audit.data.configMapRef.key,
        dataDigest=audit.data.digest,
        label=audit.labelColumn,
        attributes=tuple(
            contract.AuditedAttribute(column=each.column, groups=each.groups)
            for each in audit.attributes or ()
        ),
        favorableOutcomes=audit.favorableOutcomes or (),
        inputs=None if revision.inputs is None else server_inputs(revision.inputs),
        threads=revision.runtime.threads,
        smoothing=None if audit.robustness is None else smoothing(audit.robustness),
        attack=None if audit.robustness is None else _attack(audit.robustness),
    )


def _attack(asked: RobustnessOptions) -> contract.Attack | None:
    if asked.noise is not None:
        return None
    return contract.Attack(
        attack=asked.attack or "HopSkipJump",
        queries=asked.queries or _QUERIES,
        rows=asked.rows or _MOVED_ROWS,
        fixedColumns=asked.fixedColumns or (),
    )


def smoothing(asked: RobustnessOptions) -> contract.Smoothing | None:
    """With which noise rows are moved, and what goes without saying; None where an attack moves them."""
    if asked.noise is None:
        return None
    return contract.Smoothing(
        noise=float(asked.noise),
        samples=asked.samples or _SAMPLES,
        rows=asked.rows or _MOVED_ROWS,
        fixedColumns=asked.fixedColumns or (),
    )
