"""What is said of one condition, and what was said of it before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import Condition
from slipway.core.observed import Fault, ObjectReference, Observed
from slipway.core.resource import Resource

#: Reasons of work that goes on by itself; with any other reason of a False condition a person is needed.
_UNDER_WAY = frozenset(
    {
        Reason.RESOLVING,
        Reason.STARTING,
        Reason.ROLLING_OUT,
        Reason.WAITING_FOR_MODEL,
        Reason.WAITING_FOR_REVISION,
        Reason.NO_READY_ENDPOINTS,
        Reason.RESTORED,
        Reason.REGISTRY_UNREACHABLE,
        Reason.STORE_THROTTLED,
        Reason.MODEL_CHANGED,
        Reason.RESOLVER_FAILED,
        Reason.PODS_LOST,
        Reason.NAMESPACE_TERMINATING,
        Reason.WAITING_FOR_GATEWAY,
        Reason.AUDITING,
    }
)

#: Reasons of what is seen as long as it lasts; once it is not seen it is over.
_OF_THE_MOMENT = frozenset({Reason.UNSCHEDULABLE, Reason.QUOTA_EXCEEDED})


@dataclass(frozen=True)
class ConditionValue:
    """Status, reason and message of a condition; ``may_pass`` as of a :class:`Fault`."""

    status: str
    reason: Reason
    message: str
    may_pass: bool = field(default=False, compare=False)


def failed(fault: Fault) -> ConditionValue:
    """False, with the words of a fault."""
    return ConditionValue("False", fault.reason, fault.message, fault.may_pass)


def is_bad(verdict: ConditionValue) -> bool:
    """Whether a person has to fix something."""
    return verdict.status == "False" and verdict.reason not in _UNDER_WAY


def said_before(resource: Resource, type_: ConditionType) -> Condition | None:
    """A condition as status has it now."""
    return next((found for found in resource.status.conditions if found.type == type_), None)


def still_failing(resource: Resource, type_: ConditionType) -> ConditionValue | None:
    """A condition's failure, if it was said of this very spec."""
    before = said_before(resource, type_)
    if before is None or before.status != "False" or before.observedGeneration != resource.generation:
        return None
    if before.reason not in set(Reason) or before.reason in _OF_THE_MOMENT:
        return None
    return ConditionValue("False", Reason(before.reason), before.message)


def first_fault(observed: Observed, references: Iterable[ObjectReference]) -> Fault | None:
    """What the first of these objects that could not be written met with."""
    return next((observed.faults[found] for found in references if found in observed.faults), None)
