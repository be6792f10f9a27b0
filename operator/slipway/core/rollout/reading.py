"""What observers found for a rollout's look, and what that makes of its traffic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, TypeVar

from slipway.core.allowed import Allowed
from slipway.core.observed import AnswerAgreement, ArmCount, Fault, ObservedTraffic, ServedCount
from slipway.core.resource import Resource
from slipway.core.rollout.interest import Interest, Interests

V = TypeVar("V")


@dataclass(frozen=True)
class Reading(Generic[V]):
    """What an observer found when it looked.

    Attributes:
        interest: of which it was looked at.
        at: when the observer began to look.
        value: what was counted since the interest's look; None where it could not be had, or only begins.
        error: why it could not be had, or None.
    """

    interest: Interest
    at: datetime
    value: V | None = None
    error: str | None = None

    def answers(self, interest: Interest) -> bool:
        """Whether this is what can be had for the look of an interest, which was due when it was read."""
        mine = self.interest
        is_same = (mine.subject, mine.look) == (interest.subject, interest.look)
        return is_same and self.at >= interest.due


@dataclass(frozen=True)
class PodCounts:
    """What the pods of canary and stable counted, and the same as routers count it."""

    served: tuple[ServedCount, ServedCount]
    arms: tuple[ArmCount, ArmCount]


@dataclass(frozen=True)
class Readings:
    """The newest of one ModelDeployment; None before the first."""

    pods: Reading[PodCounts] | None = None
    answers: Reading[AnswerAgreement] | None = None
    prometheus: Reading[tuple[ArmCount, ArmCount]] | None = None


def with_readings(
    resource: Resource,
    traffic: ObservedTraffic | None,
    interests: Interests,
    readings: Readings,
    allowed: Allowed,
    now: datetime,
) -> ObservedTraffic | None:
    """Traffic with all that was counted of it.

    Without the arms' counts, so that no look is taken, while an observer has yet to read what a look that is
    due needs. What could not be read is left out, and the look is taken without it.
    """
    if traffic is None:
        return None
    traffic = _with_prometheus(resource, traffic, interests, readings, allowed, now)
    for interest, reading in ((interests.pods, readings.pods), (interests.answers, readings.answers)):
        if interest is None or interest.due > now:
            continue
        if reading is None or not reading.answers(interest):
            return replace(traffic, canary=None, stable=None, evidence_error=None)
    if (counts := _found(interests.pods, readings.pods)) is not None:
        canary, stable = counts.served
        traffic = replace(traffic, canary_served=canary, stable_served=stable)
        if not isinstance(resource.spec, Fault) and resource.spec.traffic.gatewayAPI is not None:
            # What Gateways count is their own affair, so that the pods' word is all there is.
            traffic = replace(traffic, canary=counts.arms[0], stable=counts.arms[1])
    if (agreement := _found(interests.answers, readings.answers)) is not None:
        traffic = replace(traffic, agreement=agreement)
    return traffic


def _with_prometheus(
    resource: Resource,
    traffic: ObservedTraffic,
    interests: Interests,
    readings: Readings,
    allowed: Allowed,
    now: datetime,
) -> ObservedTraffic:
    """With its counts in the place of the routers' own, where the spec asks for it."""
    source = None if isinstance(resource.spec, Fault) else resource.spec.rollout.analysis.prometheus
    if source is None or traffic.approximate:
        return traffic
    fault = allowed.prometheus_fault(source)
    traffic = replace(traffic, canary=None, stable=None, evidence_fault=fault)
    interest, reading = interests.prometheus, readings.prometheus
    if interest is not None and interest.fault is not None and interest.due <= now:
        return replace(traffic, evidence_error=interest.fault.message)
    if interest is None or reading is None or not reading.answers(interest):
        return traffic
    canary, stable = reading.value or (None, None)
    return replace(traffic, canary=canary, stable=stable, evidence_error=reading.error)


def _found(interest: Interest | None, reading: Reading[V] | None) -> V | None:
    if interest is None or reading is None or not reading.answers(interest):
        return None
    return reading.value
