"""Whether the model was found, and whether the revision that is wanted of it can serve."""

from __future__ import annotations

from datetime import datetime

from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods, is_late
from slipway.core.observed import ObjectKind, ObjectReference, Observed, rfc3339
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.audits import AuditHold
from slipway.core.rollout.history import is_vague
from slipway.core.rollout.roles import is_counted, ready_replicas
from slipway.core.status.condition_value import (
    ConditionValue,
    failed,
    first_fault,
    said_before,
    still_failing,
)


def model_resolved(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> ConditionValue:
    model = plan.resolution.model
    if model is not None:
        words = f"{spec.model.uri} is version {model.version}, {model.digest}"
        fault, said = plan.resolution.fault, said_before(resource, ConditionType.MODEL_RESOLVED)
        unknown = fault.reason is Reason.REFRESH_FAILED if fault is not None else plan.resolution.asking
        if unknown and said is not None and said.reason == Reason.REFRESH_FAILED:
            # Another look is under way; what the last one met with stands until it answers.
            return ConditionValue("True", Reason.REFRESH_FAILED, said.message)
        if fault is not None and not unknown:
            since = resource.status.refreshFailingSince or rfc3339(now)
            words += f"; looking again failed: {fault.message} (since {since}: {fault.reason})"
            return ConditionValue("True", Reason.REFRESH_FAILED, words)
        return ConditionValue("True", Reason.RESOLVED, words)
    fault = plan.resolution.fault or first_fault(
        observed,
        (
            ObjectReference(ObjectKind.SERVICE_ACCOUNT, naming.service_account(resource.owner.name)),
            ObjectReference(ObjectKind.POD, plan.resolver),
        ),
    )
    if fault is not None:
        return failed(fault)
    before = still_failing(resource, ConditionType.MODEL_RESOLVED)
    if before is not None:
        # Another try is under way; what the last one met with stands until it answers.
        return before
    return ConditionValue("Unknown", Reason.RESOLVING, f"finding the version and digest of {spec.model.uri}")


def revision_ready(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> ConditionValue:
    wanted = plan.roles.wanted
    if wanted is None:
        return ConditionValue(
            "Unknown", Reason.WAITING_FOR_MODEL, "nothing can start before the model is resolved"
        )
    rejection = plan.roles.rejection
    if rejection is not None:
        message = rejection.message
        if is_vague(rejection) and rejection.revision != wanted.name:
            message += " (of these bytes; what ran them is not known any more)"
        message += f"; kubectl slipway retry {resource.owner.name} tries it again"
        return ConditionValue("False", Reason.REJECTED, message)
    if plan.roles.suspended and plan.roles.candidate is None and wanted.name != plan.roles.stable:
        message = f"revision {wanted.name} has not begun: {plan.roles.suspended}"
        return ConditionValue("Unknown", Reason.SUSPENDED, message)
    if plan.roles.audit is not None and plan.roles.candidate is None:
        return _held_by_audits(plan.roles.audit, wanted.name, plan, observed)
    name = naming.revision_object(resource.owner.name, wanted.name)
    fault = first_fault(
        observed,
        (
            ObjectReference(kind, name)
            for kind in (
                ObjectKind.CONTROLLER_REVISION,
                ObjectKind.DEPLOYMENT,
                ObjectKind.SERVICE,
                ObjectKind.AUTOSCALER,
                ObjectKind.DISRUPTION_BUDGET,
            )
        ),
    ) or first_fault(
        observed, (ObjectReference(ObjectKind.SERVICE_ACCOUNT, naming.service_account(resource.owner.name)),)
    )
    if fault is not None:
        return failed(fault)
    available = ConditionValue("True", Reason.AVAILABLE, f"revision {wanted.name} has its pods ready")
    deployment = observed.find(ObjectKind.DEPLOYMENT, name)
    if ready_replicas(observed, resource.owner, wanted.name) >= spec.scaling.minReplicas:
        return available
    if deployment is not None and not is_counted(deployment) and _was_said(resource, available):
        # Every scaling makes the numbers stale for a moment; that is no reason to say anything else.
        return available
    fault = (deployment and diagnose_deployment(deployment, now)) or diagnose_pods(
        observed.pods(wanted.name), now
    )
    if fault is not None:
        return failed(fault)
    before = still_failing(resource, ConditionType.REVISION_READY)
    if before is not None:
        # A pod that failed is starting again; until it is ready the last failure is the best that is known.
        return before
    if deployment is not None and is_late(deployment):
        message = (
            f"pods of revision {wanted.name} did not become ready in time; kubectl describe pods tells more"
        )
        return ConditionValue("False", Reason.LATE, message)
    return ConditionValue("Unknown", Reason.STARTING, f"pods of revision {wanted.name} are starting")


def _held_by_audits(hold: AuditHold, revision: str, plan: Plan, observed: Observed) -> ConditionValue:
    fault = first_fault(observed, (ObjectReference(ObjectKind.JOB, plan.audits.running),))
    if fault is not None:
        return failed(fault)
    status = "False" if hold.reason is Reason.AUDIT_ERROR else "Unknown"
    return ConditionValue(status, hold.reason, f"revision {revision} has not begun: {hold.message}")


def _was_said(resource: Resource, verdict: ConditionValue) -> bool:
    """Whether RevisionReady says this already, of this very revision."""
    before = said_before(resource, ConditionType.REVISION_READY)
    return before is not None and (before.status, before.message) == (verdict.status, verdict.message)
