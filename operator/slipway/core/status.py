"""What a ModelDeployment's status says, computed from what the cluster shows; written nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import (
    Condition,
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    RevisionStatus,
)
from slipway.api.verdicts import MonitoringStatus
from slipway.core import names
from slipway.core.breach import with_jobs
from slipway.core.build.metadata import Owner
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods
from slipway.core.observed import Fault, Kind, Observed, Reference, Traffic, is_ready, revision_of_object
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.retirement import RETIREMENT
from slipway.core.roles import is_counted, ready_replicas, remembered
from slipway.core.traffic import led_to

#: Reasons of work that goes on by itself; with any other reason of a False condition a person is needed.
_UNDER_WAY = frozenset(
    {
        Reason.RESOLVING,
        Reason.STARTING,
        Reason.ROLLING_OUT,
        Reason.WAITING_FOR_MODEL,
        Reason.WAITING_FOR_REVISION,
        Reason.NO_READY_ENDPOINTS,
        Reason.REGISTRY_UNREACHABLE,
        Reason.RESOLVER_FAILED,
        Reason.NAMESPACE_TERMINATING,
        Reason.WAITING_FOR_GATEWAY,
    }
)

#: Of the conditions of monitoring, the status that is bad.
_BAD = {
    ConditionType.DRIFT: "True",
    ConditionType.DATA_QUALITY: "False",
    ConditionType.PERFORMANCE: "False",
    ConditionType.FAIRNESS: "False",
}


@dataclass(frozen=True)
class Notice:
    """An Event to be emitted: something turned good or bad."""

    normal: bool
    reason: Reason
    message: str


@dataclass(frozen=True)
class Verdict:
    """Status, reason and message of a condition."""

    status: str
    reason: Reason
    message: str


@dataclass(frozen=True)
class Report:
    """The status to be written, and the Events that go with it."""

    status: dict[str, Any]
    notices: tuple[Notice, ...]


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
    resolved = _model_resolved(resource, spec, plan, observed)
    revision_ready = _revision_ready(resource, spec, plan, observed, now)
    route_ready = _route_ready(resource, spec, plan, observed, now)
    ready = _ready(resource, plan, resolved, revision_ready, route_ready)
    verdicts = {
        ConditionType.READY: ready,
        ConditionType.MODEL_RESOLVED: resolved,
        ConditionType.REVISION_READY: revision_ready,
        ConditionType.ROUTE_READY: route_ready,
        **_traffic_synced(resource, spec, plan, observed),
        **_progress(plan, (resolved, revision_ready, route_ready)),
    }
    roles = plan.roles
    stable = _revision_status(resource, roles.stable, plan, observed)
    # Another version's is none of the one that has just taken over.
    monitoring = observed.monitoring
    if monitoring is not None and (stable is None or stable.version != monitoring.version):
        monitoring = None
    if monitoring is not None:
        monitoring = with_jobs(resource.owner, spec, monitoring, observed)
    verdicts |= _monitored(monitoring)
    status = ModelDeploymentStatus(
        observedGeneration=resource.generation,
        conditions=_conditions(resource, verdicts, now),
        model=plan.resolution.model or resource.status.model,
        refreshRequestedAt=resource.status.refreshRequestedAt,
        stable=stable,
        canary=_revision_status(resource, roles.candidate, plan, observed),
        canaryWeight=_canary_weight(plan, observed),
        promotedAt=_text(roles.promoted_at),
        rollout=roles.rollout,
        rejected=roles.rejected,
        previous=roles.previous,
        monitoring=monitoring,
        routerPort=plan.router_port,
        replicas=sum(
            int((found.get("status") or {}).get("replicas", 0)) for found in observed.of(Kind.DEPLOYMENT)
        ),
        selector=",".join(
            f"{key}={value}" for key, value in sorted(names.pod_selector(resource.owner.name).items())
        ),
        url=f"http://{resource.owner.name}.{resource.owner.namespace}.svc" if roles.routed else "",
    )
    return Report(
        status=status.model_dump(mode="json", exclude_none=True),
        notices=(*_notices(resource, plan, verdicts), *_jobs_created(resource, monitoring)),
    )


def report_unreadable(resource: Resource, fault: Fault, now: datetime) -> Report:
    """Report on a ModelDeployment whose spec cannot be read: what runs is left as it is."""
    verdict = Verdict("False", fault.reason, fault.message)
    verdicts = {ConditionType.READY: verdict, ConditionType.STALLED: _stalled(verdict)}
    kept = resource.status.model_copy(
        update={
            "observedGeneration": resource.generation,
            "conditions": _conditions(resource, verdicts, now),
        }
    )
    return Report(
        status=kept.model_dump(mode="json", exclude_none=True),
        notices=_changed(resource, {ConditionType.READY: verdict}),
    )


def _model_resolved(resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed) -> Verdict:
    model = plan.resolution.model
    if model is not None:
        words = f"{spec.model.uri} is version {model.version}, {model.digest}"
        if plan.resolution.fault is not None:
            words += f"; looking again failed: {plan.resolution.fault.message}"
        return Verdict("True", Reason.RESOLVED, words)
    fault = plan.resolution.fault or _first_fault(
        observed,
        (
            Reference(Kind.SERVICE_ACCOUNT, names.service_account(resource.owner.name)),
            Reference(Kind.POD, plan.resolver),
        ),
    )
    if fault is not None:
        return Verdict("False", fault.reason, fault.message)
    before = _still_failing(resource, ConditionType.MODEL_RESOLVED)
    if before is not None:
        # Another try is under way; what the last one met with stands until it answers.
        return before
    return Verdict("Unknown", Reason.RESOLVING, f"finding the version and digest of {spec.model.uri}")


def _revision_ready(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> Verdict:
    wanted = plan.roles.wanted
    if wanted is None:
        return Verdict("Unknown", Reason.WAITING_FOR_MODEL, "nothing can start before the model is resolved")
    rejection = plan.roles.rejection
    if rejection is not None:
        message = f"{rejection.message}; kubectl slipway retry {resource.owner.name} tries it again"
        return Verdict("False", Reason.REJECTED, message)
    name = names.revision_object(resource.owner.name, wanted.name)
    fault = _first_fault(
        observed,
        (
            Reference(kind, name)
            for kind in (
                Kind.CONTROLLER_REVISION,
                Kind.DEPLOYMENT,
                Kind.SERVICE,
                Kind.AUTOSCALER,
                Kind.DISRUPTION_BUDGET,
            )
        ),
    ) or _first_fault(
        observed, (Reference(Kind.SERVICE_ACCOUNT, names.service_account(resource.owner.name)),)
    )
    if fault is not None:
        return Verdict("False", fault.reason, fault.message)
    available = Verdict("True", Reason.AVAILABLE, f"revision {wanted.name} has its pods ready")
    deployment = observed.find(Kind.DEPLOYMENT, name)
    if ready_replicas(observed, resource.owner, wanted.name) >= spec.scaling.minReplicas:
        return available
    if deployment is not None and not is_counted(deployment) and _was_said(resource, available):
        # Every scaling makes the numbers stale for a moment; that is no reason to say anything else.
        return available
    fault = (deployment and diagnose_deployment(deployment)) or diagnose_pods(observed.pods(wanted.name), now)
    if fault is not None:
        return Verdict("False", fault.reason, fault.message)
    before = _still_failing(resource, ConditionType.REVISION_READY)
    if before is not None:
        # A pod that failed is starting again; until it is ready the last failure is the best that is known.
        return before
    return Verdict("Unknown", Reason.STARTING, f"pods of revision {wanted.name} are starting")


def _route_ready(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> Verdict:
    routed = plan.roles.routed
    if routed is None:
        return Verdict("Unknown", Reason.WAITING_FOR_REVISION, "no revision is there to be routed to")
    ours = (Reference(kind, resource.owner.name) for kind in (Kind.SERVICE, Kind.HTTP_ROUTE))
    fault = _first_fault(observed, ours)
    if fault is None and spec.traffic.gatewayAPI is not None and observed.traffic is not None:
        fault = observed.traffic.fault
    if fault is not None:
        return Verdict("False", fault.reason, fault.message)
    if _leads_to(routed, resource, observed):
        return Verdict("True", Reason.ROUTED, f"Service {resource.owner.name} leads to revision {routed}")
    if _is_moving(plan, now) and _is_served_by_any(resource, observed):
        # Its endpoints follow in a moment; until then clients reach the revision before.
        return Verdict("True", Reason.ROUTED, f"Service {resource.owner.name} leads to revision {routed}")
    return Verdict(
        "False",
        Reason.NO_READY_ENDPOINTS,
        f"Service {resource.owner.name} has no ready pod of revision {routed}",
    )


def _is_moving(plan: Plan, now: datetime) -> bool:
    """Whether the stable revision has just taken over."""
    promoted_at = plan.roles.promoted_at
    return promoted_at is not None and now - promoted_at < RETIREMENT


def _is_served_by_any(resource: Resource, observed: Observed) -> bool:
    """Whether the Service leads to a ready pod of any revision."""
    pods = {pod["metadata"]["name"] for pod in observed.of(Kind.POD) if revision_of_object(pod) is not None}
    return bool(pods & observed.ready_pods_behind(resource.owner.name))


def _traffic_synced(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed
) -> dict[ConditionType, Verdict]:
    """Whether every router does what it was told; there only where there is a router to be told."""
    traffic = observed.traffic
    if traffic is None or plan.roles.stable is None:
        return {}
    if traffic.approximate:
        return {ConditionType.TRAFFIC_SYNCED: _approximate(resource.owner, plan, observed, traffic)}
    if spec.traffic.gatewayAPI is not None:
        return {ConditionType.TRAFFIC_SYNCED: _by_gateways(plan, traffic)}
    if plan.router_port is None:
        return {}
    rollout = plan.roles.rollout
    synced = traffic.complete and traffic.arrived
    if synced and rollout is not None and rollout.mismatch:
        return {ConditionType.TRAFFIC_SYNCED: Verdict("False", Reason.SPLIT_MISMATCH, rollout.mismatch)}
    if synced:
        weight = max(traffic.weights, default=0)
        to = f"{weight}% to the canary" if plan.roles.candidate else f"all to revision {plan.roles.stable}"
        return {ConditionType.TRAFFIC_SYNCED: Verdict("True", Reason.ROUTED, f"every router sends {to}")}
    if traffic.fault is not None:
        fault = traffic.fault
        if fault.reason is not Reason.ROUTER_FULL:
            fault = Fault(Reason.ROUTER_UNAVAILABLE, f"no router is ready: {fault.reason}: {fault.message}")
        return {ConditionType.TRAFFIC_SYNCED: Verdict("False", fault.reason, fault.message)}
    words = f"{traffic.knowing} of {traffic.routers} routers do what they were told"
    if traffic.complete:
        words = "the routers that it moves to are starting; those that it has do what they were told"
    return {ConditionType.TRAFFIC_SYNCED: Verdict("False", Reason.ROLLING_OUT, words)}


def _by_gateways(plan: Plan, traffic: Traffic) -> Verdict:
    """What the HTTPRoute's own status says."""
    if traffic.fault is not None:
        return Verdict("False", traffic.fault.reason, traffic.fault.message)
    if not traffic.complete:
        words = f"{traffic.knowing} of {traffic.routers} Gateways have taken up the newest HTTPRoute"
        return Verdict("False", Reason.ROLLING_OUT, words)
    weight = max(traffic.weights, default=0)
    to = f"{weight}% to the canary" if plan.roles.candidate else f"all to revision {plan.roles.stable}"
    return Verdict("True", Reason.ROUTED, f"the HTTPRoute that every Gateway accepted sends {to}")


