"""Which revision does what: stable, candidate, or none any more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from slipway.api.reasons import ConditionType, Reason
from slipway.api.rollout import MAX_PREVIOUS
from slipway.api.rollout_status import Rejection, RolloutStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.diagnosis import diagnose_deployment, diagnose_pods, verdict_of_pods
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Fault, Manifest, ObjectKind, Observed, is_ready, revision_of_object
from slipway.core.resource import Resource
from slipway.core.revision import Revision, Settings
from slipway.core.rollout.audits import NO_AUDITS, AuditHold, Audits
from slipway.core.rollout.commands import commands_for, is_retried
from slipway.core.rollout.history import (
    carried_over_rejections,
    rejection_of,
    with_rejection,
)
from slipway.core.rollout.machine import decide
from slipway.core.rollout.new_look import new_look
from slipway.core.rollout.restored import is_forgotten, is_restored, what_is_awaited
from slipway.core.rollout.sample_ratio_mismatch import split_mismatch
from slipway.core.rollout.situation import Situation, StepOutcome
from slipway.core.rollout.takeover import STABLE_PATIENCE
from slipway.core.rollout.way_back import way_back, with_breach
from slipway.core.traffic.replica_ratio import pods_behind
from slipway.core.traffic.routed import is_routed, routed_group
from slipway.core.upgrade import is_under_way


@dataclass(frozen=True)
class Roles:
    """Which revision does what.

    Attributes:
        stable: the revision that clients reach, or None before the first has become ready.
        candidate: the revision that is to become stable, or None.
        wanted: the revision that the spec asks for, or None while its model is not resolved.
        promoted_at: when the stable revision took over.
        rollout: how far the candidate is, where it goes by steps.
        rejected: revisions that are not tried again by themselves.
        previous: earlier stable revisions, the newest first.
        retry_after: seconds until time alone may change something about the rollout, or None.
        suspended: what a person has to do before the wanted revision goes on; empty where none is waited for.
        took_over: why a revision took over without further steps; empty where it went its way.
        audit: why the wanted revision may not begin, or take over, yet, or None.
    """

    stable: str | None = None
    candidate: str | None = None
    wanted: Revision | None = None
    promoted_at: datetime | None = None
    rollout: RolloutStatus | None = None
    rejected: tuple[Rejection, ...] = ()
    previous: tuple[str, ...] = ()
    retry_after: float | None = None
    suspended: str = ""
    took_over: str = ""
    audit: AuditHold | None = None

    @property
    def routed(self) -> str | None:
        """The revision behind the Service: the stable one or, before there is one, the candidate."""
        return self.stable or self.candidate

    @property
    def rejection(self) -> Rejection | None:
        """Why the wanted revision is no candidate, or None."""
        if self.wanted is None or self.wanted.name in (self.stable, self.candidate):
            return None
        return rejection_of(self.wanted, self.rejected)


def assign_roles(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision | None,
    observed: Observed,
    settings: Settings,
    now: datetime,
    audits: Audits = NO_AUDITS,
) -> Roles:
    """Decide who is stable: the wanted revision, once it can carry the traffic and has earned it."""
    status = resource.status
    # What clients reach although status does not say so took over with a status that was not written.
    unsaid = _served(resource.owner, wanted, observed) if status.stable is None else None
    promoted_at = datetime.fromisoformat(status.promotedAt) if status.promotedAt else None
    roles = Roles(
        stable=status.stable.revision if status.stable else unsaid,
        wanted=wanted,
        promoted_at=promoted_at or (now if unsaid is not None else None),
        rejected=carried_over_rejections(
            tuple(found for found in status.rejected if not is_retried(resource.annotations, found)),
            wanted,
            observed,
        ),
        previous=status.previous,
    )
    if wanted is None:
        # What is under way stays as it is until it is known what is wanted.
        return replace(
            roles, candidate=status.canary.revision if status.canary else None, rollout=status.rollout
        )
    if wanted.name == roles.stable:
        rejected = with_breach(roles.rejected, spec, wanted, observed, now)
        back = way_back(resource.owner, spec, wanted, roles.previous, rejected, observed, settings)
        if back is None:
            return roles
        # The wanted revision was found bad while it served: one before it takes its place.
        wanted, roles = back, replace(roles, wanted=back, rejected=rejected)
    at_work = {role.revision for role in (status.stable, status.canary) if role is not None}
    if rejection_of(wanted, roles.rejected, at_work) is not None and roles.stable is not None:
        return roles
    held = _by_audits(resource, spec, wanted, observed, roles, audits, now)
    if held is not None:
        return held
    if roles.stable is not None and is_routed(spec):
        return _by_steps(resource, spec, wanted, observed, roles, audits, now)
    if spec.rollout.strategy == "Recreate" and roles.stable is not None:
        if spec.rollout.paused:
            return replace(roles, suspended=_PAUSED)
        return replace(_promoted(roles, None, now), candidate=wanted.name, promoted_at=None)
    if spec.rollout.paused and roles.stable is not None:
        left = _until_nobody_answers(resource, roles.stable, observed, now)
        if left is None or left > 0:
            return replace(roles, candidate=wanted.name, suspended=_PAUSED, retry_after=left)
    needed = min_ready_before_switch(spec, roles.stable, observed) if roles.stable else 1
    if ready_replicas(observed, resource.owner, wanted.name) >= needed:
        return _promoted(roles, wanted.name, now)
    return replace(roles, candidate=wanted.name)


def _by_audits(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision,
    observed: Observed,
    roles: Roles,
    audits: Audits,
    now: datetime,
) -> Roles | None:
    """What audits make of a revision that has not carried any traffic; None where they let it go on."""
    canary = resource.status.canary
    at_work = canary is not None and canary.revision == wanted.name
    if at_work and (roles.stable is None or is_routed(spec)):
        # It is the only one there is, or its steps end it.
        return None
    if audits.failed:
        if rejection_of(wanted, roles.rejected) is not None:
            return roles
        rollout = f"{wanted.name}.{int(now.timestamp())}"
        rejected = with_rejection(roles.rejected, wanted, observed, rollout, audits.failed, now)
        return replace(roles, rejected=rejected)
    if audits.hold is None or wanted.name in roles.previous[: spec.rollout.rollbackWindowRevisions]:
        return None
    hold = audits.hold
    return replace(
        roles,
        candidate=wanted.name if at_work else None,
        audit=hold,
        suspended=hold.message if hold.suspended else "",
    )


_PAUSED = "spec.rollout.paused is true; set it to false to go on"


def _until_nobody_answers(resource: Resource, stable: str, observed: Observed, now: datetime) -> float | None:
    """Seconds until a revision without ready pods has had its time to come back; None while it has some, or
    is still to start here."""
    if ready_pods_of(stable, observed) or is_restored(resource, observed):
        return None
    conditions = (found for found in resource.status.conditions if found.type == ConditionType.ROUTE_READY)
    said = next(conditions, None)
    if said is None or said.reason not in (Reason.NO_READY_ENDPOINTS, Reason.STABLE_FORGOTTEN):
        return STABLE_PATIENCE.total_seconds()
    lost = datetime.fromisoformat(said.lastTransitionTime)
    return max(0.0, (STABLE_PATIENCE - (now - lost)).total_seconds())


def min_ready_before_switch(spec: ModelDeploymentSpec, stable: str, observed: Observed) -> int:
    """Pods that a candidate needs before it may take over from the stable revision at once.

    One does where the stable revision has none.
    """
    if not ready_pods_of(stable, observed):
        return 1
    most = min(max(spec.scaling.minReplicas, ready_pods_of(stable, observed), 1), spec.scaling.maxReplicas)
    return max(1, math.ceil(most * (spec.rollout.surgePercent or 100) / 100))


def ready_pods_of(revision: str, observed: Observed) -> int:
    """Ready pods of a revision, whichever template they are of."""
    return sum(
        int((found.get("status") or {}).get("readyReplicas", 0))
        for found in observed.of(ObjectKind.DEPLOYMENT)
        if revision_of_object(found) == revision
    )


def ready_replicas(observed: Observed, owner: Owner, revision: str) -> int:
    """Ready pods of a revision's Deployment: those of each template are what people chose."""
    found = observed.find(ObjectKind.DEPLOYMENT, naming.revision_object(owner.name, revision))
    return int((found.get("status") or {}).get("readyReplicas", 0)) if found is not None else 0


