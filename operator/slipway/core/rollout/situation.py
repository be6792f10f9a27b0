"""What is seen of a rollout, what people ask of it, and what is decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slipway.api.rollout_status import LookStatus, RolloutStatus
from slipway.core.observed import Fault


class Command(StrEnum):
    """What a person may ask of a rollout, by annotation with the canary's hash as value."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    ABORT = "abort"
    PAUSE = "pause"
    RETRY = "retry"


class StepOutcome(StrEnum):
    """Where a rollout stands after a step."""

    CONTINUE = "Continue"
    PROMOTE = "Promote"
    REJECT = "Reject"


@dataclass(frozen=True)
class Situation:
    """What is seen of a rollout.

    Attributes:
        canary: name of the canary's revision.
        canary_ready: its ready pods.
        canary_routed: of these, those that every router knows and finds well; traffic for any other one
            would go to the stable revision instead, and count against the canary.
        stable_ready: ready pods of the stable revision.
        max_replicas: that a revision may have.
        canary_alive: its pods that are ready by their own word, leaving ones not counted; the Deployment's
            number is behind for a moment after each scaling. None stands for ``canary_ready``.
        fault: what keeps the canary's pods from being ready, or None.
        verdict: what the model or its server itself did to fail, or None.
        seen_weights: percent of traffic that each router sends to the canary; None while that is not known.
        counts: what both arms answered since the last look; None where it could not be had.
        evidence_error: why the Prometheus that is named could not be asked for a due look, or None.
        doubt: why the counts are of another split than was asked for, or None.
        commands: of a person, for this canary.
        by_replicas: whether weights come about by numbers of pods; see :mod:`slipway.core.ratio`.
        obstacle: what keeps the canary from being sent more than it is, beside its pods, or None.
        route_fault: why whatever splits traffic cannot do so, or None.
        in_window: whether it was stable not long ago.
        surge_percent: of the stable revision's pods, those that a canary needs at most.
        upgrading: whether pods of either revision are replaced for a change of the installation: nothing that
            happens meanwhile is said of the canary.
        audit_failed: why an audit of the canary failed, or empty.
        auditing: what of its audits keeps the canary from getting any traffic, or empty.
        restored: what it waits for since the resource was restored from a backup and the stable revision does
            not answer yet, or empty.
        forgotten: whether it cannot: nothing tells what the stable revision is.
    """

    canary: str
    canary_ready: int
    canary_routed: int
    stable_ready: int
    max_replicas: int
    canary_alive: int | None = None
    fault: Fault | None = None
    verdict: Fault | None = None
    seen_weights: frozenset[int] | None = None
    counts: LookStatus | None = None
    evidence_error: str | None = None
    doubt: str | None = None
    commands: frozenset[Command] = frozenset()
    by_replicas: bool = False
    obstacle: str | None = None
    route_fault: Fault | None = None
    in_window: bool = False
    surge_percent: int = 100
    upgrading: bool = False
    audit_failed: str = ""
    auditing: str = ""
    restored: str = ""
    forgotten: bool = False

    @property
    def alive(self) -> int:
        """Ready pods of the canary right now."""
        return self.canary_ready if self.canary_alive is None else self.canary_alive


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        state: to be remembered; its weight, mirror and replicas are what traffic and capacity have to become.
        outcome: whether the rollout goes on.
        wait: seconds until time alone may change something, or None.
        suspended: whether only a person can have it go on.
        blocked: whether it waits for pods, routers or Gateways, for which it has a deadline.
    """

    state: RolloutStatus
    outcome: StepOutcome = StepOutcome.CONTINUE
    wait: float | None = None
    suspended: bool = False
    blocked: bool = False
