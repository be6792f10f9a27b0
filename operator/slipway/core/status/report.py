"""The whole status of a ModelDeployment, and the Events that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from slipway.api.reasons import ConditionType, Reason
from slipway.api.rollout_status import MAX_HISTORY, DecisionStatus
from slipway.api.status import ModelDeploymentStatus, ProvenanceStatus, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.external import reached
from slipway.core.observed import Fault, ObjectKind, Observed, rfc3339
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.breach import with_jobs
from slipway.core.rollout.history import revision_from_history
from slipway.core.status.condition_value import ConditionValue, said_before
from slipway.core.status.conditions import conditions, sum_up, unreadable
from slipway.core.status.decisions import decisions
from slipway.core.status.events import Event, changed, events, jobs_created
from slipway.core.status.unknown_fields import carry

#: The field of status that the webhook writes.
REFRESH_REQUESTED = "refreshRequestedAt"
#: Fields that are written under field managers of their own, and never with the rest.
OF_OTHERS = frozenset({REFRESH_REQUESTED, "operator"})


@dataclass(frozen=True)
class Report:
    """The status to be written, and the Events that go with it."""

    status: dict[str, Any]
    events: tuple[Event, ...]


def report(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> Report:
    """Report on a ModelDeployment after a plan was carried out.

    Args:
        resource: the ModelDeployment as it was read.
        spec: its spec.
        plan: what was decided.
        observed: its children as they are after the plan's writes, with the faults these met with.
        now: the time, with a time zone.
    """
    observed = replace(observed, faults={**plan.faults, **observed.faults})
    roles = plan.roles
    stable = _revision_status(resource, roles.stable, plan, observed)
    # Another version's is none of the one that has just taken over.
    monitoring = observed.monitoring
    if monitoring is not None and (stable is None or stable.version != monitoring.version):
        monitoring = None
    if monitoring is not None:
        monitoring = with_jobs(resource.owner, spec, monitoring, observed)
    canary = _revision_status(resource, roles.candidate, plan, observed)
    verdicts = sum_up(resource, spec, plan, observed, monitoring, (stable, canary), now)
    status = ModelDeploymentStatus(
        observedGeneration=resource.generation,
        conditions=conditions(resource, verdicts, now),
        model=plan.resolution.model or resource.status.model,
        refreshFailingSince=(resource.status.refreshFailingSince or rfc3339(now))
        if verdicts[ConditionType.MODEL_RESOLVED].reason is Reason.REFRESH_FAILED
        else None,
        stable=stable,
        canary=canary,
        canaryWeight=_canary_weight(plan, observed),
        promotedAt=rfc3339(roles.promoted_at) if roles.promoted_at else None,
        rollout=roles.rollout,
        upgrade=plan.upgrade,
        rejected=roles.rejected,
        previous=roles.previous,
        history=_history(resource, plan, observed, now),
        monitoring=monitoring,
        audits=plan.audits.results or None,
        routerPort=plan.router_port,
        replicas=_pods(observed, "replicas"),
        readyReplicas=_pods(observed, "readyReplicas"),
        settledGeneration=resource.generation
        if roles.wanted is not None and roles.wanted.name == roles.stable
        else resource.status.settledGeneration,
        selector=",".join(
            f"{key}={value}" for key, value in sorted(naming.pod_selector(resource.owner.name).items())
        ),
        url=f"http://{resource.owner.name}.{resource.owner.namespace}.svc" if roles.routed else "",
    )
    return Report(
        status=_written(resource, status),
        events=(*events(resource, spec, plan, observed, verdicts), *jobs_created(resource, monitoring)),
    )


def _history(
    resource: Resource, plan: Plan, observed: Observed, now: datetime
) -> tuple[DecisionStatus, ...] | None:
    """What was decided before, and now."""
    new = (
        DecisionStatus(
            decidedAt=rfc3339(now),
            decision=found.decision,
            rollout=found.rollout or None,
            revision=found.revision,
            version=_identity(resource, found.revision, plan, observed)[0] or None,
            person=found.person,
            by=found.by or None,
            message=found.why or None,
        )
        for found in decisions(resource, plan)
    )
    return (*(resource.status.history or ()), *new)[-MAX_HISTORY:] or None


def _pods(observed: Observed, count: str) -> int:
    return sum(int((found.get("status") or {}).get(count, 0)) for found in observed.of(ObjectKind.DEPLOYMENT))


def report_unreadable(resource: Resource, fault: Fault, now: datetime) -> Report:
    """Report on a ModelDeployment whose spec cannot be read: what runs is left as it is."""
    verdicts = unreadable(fault)
    kept = resource.status.model_copy(
        update={
            # Applied by itself, by another manager.
            "operator": None,
            "observedGeneration": resource.generation,
            "upgrade": None,
            "conditions": conditions(resource, verdicts, now),
        }
    )
    return Report(
        status=_written(resource, kept),
        events=changed(resource, {ConditionType.READY: verdicts[ConditionType.READY]}),
    )


def report_foreign(resource: Resource, fault: Fault, now: datetime) -> Report:
    """Report on a ModelDeployment whose status cannot be read: all of it stays, and it is said so."""
    stalled = ConditionType.STALLED
    (said,) = conditions(resource, {stalled: ConditionValue("True", fault.reason, fault.message)}, now)
    told = said_before(resource, stalled)
    theirs = resource.raw_status.get("conditions")
    kept = [
        found
        for found in (theirs if isinstance(theirs, list) else ())
        if not isinstance(found, Mapping) or found.get("type") not in (stalled, ConditionType.RECONCILING)
    ]
    status = {name: value for name, value in resource.raw_status.items() if name not in OF_OTHERS}
    status["conditions"] = [*kept, said.model_dump(mode="json", exclude_none=True)]
    is_new = told is None or told.reason != fault.reason
    return Report(
        status, (Event(normal=False, reason=fault.reason, message=fault.message),) if is_new else ()
    )


def _written(resource: Resource, status: ModelDeploymentStatus) -> dict[str, Any]:
    """Without what the webhook writes: a request that came meanwhile is not to be taken back."""
    found = status.model_dump(mode="json", exclude_none=True, exclude=set(OF_OTHERS))
    return carry(resource.raw_status, found)


def _revision_status(
    resource: Resource, revision: str | None, plan: Plan, observed: Observed
) -> RevisionStatus | None:
    if revision is None:
        return None
    version, digest, created, profile = _identity(resource, revision, plan, observed)
    deployment = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(resource.owner.name, revision))
    status = (deployment.get("status") if deployment else None) or {}
    return RevisionStatus(
        revision=revision,
        version=version,
        digest=digest,
        replicas=int(status.get("replicas", 0)),
        readyReplicas=int(status.get("readyReplicas", 0)),
        modelCreatedAt=created,
        profile=profile,
        crashes=observed.crashes.get(revision),
        **_remembered(resource, revision, plan, observed),
    )


def _remembered(resource: Resource, revision: str, plan: Plan, observed: Observed) -> dict[str, Any]:
    """What tells later, with version, digest and profile, what a revision was, and what it runs in and on."""
    wanted = plan.roles.wanted
    is_wanted = wanted is not None and wanted.name == revision
    known = wanted if is_wanted else revision_from_history(revision, observed)
    if known is not None:
        return {
            "resolvedURI": known.model.resolvedURI,
            "bytes": known.model.bytes,
            "provenance": known.model.provenance if is_wanted else _provenance(resource, revision),
            "server": reached(known.runtime),
            "device": known.runtime.device if known.runtime.device != "CPU" else None,
        }
    before = _before(resource, revision)
    fields = ("resolvedURI", "bytes", "provenance", "server", "device")
    return {name: getattr(before, name) for name in fields} if before is not None else {}


def _before(resource: Resource, revision: str) -> RevisionStatus | None:
    """What status says of a revision."""
    roles = (resource.status.stable, resource.status.canary)
    return next((role for role in roles if role is not None and role.revision == revision), None)


def _provenance(resource: Resource, revision: str) -> ProvenanceStatus | None:
    """Where a revision's model was built, which its ControllerRevision does not hold."""
    before = _before(resource, revision)
    return before.provenance if before is not None else None


def _identity(
    resource: Resource, revision: str, plan: Plan, observed: Observed
) -> tuple[str, str, str | None, str | None]:
    """A revision's version, digest, when its model was made and profile, from whoever knows them."""
    wanted = plan.roles.wanted
    before = _before(resource, revision)
    if wanted is not None and wanted.name == revision:
        found = wanted.model
        seen = found.profile or (before.profile if before is not None else None)
        return found.version, found.digest, found.createdAt, seen
    if before is not None:
        return before.version, before.digest, before.modelCreatedAt, before.profile
    content = revision_from_history(revision, observed)
    if content is None:
        return "", "", None, None
    return content.model.version, content.model.digest, None, content.profile


def _canary_weight(plan: Plan, observed: Observed) -> int | None:
    """What the routers were seen to do, not what they were told."""
    if plan.roles.candidate is None or plan.roles.stable is None:
        return None
    weights = observed.traffic.weights if observed.traffic else frozenset()
    return max(weights, default=0)
