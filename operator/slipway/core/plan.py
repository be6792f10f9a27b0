"""What has to be written so that the cluster becomes what a ModelDeployment asks for.

Pure: the same inputs give the same plan, so that an operator killed at any point goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from slipway.api.types import ModelDeploymentSpec
from slipway.core import names
from slipway.core.build.autoscaler import autoscaler
from slipway.core.build.controller_revision import controller_revision
from slipway.core.build.deployment import deployment
from slipway.core.build.disruption_budget import disruption_budget
from slipway.core.build.metadata import Owner
from slipway.core.build.resolver import resolver_pod
from slipway.core.build.service import revision_service, stable_service
from slipway.core.build.service_account import service_account
from slipway.core.diagnosis import probe_deadline
from slipway.core.observed import Kind, Manifest, Observed, Reference, revision_of_object
from slipway.core.resolution import Resolution, resolve
from slipway.core.resource import Resource
from slipway.core.revision import Revision, Settings, revision_from, revision_of

#: How long a revision is kept after another took its place: every node has to learn the new endpoints first.
RETIREMENT = timedelta(seconds=10)
#: ControllerRevisions that are remembered.
HISTORY = 10


@dataclass(frozen=True)
class Roles:
    """Which revision does what.

    Attributes:
        stable: the revision that clients reach, or None before the first has become ready.
        candidate: the revision that is to become stable, or None.
        wanted: the revision that the spec asks for, or None while its model is not resolved.
        promoted_at: when the stable revision took over.
    """

    stable: str | None = None
    candidate: str | None = None
    wanted: Revision | None = None
    promoted_at: datetime | None = None

    @property
    def routed(self) -> str | None:
        """The revision behind the Service: the stable one or, before there is one, the candidate."""
        return self.stable or self.candidate


@dataclass(frozen=True)
class Plan:
    """Writes in their order, and what was decided on the way.

    Attributes:
        apply: manifests to be applied.
        delete: children to be deleted.
        roles: who does what once this is written.
        resolution: what is known of the model.
        resolver: name of the pod that would resolve it.
        requeue_at: when to look again although nothing changed, or None.
    """

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[Manifest, ...] = ()
    roles: Roles = field(default_factory=Roles)
    resolution: Resolution = field(default_factory=Resolution)
    resolver: str = ""
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
    resolver = resolver_pod(owner, spec, settings)
    resolver_name = str(resolver["metadata"]["name"])
    resolution = resolve(spec, resource.status, observed.find(Kind.POD, resolver_name), now)
    wanted = revision_of(spec, resolution.model, settings) if resolution.model else None
    roles = assign_roles(resource, spec, wanted, observed, now)

    apply: list[dict[str, Any]] = [service_account(owner)]
    if resolution.model is None and observed.find(Kind.POD, resolver_name) is None:
        apply.append(resolver)
    for revision in _kept_revisions(roles, observed):
        apply.extend(_revision_objects(owner, spec, revision, roles, observed, settings))
    if roles.routed is not None:
        apply.append(stable_service(owner, roles.routed))

    retired = _retired(owner, roles, observed, now)
    return Plan(
        apply=tuple(apply),
        delete=(*_spent_resolvers(resolver_name, resource, resolution, observed, now), *retired),
        roles=roles,
        resolution=resolution,
        resolver=resolver_name,
        requeue_at=_earliest(
            now,
            resolution.retry_at,
            roles.promoted_at + RETIREMENT if roles.promoted_at else None,
            probe_deadline(observed.pods(roles.wanted.name)) if roles.wanted else None,
        ),
    )


def assign_roles(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision | None,
    observed: Observed,
    now: datetime,
) -> Roles:
    """Decide who is stable: the wanted revision once it can carry what the stable one carries."""
    status = resource.status
    promoted_at = datetime.fromisoformat(status.promotedAt) if status.promotedAt else None
    stable = status.stable.revision if status.stable else _served(resource.owner, observed)
    if wanted is None or wanted.name == stable:
        return Roles(stable, None, wanted, promoted_at)
    needed = _floor(spec, stable, observed) if stable else 1
    if ready_replicas(observed, resource.owner, wanted.name) >= needed:
        return Roles(wanted.name, None, wanted, now)
    return Roles(stable, wanted.name, wanted, promoted_at)


def ready_replicas(observed: Observed, owner: Owner, revision: str) -> int:
    """Ready pods of a revision's Deployment as its controller counts them for its newest template."""
    found = observed.find(Kind.DEPLOYMENT, names.revision_object(owner.name, revision))
    if found is None:
        return 0
    if not is_counted(found):
        return 0
    status = found.get("status") or {}
    return min(int(status.get("readyReplicas", 0)), int(status.get("updatedReplicas", 0)))


def is_counted(deployment: Manifest) -> bool:
    """Whether a Deployment's controller has seen its newest spec, which its numbers speak of then."""
    seen = int((deployment.get("status") or {}).get("observedGeneration", 0))
    return seen >= int(deployment["metadata"].get("generation", 0))


