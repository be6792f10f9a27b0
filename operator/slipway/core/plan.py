"""What has to be written so that the cluster becomes what a ModelDeployment asks for.

Pure: the same inputs give the same plan, so that an operator killed at any point goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.status import UpgradeStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.diagnosis import probe_deadline, room_deadline
from slipway.core.garbage import ENDPOINT_PROPAGATION, kept_until, retired_children
from slipway.core.objects.autoscaler import autoscaler
from slipway.core.objects.cluster_keys import cluster_keys, kept_cluster_keys, needs_cluster_keys
from slipway.core.objects.controller_revision import controller_revision
from slipway.core.objects.disruption_budget import disruption_budget
from slipway.core.objects.issuer_keys import issuer_keys, kept_issuer_keys, key_sets
from slipway.core.objects.metadata import Owner
from slipway.core.objects.pod import pulled
from slipway.core.objects.resolver import resolver_pod
from slipway.core.objects.service import revision_service, routed_service, shared_service, stable_service
from slipway.core.objects.service_account import service_account
from slipway.core.observed import (
    Fault,
    Manifest,
    ObjectKind,
    ObjectReference,
    Observed,
    revision_of_object,
)
from slipway.core.resolution import ResolutionState, is_asked, last_look, preferred, resolve
from slipway.core.resource import Resource
from slipway.core.revision import Revision, Settings, revision_of
from slipway.core.rollout.audits import NO_AUDITS, Audits, audits_of
from slipway.core.rollout.breach import breach_jobs
from slipway.core.rollout.history import as_pinned, by_its_name, revision_from_history, was_verified_for
from slipway.core.rollout.restored import with_stable_record
from slipway.core.rollout.roles import Roles, assign_roles, min_ready_before_switch
from slipway.core.scaling_deadline import scaling_deadline
from slipway.core.traffic import replica_ratio
from slipway.core.traffic.gateway_api import has_route, http_route, reachable_gateways
from slipway.core.traffic.routed import by_replicas, has_routers, routed_group, router_group
from slipway.core.traffic.split import Split
from slipway.core.upgrade import Part, deadline, image_fault, next_upgrade, part, to_apply


@dataclass(frozen=True)
class Plan:
    """Writes in their order, and what was decided on the way.

    Attributes:
        apply: manifests to be applied.
        delete: children to be deleted.
        roles: who does what once this is written.
        resolution: what is known of the model.
        resolver: name of the pod that resolves it; empty where nothing is to be found out.
        router_port: its listener on the namespace's routers, or None where it needs none.
        upgrade: how far pods are replaced for a change of the installation, or None.
        audits: what audits say, and the Job that is to be there for them.
        faults: why children that should be there cannot be made.
        requeue_at: when to look again although nothing changed, or None.
    """

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[Manifest, ...] = ()
    roles: Roles = field(default_factory=Roles)
    resolution: ResolutionState = field(default_factory=ResolutionState)
    resolver: str = ""
    router_port: int | None = None
    upgrade: UpgradeStatus | None = None
    audits: Audits = NO_AUDITS
    faults: Mapping[ObjectReference, Fault] = field(default_factory=dict)
    requeue_at: datetime | None = None


def plan(
    resource: Resource, spec: ModelDeploymentSpec, observed: Observed, settings: Settings, now: datetime
) -> Plan:
    """Plan the writes for one ModelDeployment.

    Args:
        resource: the ModelDeployment.
        spec: its spec, which could be read.
        observed: its children.
        settings: of the installation.
        now: the time, with a time zone.
    """
    owner = resource.owner
    observed = with_stable_record(resource, spec, observed)
    resolver = None
    if is_asked(spec, resource.status, observed.refresh_token):
        known = last_look(spec, resource.status, observed.refresh_token)
        resolver = resolver_pod(owner, spec, settings, observed.refresh_token, known)
    resolver_name = str(resolver["metadata"]["name"]) if resolver is not None else ""
    own_resolver = observed.find(ObjectKind.POD, resolver_name)
    answering = preferred(own_resolver, observed.neighbour_resolver, spec.model.uri)
    resolution = resolve(spec, resource.status, answering, now, observed.refresh_token)
    if resolution.model is None and resolution.fault is None:
        resolution = replace(resolution, fault=observed.neighbour_fault)
    if resolution.model is not None and resolution.fault is None and not resolution.asking:
        resolution = replace(resolution, fault=observed.refresh_fault)
    wanted = None
    if resolution.model is not None:
        wanted = by_its_name(revision_of(spec, resolution.model), owner, resource.status, observed)
    audits = audits_of(
        resource, spec, wanted, _remembered_stable(resource, wanted, observed), observed, settings, now
    )
    roles = assign_roles(resource, spec, wanted, observed, settings, now, audits)

    own = spec.runtime.pod
    apply: list[dict[str, Any]] = [service_account(owner, pulled(own, settings.image_pull_secrets))]
    if needs_cluster_keys(spec) and observed.cluster_keys is not None:
        apply.append(cluster_keys(owner, observed.cluster_keys))
    issuers = key_sets(spec, owner, observed)
    if issuers:
        apply.append(issuer_keys(owner, {name: text for name, text in issuers.items() if text is not None}))
    if resolution.asking and answering is None and resolver is not None:
        apply.append(resolver)
    if audits.job is not None:
        apply.append(audits.job)
    apply.extend(breach_jobs(owner, spec, _stable(roles, observed), resource.status.monitoring, observed))
    router_port = (observed.free_port or resource.status.routerPort) if has_routers(spec) else None
    if by_replicas(spec) and roles.routed is not None:
        # First: pods of a third revision must never come behind a Service that selects those of two.
        apply.append(
            shared_service(
                owner, replica_ratio.selector(owner, _split(resource, roles, roles.routed)), _has_tls(spec)
            )
        )
    kept = _kept_revisions(owner, spec, roles, observed)
    lacking = {revision.name: image_fault(owner, revision, settings, observed) for revision in kept}
    parts = [
        part(owner, revision, settings, observed, _serves(revision.name, roles), own, spec.access)
        for revision in kept
        if lacking[revision.name] is None
    ]
    for each in parts:
        apply.extend(_revision_objects(resource, spec, each, roles, observed))
    upgrade = next_upgrade(resource.status.upgrade, parts, observed, now)
    if not by_replicas(spec) and roles.routed is not None:
        apply.append(_client_service(owner, spec, roles, router_port, observed))
    if roles.stable is not None and (gateways := reachable_gateways(spec, observed)) is not None:
        apply.append(http_route(owner, spec, gateways, _split(resource, roles, roles.stable), observed))

    applied = {(found["kind"], found["metadata"]["name"]) for found in apply}
    retired = (
        child
        for child in retired_children(owner, spec.rollout, roles, observed, now)
        # A label that somebody put on what is applied makes nothing of it that could go.
        if (child["kind"], child["metadata"]["name"]) not in applied
    )
    return Plan(
        apply=tuple(apply),
        delete=(
            *_spent_resolvers(
                resolver_name if answering is own_resolver else "", resource, resolution, observed, now
            ),
            *retired,
            *audits.spent,
            *(observed.of(ObjectKind.HTTP_ROUTE) if not has_route(spec, observed) else ()),
            *(kept_cluster_keys(owner, observed) if not needs_cluster_keys(spec) else ()),
            *(kept_issuer_keys(owner, observed) if not issuers else ()),
        ),
        roles=roles,
        resolution=resolution,
        resolver=resolver_name,
        router_port=router_port,
        upgrade=upgrade,
        audits=audits,
        faults={
            ObjectReference(ObjectKind.DEPLOYMENT, naming.revision_object(owner.name, name)): fault
            for name, fault in lacking.items()
            if fault is not None
        },
        requeue_at=_earliest(
            now,
            resolution.retry_at,
            roles.promoted_at + ENDPOINT_PROPAGATION if roles.promoted_at else None,
            *kept_until(spec.rollout, roles).values(),
            now + timedelta(seconds=roles.retry_after) if roles.retry_after is not None else None,
            scaling_deadline(resource.owner.name, roles, observed),
            probe_deadline(observed.pods(roles.wanted.name)) if roles.wanted else None,
            room_deadline(observed.of(ObjectKind.POD), observed.of(ObjectKind.DEPLOYMENT)),
            deadline(upgrade, now),
            audits.look_at,
        ),
    )


def _kept_revisions(
    owner: Owner, spec: ModelDeploymentSpec, roles: Roles, observed: Observed
) -> list[Revision]:
    """The stable revision as it is remembered, then the wanted one."""
    kept = [roles.wanted] if roles.wanted and roles.rejection is None else []
    if (roles.suspended or roles.audit is not None) and roles.candidate is None:
        # Recreate never has two at once, and what waits for its audits has no pods.
        kept = []
    if spec.rollout.strategy == "Recreate" and roles.stable is None and _others(roles, observed):
        kept = []
    if roles.stable is not None and (roles.wanted is None or roles.wanted.name != roles.stable):
        stable = revision_from_history(roles.stable, observed)
        if stable is not None:
            kept.insert(0, as_pinned(stable, spec.runtime.image, owner, observed))
    return kept


def _others(roles: Roles, observed: Observed) -> bool:
    """Whether pods of another revision than the candidate are still there."""
    return any(revision_of_object(pod) not in (None, roles.candidate) for pod in observed.of(ObjectKind.POD))


def _remembered_stable(resource: Resource, wanted: Revision | None, observed: Observed) -> Revision | None:
    """The revision that status says is stable, if what it is is known."""
    stable = resource.status.stable
    if stable is None:
        return None
    is_wanted = wanted is not None and wanted.name == stable.revision
    return wanted if is_wanted else revision_from_history(stable.revision, observed)


def _stable(roles: Roles, observed: Observed) -> Revision | None:
    """The stable revision, if what it is is known."""
    if roles.wanted is not None and roles.wanted.name == roles.stable:
        return roles.wanted
    return revision_from_history(roles.stable, observed) if roles.stable is not None else None


def _serves(revision: str, roles: Roles) -> bool:
    """Whether clients may rely on a revision."""
    rollout = roles.rollout
    if revision == roles.candidate and rollout is not None:
        return bool(rollout.weight or rollout.heldWeight)
    return revision == roles.stable


def _revision_objects(
    resource: Resource,
    spec: ModelDeploymentSpec,
    each: Part,
    roles: Roles,
    observed: Observed,
) -> list[dict[str, Any]]:
    owner, revision = resource.owner, each.revision
    least, fixed = 0, None
    if revision.name == roles.candidate and roles.stable is not None:
        least = (
            roles.rollout.canaryReplicas
            if roles.rollout
            else min_ready_before_switch(spec, roles.stable, observed)
        )
    elif revision.name == roles.stable and roles.rollout is not None:
        # What the canary carries may come back at any moment.
        least = roles.rollout.stableReplicas
    if (
        by_replicas(spec)
        and revision.name == roles.candidate
        and roles.rollout
        and roles.rollout.weight < 100
    ):
        fixed = roles.rollout.canaryReplicas
    number = _number(revision.name, roles, observed)
    pods = to_apply(each, resource.status.upgrade)
    scaled = autoscaler(owner, revision.name, spec.scaling, least, fixed)
    needs_budget = _needs_budget(scaled["metadata"]["name"], scaled["spec"]["minReplicas"], observed)
    return [
        controller_revision(
            owner, revision, number, revision.model.verifiedFor or was_verified_for(revision.name, observed)
        ),
        *([pods] if pods is not None else []),
        revision_service(owner, revision.name),
        scaled,
        *([disruption_budget(owner, revision.name)] if needs_budget else []),
    ]


def _needs_budget(name: str, least: int, observed: Observed) -> bool:
    """Whether a budget can hold anything up: of a single pod, one may always go.

    One that is there stays, so that an autoscaler's ups and downs write nothing.
    """
    if observed.find(ObjectKind.DISRUPTION_BUDGET, name) is not None:
        return True
    deployment = observed.find(ObjectKind.DEPLOYMENT, name)
    replicas = int(deployment["spec"].get("replicas") or 0) if deployment is not None else 0
    return max(least, replicas) > 1


def _client_service(
    owner: Owner, spec: ModelDeploymentSpec, roles: Roles, router_port: int | None, observed: Observed
) -> dict[str, Any]:
    """Through the routers once every one of them has the route, and for as long as one of them is ready."""
    traffic = observed.traffic
    if router_port is not None and roles.stable is not None and traffic is not None:
        if traffic.arrived:
            return routed_service(owner, router_port, router_group(spec, owner.name, router_port))
        there = routed_group(observed.find(ObjectKind.SERVICE, owner.name))
        if there is not None and observed.ready_pods_behind(owner.name):
            return routed_service(owner, router_port, there)
    return stable_service(owner, roles.routed or "", _has_tls(spec))


def _has_tls(spec: ModelDeploymentSpec) -> bool:
    return spec.access is not None and spec.access.tls is not None


def _split(resource: Resource, roles: Roles, stable: str) -> Split:
    """What traffic is to do: a canary has a share once status says so, and no longer than it is one."""
    revision_from_history, decided = resource.status.rollout, roles.rollout
    if (
        revision_from_history is None
        or decided is None
        or revision_from_history.id != decided.id
        or roles.stable is None
    ):
        return Split(stable)
    return Split(
        stable,
        decided.revision,
        min(revision_from_history.weight, decided.weight),
        min(revision_from_history.mirrorPercent, decided.mirrorPercent),
    )


def _number(revision: str, roles: Roles, observed: Observed) -> int:
    """The wanted revision has the highest number, also when it is an old one that came back."""
    numbers = {
        revision_of_object(found): int(found["revision"])
        for found in observed.of(ObjectKind.CONTROLLER_REVISION)
    }
    own = numbers.pop(revision, 0)
    highest = max(numbers.values(), default=0)
    is_wanted = roles.wanted is not None and roles.wanted.name == revision
    return own if own > highest or (own and not is_wanted) else highest + 1


def _spent_resolvers(
    current: str, resource: Resource, resolution: ResolutionState, observed: Observed, now: datetime
) -> list[Manifest]:
    """Resolver pods that have said what they had to say, or that nobody asks any more."""
    recorded = not resolution.asking and resolution.model == resource.status.model
    retry = resolution.retry_at is not None and resolution.retry_at <= now
    spent = []
    for found in observed.of(ObjectKind.POD):
        labels = found["metadata"].get("labels") or {}
        if labels.get(naming.COMPONENT_LABEL) != "resolver" or found["metadata"].get("deletionTimestamp"):
            continue
        if found["metadata"]["name"] != current or recorded or retry:
            spent.append(found)
    return spent


def _earliest(now: datetime, *moments: datetime | None) -> datetime | None:
    """The first moment that is still to come."""
    return min((moment for moment in moments if moment is not None and moment > now), default=None)
