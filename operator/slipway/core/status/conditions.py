"""All conditions of a ModelDeployment, those that sum up the others first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import Condition, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import MonitoringStatus
from slipway.core import naming
from slipway.core.observed import Fault, ObjectKind, ObjectReference, Observed, rfc3339
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.history import revision_from_history
from slipway.core.status.access import access_controlled
from slipway.core.status.audits import audits_passed
from slipway.core.status.condition_value import ConditionValue, failed, first_fault, is_bad, said_before
from slipway.core.status.crashes import crashing
from slipway.core.status.progress import progress, rollout_complete, stalled
from slipway.core.status.revision import model_resolved, revision_ready
from slipway.core.status.route import route_ready, traffic_synced
from slipway.core.status.scaling import scaling_active
from slipway.core.status.watched import watched
from slipway.core.status.way_out import way_out

ConditionValues = Mapping[ConditionType, ConditionValue]


def sum_up(
    resource: Resource,
    spec: ModelDeploymentSpec,
    plan: Plan,
    observed: Observed,
    monitoring: MonitoringStatus | None,
    serving: tuple[RevisionStatus | None, ...],
    now: datetime,
) -> ConditionValues:
    """A verdict for each condition that a ModelDeployment has."""
    resolved = model_resolved(resource, spec, plan, observed, now)
    revision = revision_ready(resource, spec, plan, observed, now)
    route = route_ready(resource, spec, plan, observed, now)
    help_ = way_out(resource, spec, plan, observed)
    lost = _lost(resource, plan, observed, route)
    return {
        ConditionType.READY: _ready(resource, plan, observed, (resolved, revision, route), lost, help_),
        ConditionType.MODEL_RESOLVED: resolved,
        ConditionType.REVISION_READY: revision,
        ConditionType.ROUTE_READY: route,
        **traffic_synced(resource, spec, plan, observed),
        ConditionType.ROLLOUT_COMPLETE: rollout_complete(resource, plan, resolved, revision),
        **progress(resource, plan, (resolved, revision, route, *lost, *_refused(observed)), route),
        **scaling_active(resource, plan.roles, observed, now),
        **_monitored(monitoring),
        **audits_passed(plan),
        **access_controlled(spec, observed),
        **watched(spec),
        **crashing(resource.owner, serving),
    }


def unreadable(fault: Fault) -> ConditionValues:
    """What is said of a spec that cannot be read."""
    verdict = failed(fault)
    return {ConditionType.READY: verdict, ConditionType.STALLED: stalled(verdict)}


def conditions(resource: Resource, verdicts: ConditionValues, now: datetime) -> tuple[Condition, ...]:
    """As status has them; one that did not turn keeps its time."""
    found = []
    for type_, verdict in verdicts.items():
        before = said_before(resource, type_)
        unchanged = before is not None and before.status == verdict.status
        found.append(
            Condition.model_validate(
                {
                    "type": type_.value,
                    "status": verdict.status,
                    "reason": verdict.reason.value,
                    "message": verdict.message[:4096],
                    "observedGeneration": resource.generation,
                    "lastTransitionTime": before.lastTransitionTime if before and unchanged else rfc3339(now),
                }
            )
        )
    return tuple(found)


def _ready(
    resource: Resource,
    plan: Plan,
    observed: Observed,
    parts: tuple[ConditionValue, ConditionValue, ConditionValue],
    lost: tuple[ConditionValue, ...],
    way_out: str,
) -> ConditionValue:
    stable, route_ready = plan.roles.stable, parts[-1]
    if stable is not None and route_ready.status == "True":
        forgotten = ""
        wanted = plan.roles.wanted
        if wanted is not None and wanted.name != stable and revision_from_history(stable, observed) is None:
            forgotten = (
                "; its ControllerRevision was deleted: it is left as it is, and no way leads back to it"
            )
        return ConditionValue(
            "True",
            Reason.SERVING,
            f"revision {stable} serves at http://{resource.owner.name}.{resource.owner.namespace}.svc{forgotten}",
        )
    open_parts = [part for part in parts if part.status != "True"]
    if not open_parts:
        return ConditionValue("False", Reason.STARTING, "the first revision is about to serve")
    # What a person has to fix counts more than what is under way, whichever comes first.
    bad = [part for part in open_parts if is_bad(part)]
    # Nothing serves before that is fixed, whatever became of the wanted revision.
    first = [part for part in bad if part.reason is Reason.STABLE_FORGOTTEN]
    told = next(iter((*first, *lost, *bad)), open_parts[0])
    return ConditionValue("False", told.reason, f"{told.message}; {way_out}" if way_out else told.message)


def _lost(
    resource: Resource, plan: Plan, observed: Observed, route: ConditionValue
) -> tuple[ConditionValue, ...]:
    """Why the stable revision, which answers nobody, has no Deployment that could be written."""
    if plan.roles.stable is None or route.status == "True":
        return ()
    name = naming.revision_object(resource.owner.name, plan.roles.stable)
    fault = first_fault(observed, (ObjectReference(ObjectKind.DEPLOYMENT, name),))
    return (failed(fault),) if fault is not None else ()


def _refused(observed: Observed) -> tuple[ConditionValue, ...]:
    """What the installation does not allow; the model serves meanwhile."""
    fault = observed.traffic.evidence_fault if observed.traffic is not None else None
    return (failed(fault),) if fault is not None else ()


def _monitored(monitoring: MonitoringStatus | None) -> dict[ConditionType, ConditionValue]:
    """What monitoring says of the stable version; Ready is not touched by it."""
    return {
        ConditionType(found.type): ConditionValue(found.status, Reason(found.reason), found.message)
        for found in (monitoring.verdicts if monitoring is not None else ())
        if found.reason in set(Reason)
    }