def _served(owner: Owner, observed: Observed) -> str | None:
    """The revision that the live Service leads to, should status have been lost while it serves."""
    service = observed.find(Kind.SERVICE, owner.name)
    if service is None:
        return None
    revision = (service["spec"].get("selector") or {}).get(names.REVISION_LABEL)
    pods = {pod["metadata"]["name"] for pod in observed.pods(revision)} if revision else set()
    return revision if pods & observed.ready_pods_behind(owner.name) else None


def _floor(spec: ModelDeploymentSpec, stable: str, observed: Observed) -> int:
    """Pods that a candidate needs before it may take over from the stable revision."""
    carrying = sum(
        int((found.get("status") or {}).get("readyReplicas", 0))
        for found in observed.of(Kind.DEPLOYMENT)
        if revision_of_object(found) == stable
    )
    return min(max(spec.scaling.minReplicas, carrying, 1), spec.scaling.maxReplicas)


def _kept_revisions(roles: Roles, observed: Observed) -> list[Revision]:
    """The stable revision as it is remembered, then the wanted one."""
    kept = [roles.wanted] if roles.wanted else []
    if roles.stable is not None and (roles.wanted is None or roles.wanted.name != roles.stable):
        stable = remembered(roles.stable, observed)
        if stable is not None:
            kept.insert(0, stable)
    return kept


def remembered(revision: str, observed: Observed) -> Revision | None:
    """A revision as its ControllerRevision holds it, or None where there is none that can be trusted."""
    for found in observed.of(Kind.CONTROLLER_REVISION):
        if revision_of_object(found) == revision:
            try:
                content = revision_from(found["data"])
            except (KeyError, TypeError, ValueError):
                return None
            # A name of another content is another operator's writing; its children are left as they are.
            return content if content.name == revision else None
    return None


def _revision_objects(
    owner: Owner,
    spec: ModelDeploymentSpec,
    revision: Revision,
    roles: Roles,
    observed: Observed,
    settings: Settings,
) -> list[dict[str, Any]]:
    taking_over = revision.name == roles.candidate and roles.stable is not None
    floor = _floor(spec, roles.stable, observed) if taking_over and roles.stable else 0
    number = _number(revision.name, roles, observed)
    return [
        controller_revision(owner, revision, number),
        deployment(owner, revision, settings.image_pull_policy),
        revision_service(owner, revision.name),
        autoscaler(owner, revision.name, spec.scaling, floor),
        disruption_budget(owner, revision.name),
    ]


def _number(revision: str, roles: Roles, observed: Observed) -> int:
    """The wanted revision has the highest number, also when it is an old one that came back."""
    numbers = {
        revision_of_object(found): int(found["revision"]) for found in observed.of(Kind.CONTROLLER_REVISION)
    }
    own = numbers.pop(revision, 0)
    highest = max(numbers.values(), default=0)
    is_wanted = roles.wanted is not None and roles.wanted.name == revision
    return own if own > highest or (own and not is_wanted) else highest + 1


def _retired(owner: Owner, roles: Roles, observed: Observed, now: datetime) -> list[Manifest]:
    """Children of revisions that nobody reaches any more."""
    if roles.wanted is None:
        return []
    if roles.promoted_at is not None and now < roles.promoted_at + RETIREMENT:
        return []
    kept = {roles.stable, roles.candidate}
    reached = observed.ready_pods_behind(owner.name)
    leaving = {
        revision
        for kind in (Kind.DEPLOYMENT, Kind.SERVICE, Kind.AUTOSCALER, Kind.DISRUPTION_BUDGET)
        for child in observed.of(kind)
        if (revision := revision_of_object(child)) is not None and revision not in kept
    }
    leaving = {
        revision
        for revision in leaving
        if not reached & {pod["metadata"]["name"] for pod in observed.pods(revision)}
    }
    # The autoscaler first, so that it does not act on a Deployment that is going.
    order = (Kind.AUTOSCALER, Kind.DISRUPTION_BUDGET, Kind.SERVICE, Kind.DEPLOYMENT)
    retired = [child for kind in order for child in observed.of(kind) if revision_of_object(child) in leaving]
    history = sorted(
        (found for found in observed.of(Kind.CONTROLLER_REVISION) if revision_of_object(found) not in kept),
        key=lambda found: int(found["revision"]),
        reverse=True,
    )
    return retired + history[HISTORY:]


def _spent_resolvers(
    current: str, resource: Resource, resolution: Resolution, observed: Observed, now: datetime
) -> list[Manifest]:
    """Resolver pods that have said what they had to say, or that nobody asks any more."""
    recorded = resolution.model is not None and resolution.model == resource.status.model
    retry = resolution.retry_at is not None and resolution.retry_at <= now
    spent = []
    for found in observed.of(Kind.POD):
        labels = found["metadata"].get("labels") or {}
        if labels.get(names.COMPONENT_LABEL) != "resolver" or found["metadata"].get("deletionTimestamp"):
            continue
        if found["metadata"]["name"] != current or recorded or retry:
            spent.append(found)
    return spent


def _earliest(now: datetime, *moments: datetime | None) -> datetime | None:
    """The first moment that is still to come."""
    return min((moment for moment in moments if moment is not None and moment > now), default=None)


def references(manifests: Iterable[Manifest]) -> tuple[Reference, ...]:
    """Kind and name of each manifest."""
    return tuple(Reference(Kind(found["kind"]), str(found["metadata"]["name"])) for found in manifests)