def _approximate(owner: Owner, plan: Plan, observed: Observed, traffic: Traffic) -> Verdict:
    """The share that ready pods make, beside the one that was asked for."""
    if not traffic.complete:
        return Verdict("False", Reason.ROLLING_OUT, "the endpoints of the Service follow its selector")
    rollout = plan.roles.rollout
    if rollout is None or plan.roles.candidate is None:
        return Verdict("True", Reason.APPROXIMATE, f"all connections are for revision {plan.roles.stable}")
    share = max(traffic.weights, default=0)
    behind = len(observed.ready_pods_behind(owner.name))
    words = f"about {share}% of new connections are for the canary, by its pods among {behind}"
    return Verdict("True", Reason.APPROXIMATE, f"{words}; {rollout.weight}% are asked for")


def _monitored(monitoring: MonitoringStatus | None) -> dict[ConditionType, Verdict]:
    """What monitoring says of the stable version; Ready is not touched by it."""
    return {
        ConditionType(found.type): Verdict(found.status, Reason(found.reason), found.message)
        for found in (monitoring.verdicts if monitoring is not None else ())
        if found.reason in set(Reason)
    }


def _leads_to(revision: str, resource: Resource, observed: Observed) -> bool:
    """Whether a ready pod of a revision stands behind the Service, or behind the routers behind it."""
    service = observed.find(Kind.SERVICE, resource.owner.name)
    selector = service["spec"].get("selector") if service is not None else None
    behind = observed.ready_pods_behind(resource.owner.name)
    if led_to(service) is not None:
        traffic = observed.traffic
        return (
            bool(behind)
            and traffic is not None
            and revision in traffic.reached
            and any(is_ready(pod) for pod in observed.pods(revision))
        )
    one = names.pod_selector(resource.owner.name, revision)
    if selector not in (one, names.pod_selector(resource.owner.name)):
        return False
    return bool(behind & {pod["metadata"]["name"] for pod in observed.pods(revision)})


