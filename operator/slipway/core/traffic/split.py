"""Who is to get what share of traffic, whichever provider does it."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.api.status import ModelDeploymentStatus


@dataclass(frozen=True)
class Split:
    """A share for each revision.

    Attributes:
        stable: gets what the canary does not.
        canary: the revision that is to replace it, or None.
        weight: percent for the canary.
        mirror_percent: percent of requests of which the canary gets a copy.
    """

    stable: str
    canary: str | None = None
    weight: int = 0
    mirror_percent: int = 0


def split_of(status: ModelDeploymentStatus) -> Split | None:
    """What status remembers to have been decided; None before anything serves."""
    if status.stable is None:
        return None
    if status.canary is None or status.rollout is None:
        return Split(status.stable.revision)
    rollout = status.rollout
    return Split(status.stable.revision, status.canary.revision, rollout.weight, rollout.mirrorPercent)