def is_counted(deployment: Manifest) -> bool:
    """Whether a Deployment's controller has seen its newest spec, which its numbers speak of then."""
    seen = int((deployment.get("status") or {}).get("observedGeneration", 0))
    return seen >= int(deployment["metadata"].get("generation", 0))


def _by_steps(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision,
    observed: Observed,
    roles: Roles,
    audits: Audits,
    now: datetime,
) -> Roles:
    """Ask the rollout's state machine."""
    before = resource.status.rollout
    if before is not None and before.revision != wanted.name:
        before = None
    rollout = spec.rollout
    if wanted.name in roles.previous[: rollout.rollbackWindowRevisions]:
        # It has been through the steps, not long ago.
        rollout = rollout.model_copy(update={"steps": ()})
    seen = _situation(resource, spec, wanted, observed, roles, now)
    hold = audits.hold if not seen.in_window else None
    seen = replace(seen, audit_failed=audits.failed, auditing=hold.message if hold is not None else "")
    decision = decide(rollout, before, seen, now)
    if decision.outcome is StepOutcome.PROMOTE:
        lost = not ready_pods_of(roles.stable, observed) if roles.stable else False
        return replace(_promoted(roles, wanted.name, now), took_over=decision.state.message if lost else "")
    if decision.outcome is StepOutcome.REJECT and _is_quiet(wanted.name, observed):
        state = decision.state
        rejected = with_rejection(roles.rejected, wanted, observed, state.id, state.message, now)
        return replace(roles, rejected=rejected)
    return replace(
        roles,
        candidate=wanted.name,
        rollout=decision.state,
        retry_after=decision.wait,
        suspended=decision.state.message if decision.suspended else "",
    )


