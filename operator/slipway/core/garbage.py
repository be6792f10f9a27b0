"""Which children nobody needs any more."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.rollout import Rollout
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Manifest, ObjectKind, Observed, revision_of_object
from slipway.core.rollout.roles import Roles

#: How long a route may take to reach every node.
ENDPOINT_PROPAGATION = timedelta(seconds=10)
# The autoscaler first, so that it does not act on a Deployment that is going.
_ORDER = (ObjectKind.AUTOSCALER, ObjectKind.DISRUPTION_BUDGET, ObjectKind.SERVICE, ObjectKind.DEPLOYMENT)


def retired_children(
    owner: Owner, rollout: Rollout, roles: Roles, observed: Observed, now: datetime
) -> list[Manifest]:
    """Children of revisions that nobody reaches any more, in the order in which they should go."""
    if roles.wanted is None:
        return []
    kept = {roles.stable, roles.candidate}
    waiting = {revision for revision, until in kept_until(rollout, roles).items() if now < until}
    leaving = {
        revision
        for kind in _ORDER
        for child in observed.of(kind)
        if (revision := revision_of_object(child)) is not None
        and revision not in kept
        and revision not in waiting
        and not _is_reached(owner, revision, observed)
    }
    retired = [
        child for kind in _ORDER for child in observed.of(kind) if revision_of_object(child) in leaving
    ]
    history = sorted(
        (
            found
            for found in observed.of(ObjectKind.CONTROLLER_REVISION)
            if revision_of_object(found) not in kept
        ),
        key=lambda found: int(found["revision"]),
        reverse=True,
    )
    return retired + history[rollout.historyLimit :]


def kept_until(rollout: Rollout, roles: Roles) -> dict[str, datetime]:
    """Until when pods of revisions that have no role any more are kept all the same."""
    found = {
        rejection.revision: datetime.fromisoformat(rejection.rejectedAt)
        + timedelta(seconds=rollout.abortScaleDownDelaySeconds)
        for rejection in roles.rejected
    }
    if roles.promoted_at is not None and roles.previous:
        delay = timedelta(seconds=rollout.scaleDownDelaySeconds)
        found[roles.previous[0]] = roles.promoted_at + delay
    return found


def _is_reached(owner: Owner, revision: str, observed: Observed) -> bool:
    """Whether the Service or a router still leads to a revision."""
    if observed.traffic is not None and (
        revision in observed.traffic.receiving or observed.traffic.synced_routers < observed.traffic.routers
    ):
        return True
    pods = {pod["metadata"]["name"] for pod in observed.pods(revision)}
    return bool(pods & observed.ready_pods_behind(owner.name))