def _canary_weight(plan: Plan, observed: Observed) -> int | None:
    """What the routers were seen to do, not what they were told."""
    if plan.roles.candidate is None or plan.roles.stable is None:
        return None
    weights = observed.traffic.weights if observed.traffic else frozenset()
    return max(weights, default=0)


def _ready(
    resource: Resource, plan: Plan, resolved: Verdict, revision_ready: Verdict, route_ready: Verdict
) -> Verdict:
    stable = plan.roles.stable
    if stable is not None and route_ready.status == "True":
        return Verdict(
            "True",
            Reason.SERVING,
            f"revision {stable} serves at http://{resource.owner.name}.{resource.owner.namespace}.svc",
        )
    open_parts = [part for part in (resolved, revision_ready, route_ready) if part.status != "True"]
    if not open_parts:
        return Verdict("False", Reason.STARTING, "the first revision is about to serve")
    # What a person has to mend counts more than what is under way, whichever comes first.
    told = next((part for part in open_parts if _is_bad(part)), open_parts[0])
    return Verdict("False", told.reason, told.message)


def _progress(plan: Plan, parts: Iterable[Verdict]) -> dict[ConditionType, Verdict]:
    """kstatus conditions: there only while they are True."""
    open_parts = [part for part in parts if part.status != "True"]
    stuck = next((part for part in open_parts if _is_bad(part)), None)
    if stuck is not None:
        return {ConditionType.STALLED: _stalled(stuck)}
    if open_parts:
        return {ConditionType.RECONCILING: Verdict("True", open_parts[0].reason, open_parts[0].message)}
    if plan.roles.candidate is not None:
        rollout = plan.roles.rollout
        waits = f": {rollout.message}" if rollout else ""
        message = f"revision {plan.roles.candidate} is to take over{waits}"
        return {ConditionType.RECONCILING: Verdict("True", Reason.ROLLING_OUT, message)}
    return {}