def _situation(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision,
    observed: Observed,
    roles: Roles,
    now: datetime,
) -> Situation:
    traffic = observed.traffic
    pods = observed.pods(wanted.name)
    lost = is_restored(resource, observed) and not (roles.stable and ready_pods_of(roles.stable, observed))
    forgotten = lost and is_forgotten(resource.owner, roles.stable, wanted, observed)
    leaving = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
    return Situation(
        canary=wanted.name,
        canary_ready=ready_replicas(observed, resource.owner, wanted.name),
        canary_routed=traffic.canary_pods if traffic is not None else 0,
        stable_ready=ready_pods_of(roles.stable, observed) if roles.stable else 0,
        max_replicas=spec.scaling.maxReplicas,
        canary_alive=sum(is_ready(pod) for pod in pods if pod not in leaving),
        fault=_cause(resource, wanted, observed, now),
        verdict=verdict_of_pods(pods, now),
        seen_weights=traffic.weights if traffic is not None and traffic.complete else None,
        counts=new_look(spec.rollout.analysis.gates, traffic) if traffic is not None else None,
        evidence_error=traffic.evidence_error if traffic is not None else None,
        doubt=split_mismatch(spec, traffic) if traffic is not None else None,
        commands=commands_for(resource.annotations, resource.status.rollout),
        by_replicas=traffic is not None and traffic.approximate,
        obstacle=traffic.obstacle if traffic is not None else None,
        route_fault=traffic.fault if traffic is not None else None,
        surge_percent=spec.rollout.surgePercent or 100,
        upgrading=is_under_way(resource.status.upgrade),
        in_window=wanted.name in roles.previous[: spec.rollout.rollbackWindowRevisions],
        restored=what_is_awaited(resource.owner, forgotten) if lost else "",
        forgotten=forgotten,
    )


def _cause(resource: Resource, wanted: Revision, observed: Observed, now: datetime) -> Fault | None:
    """Why a revision lacks pods: by its Deployment, by its pods, or as it was said last."""
    deployment = observed.find(
        ObjectKind.DEPLOYMENT, naming.revision_object(resource.owner.name, wanted.name)
    )
    fault = diagnose_deployment(deployment, now) if deployment is not None else None
    fault = fault or diagnose_pods(observed.pods(wanted.name), now)
    canary = resource.status.canary
    if fault is not None or canary is None or canary.revision != wanted.name:
        return fault
    for said in resource.status.conditions:
        if (
            said.type == ConditionType.REVISION_READY
            and said.status == "False"
            and said.reason in set(Reason)
        ):
            return Fault(Reason(said.reason), said.message)
    return None


def _promoted(roles: Roles, revision: str | None, now: datetime) -> Roles:
    """Another revision is stable; the one before is remembered."""
    kept = [found for found in roles.previous if found not in (revision, roles.stable)]
    previous = ([roles.stable] if roles.stable else []) + kept
    return replace(roles, stable=revision, promoted_at=now, previous=tuple(previous)[:MAX_PREVIOUS])


def _is_quiet(revision: str, observed: Observed) -> bool:
    """Whether every router was seen to send a revision nothing."""
    traffic = observed.traffic
    if traffic is None:
        return True
    return revision not in traffic.receiving and (traffic.complete or traffic.routers == 0)


def _served(owner: Owner, wanted: Revision | None, observed: Observed) -> str | None:
    """The revision that clients reach, should status have been lost while it serves."""
    service = observed.find(ObjectKind.SERVICE, owner.name)
    if service is None:
        return None
    selector = service["spec"].get("selector") or {}
    if routed_group(service) is not None:
        return _other_than(wanted, observed.traffic.receiving if observed.traffic else ())
    if selector == naming.pod_selector(owner.name):
        return _other_than(wanted, pods_behind(owner, observed))
    revision = selector.get(naming.REVISION_LABEL)
    pods = {pod["metadata"]["name"] for pod in observed.pods(revision)} if revision else set()
    return revision if pods & observed.ready_pods_behind(owner.name) else None


def _other_than(wanted: Revision | None, receiving: Iterable[str]) -> str | None:
    """The one revision that clients reach beside the wanted one, or None."""
    others = set(receiving) - {wanted.name if wanted else ""}
    return others.pop() if len(others) == 1 else None
