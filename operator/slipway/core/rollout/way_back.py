"""The way back from a stable revision that was found bad while it served."""

from __future__ import annotations

from datetime import datetime

from slipway.api.rollout_status import Rejection
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import VerdictStatus
from slipway.core.objects.metadata import Owner
from slipway.core.observed import Observed
from slipway.core.revision import Revision, Settings
from slipway.core.rollout.breach import going_on
from slipway.core.rollout.history import (
    rejection_of,
    revision_from_history,
    was_verified_for,
    with_rejection,
)
from slipway.core.signers import verified_for
from slipway.core.upgrade import image_fault


def way_back(
    owner: Owner,
    spec: ModelDeploymentSpec,
    stable: Revision,
    previous: tuple[str, ...],
    rejected: tuple[Rejection, ...],
    observed: Observed,
    settings: Settings,
) -> Revision | None:
    """The revision to go back to from a stable one that was found bad; None where it is good or the first.

    What the installation has no image for is no way back. Nor is what was verified for another
    ``spec.model.verify`` than now: who signed it may be withdrawn.

    Args:
        owner: the ModelDeployment.
        spec: its spec.
        stable: the stable revision.
        previous: earlier stable revisions, the newest first.
        rejected: revisions that were found bad, the stable one too if it was.
        observed: the children.
        settings: of the installation.
    """
    asked = spec.monitoring.onBreach if spec.monitoring is not None else None
    if asked is None or asked.action != "Rollback" or not _was_rejected(stable, rejected):
        return None
    wanted = verified_for(spec)
    trusted = (name for name in previous if wanted is None or was_verified_for(name, observed) == wanted)
    earlier = (revision_from_history(name, observed) for name in trusted)
    return next(
        (
            found
            for found in earlier
            if found is not None
            and rejection_of(found, rejected) is None
            and image_fault(owner, found, settings, observed) is None
        ),
        None,
    )


def with_breach(
    rejected: tuple[Rejection, ...],
    spec: ModelDeploymentSpec,
    stable: Revision,
    observed: Observed,
    now: datetime,
) -> tuple[Rejection, ...]:
    """Rejections with that of the stable revision, should monitoring have found it bad."""
    verdict = _breach(spec, stable, observed)
    if verdict is None or _was_rejected(stable, rejected):
        return rejected
    message = f"rolled back: {verdict.type} is {verdict.status}: {verdict.message}"
    rollout = f"{stable.name}.{int(now.timestamp())}"
    return with_rejection(rejected, stable, observed, rollout, message, now)


def _breach(spec: ModelDeploymentSpec, stable: Revision, observed: Observed) -> VerdictStatus | None:
    monitoring = observed.monitoring
    if monitoring is None or monitoring.version != stable.model.version:
        return None
    return next((verdict for verdict, _ in going_on(spec, monitoring, "Rollback")), None)


def _was_rejected(stable: Revision, rejected: tuple[Rejection, ...]) -> bool:
    """Whether the stable revision itself was found bad: what was said of a twin did not keep it out."""
    return any(found.revision == stable.name for found in rejected)