def _stalled(verdict: Verdict) -> Verdict:
    return Verdict("True", verdict.reason, verdict.message)


def _is_bad(verdict: Verdict) -> bool:
    return verdict.status == "False" and verdict.reason not in _UNDER_WAY


def _conditions(
    resource: Resource, verdicts: dict[ConditionType, Verdict], now: datetime
) -> tuple[Condition, ...]:
    conditions = []
    for type_, verdict in verdicts.items():
        before = _condition(resource, type_)
        unchanged = before is not None and before.status == verdict.status
        conditions.append(
            Condition.model_validate(
                {
                    "type": type_.value,
                    "status": verdict.status,
                    "reason": verdict.reason.value,
                    "message": verdict.message[:4096],
                    "observedGeneration": resource.generation,
                    "lastTransitionTime": before.lastTransitionTime if before and unchanged else _text(now),
                }
            )
        )
    return tuple(conditions)


def _condition(resource: Resource, type_: ConditionType) -> Condition | None:
    return next((found for found in resource.status.conditions if found.type == type_), None)


def _still_failing(resource: Resource, type_: ConditionType) -> Verdict | None:
    """A condition's failure, if it was said of this very spec."""
    before = _condition(resource, type_)
    if before is None or before.status != "False" or before.observedGeneration != resource.generation:
        return None
    if before.reason not in set(Reason):
        return None
    return Verdict("False", Reason(before.reason), before.message)


def _was_said(resource: Resource, verdict: Verdict) -> bool:
    """Whether RevisionReady says this already, of this very revision."""
    before = _condition(resource, ConditionType.REVISION_READY)
    return before is not None and (before.status, before.message) == (verdict.status, verdict.message)


def _revision_status(
    resource: Resource, revision: str | None, plan: Plan, observed: Observed
) -> RevisionStatus | None:
    if revision is None:
        return None
    version, digest, created = _identity(resource, revision, plan, observed)
    deployment = observed.find(Kind.DEPLOYMENT, names.revision_object(resource.owner.name, revision))
    status = (deployment.get("status") if deployment else None) or {}
    return RevisionStatus(
        revision=revision,
        version=version,
        digest=digest,
        replicas=int(status.get("replicas", 0)),
        readyReplicas=int(status.get("readyReplicas", 0)),
        modelCreatedAt=created,
    )


