"""Autoscalers of the revisions in use that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind, Observed, condition_of, timestamp
from slipway.core.rollout.roles import Roles

#: How long the figures of a new pod may take to come.
PATIENCE = timedelta(minutes=3)


def inactive(owner: str, roles: Roles, observed: Observed) -> Iterator[tuple[str, Manifest, datetime | None]]:
    """Name, condition, and since when, of each autoscaler of the stable revision and the canary."""
    for revision in (roles.stable, roles.candidate):
        name = naming.revision_object(owner, revision) if revision else ""
        autoscaler = observed.find(ObjectKind.AUTOSCALER, name) if name else None
        found = condition_of(autoscaler, "ScalingActive") if autoscaler is not None else None
        if found is not None and found["status"] == "False":
            yield name, found, timestamp(found.get("lastTransitionTime"))


def scaling_deadline(owner: str, roles: Roles, observed: Observed) -> datetime | None:
    """When patience with the first of them ends, or None."""
    found = (since + PATIENCE for _, _, since in inactive(owner, roles, observed) if since is not None)
    return min(found, default=None)