def _identity(
    resource: Resource, revision: str, plan: Plan, observed: Observed
) -> tuple[str, str, str | None]:
    """Version and digest of a revision and when its model was made, from whoever knows them."""
    wanted = plan.roles.wanted
    if wanted is not None and wanted.name == revision:
        return wanted.model.version, wanted.model.digest, wanted.model.createdAt
    for before in (resource.status.stable, resource.status.canary):
        if before is not None and before.revision == revision:
            return before.version, before.digest, before.modelCreatedAt
    content = remembered(revision, observed)
    return (content.model.version, content.model.digest, None) if content else ("", "", None)


def _notices(resource: Resource, plan: Plan, verdicts: dict[ConditionType, Verdict]) -> tuple[Notice, ...]:
    """One Event for each condition that turned good or bad, and none twice for one cause."""
    told = _changed(
        resource,
        {
            type_: verdicts[type_]
            for type_ in (ConditionType.READY, ConditionType.MODEL_RESOLVED, ConditionType.REVISION_READY)
        },
    )
    told = (*told, *_breaches(resource, verdicts))
    before = resource.status.stable.revision if resource.status.stable else None
    step = _step_taken(resource, plan)
    if step is not None:
        told = (*told, step)
    if before is not None and plan.roles.stable not in (None, before):
        message = f"revision {plan.roles.stable} took over from {before}"
        return (*told, Notice(normal=True, reason=Reason.SERVING, message=message))
    return told


def _breaches(resource: Resource, verdicts: dict[ConditionType, Verdict]) -> tuple[Notice, ...]:
    """What monitoring found to be bad, and what is known to be good again."""
    told = []
    for type_, bad in _BAD.items():
        before, now = _condition(resource, type_), verdicts.get(type_)
        if now is None or now.status == "Unknown":
            continue
        if now.status == bad and (before is None or before.status != bad):
            told.append(Notice(False, now.reason, now.message))
        if now.status != bad and before is not None and before.status == bad:
            told.append(Notice(True, now.reason, now.message))
    return tuple(told)


def _jobs_created(resource: Resource, monitoring: MonitoringStatus | None) -> tuple[Notice, ...]:
    """Jobs that status did not remember yet."""
    before = resource.status.monitoring
    known = {found.episode.job for found in (before.verdicts if before else ()) if found.episode}
    return tuple(
        Notice(True, Reason.JOB_CREATED, f"Job {found.episode.job} was created, since {found.type} is bad")
        for found in (monitoring.verdicts if monitoring is not None else ())
        if found.episode is not None and found.episode.job not in (None, *known)
    )


def _step_taken(resource: Resource, plan: Plan) -> Notice | None:
    """A rollout that began, moved traffic, or came to wait for somebody."""
    before, now = resource.status.rollout, plan.roles.rollout
    if now is None:
        return None
    what = f"{now.weight}% of traffic is for revision {now.revision}"
    if now.mirrorPercent:
        what = f"copies of {now.mirrorPercent}% of requests are for revision {now.revision}"
    if before is None or before.id != now.id:
        return Notice(True, Reason.ROLLING_OUT, f"revision {now.revision} is to take over step by step")
    if (before.weight, before.mirrorPercent) != (now.weight, now.mirrorPercent):
        return Notice(now.phase != "Aborting", Reason.ROLLING_OUT, what)
    if now.mismatch and not before.mismatch:
        return Notice(False, Reason.SPLIT_MISMATCH, now.mismatch)
    if now.phase == "Paused" != before.phase:
        return Notice(True, Reason.ROLLING_OUT, f"{what}; {now.message}")
    return None


def _changed(resource: Resource, verdicts: dict[ConditionType, Verdict]) -> tuple[Notice, ...]:
    told: dict[tuple[Reason, str], Notice] = {}
    for type_, verdict in verdicts.items():
        before = _condition(resource, type_)
        if before is not None and (before.status, before.reason) == (verdict.status, verdict.reason):
            continue
        if verdict.status == "True" or _is_bad(verdict) or verdict.reason is Reason.REGISTRY_UNREACHABLE:
            notice = Notice(verdict.status == "True", verdict.reason, verdict.message)
            told.setdefault((notice.reason, notice.message), notice)
    return tuple(told.values())


def _first_fault(observed: Observed, references: Iterable[Reference]) -> Fault | None:
    return next((observed.faults[found] for found in references if found in observed.faults), None)


def _text(moment: datetime | None) -> str | None:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
