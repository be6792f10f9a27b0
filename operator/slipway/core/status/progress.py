"""Whether the wanted revision is stable, what goes on until it is, and who is waited for."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.api.reasons import ConditionType, Reason
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.status.condition_value import ConditionValue, is_bad


def rollout_complete(
    resource: Resource, plan: Plan, resolved: ConditionValue, revision: ConditionValue
) -> ConditionValue:
    """Whether the revision that the spec asks for is the stable one: what a pipeline waits for."""
    wanted, stable = plan.roles.wanted, plan.roles.stable
    if wanted is None:
        return ConditionValue("False", resolved.reason, resolved.message)
    if wanted.name == stable:
        return ConditionValue(
            "True", Reason.ROLLED_OUT, f"revision {stable} is the one that is asked for, and stable"
        )
    if plan.roles.candidate is None or is_bad(revision):
        return ConditionValue("False", revision.reason, revision.message)
    rollout = plan.roles.rollout
    audit = plan.roles.audit
    waits = (rollout.message if rollout else "") or plan.roles.suspended or (audit.message if audit else "")
    message = f"revision {wanted.name} is to take over{f': {waits}' if waits else ''}"
    if stable is None:
        return ConditionValue("False", Reason.STARTING, message)
    if began_by_itself(resource):
        return ConditionValue("False", Reason.FOLLOWING, message)
    return ConditionValue("False", Reason.SUSPENDED if plan.roles.suspended else Reason.ROLLING_OUT, message)


def began_by_itself(resource: Resource) -> bool:
    """Whether the spec is still the one whose revision became stable: a name that it follows moved."""
    return resource.status.settledGeneration == resource.generation


def progress(
    resource: Resource, plan: Plan, parts: Iterable[ConditionValue], route: ConditionValue
) -> dict[ConditionType, ConditionValue]:
    """kstatus conditions and Suspended: there only while they are True.

    What nobody asked for by a change of the spec neither fails the resource nor keeps it from being current,
    as long as the stable revision answers.
    """
    found: dict[ConditionType, ConditionValue] = {}
    suspended = plan.roles.suspended
    if suspended:
        found[ConditionType.SUSPENDED] = ConditionValue("True", Reason.SUSPENDED, suspended)
    open_parts = [part for part in parts if part.status != "True"]
    is_stable = plan.roles.wanted is not None and plan.roles.wanted.name == plan.roles.stable
    if route.status == "True" and began_by_itself(resource) and not is_stable:
        return found
    stuck = next((part for part in open_parts if is_bad(part) and not part.may_pass), None)
    if stuck is not None:
        return {**found, ConditionType.STALLED: stalled(stuck)}
    if suspended and route.status == "True":
        return found
    if open_parts:
        told = open_parts[0]
        if (
            told.reason is Reason.STARTING
            and plan.roles.rollout is not None
            and plan.roles.stable is not None
        ):
            told = ConditionValue("True", told.reason, f"{told.message}: {plan.roles.rollout.message}")
        return {**found, ConditionType.RECONCILING: ConditionValue("True", told.reason, told.message)}
    if plan.roles.candidate is not None:
        rollout = plan.roles.rollout
        waits = f": {rollout.message}" if rollout else ""
        message = f"revision {plan.roles.candidate} is to take over{waits}"
        return {**found, ConditionType.RECONCILING: ConditionValue("True", Reason.ROLLING_OUT, message)}
    return {**found, **_of_pods(plan)}


def _of_pods(plan: Plan) -> dict[ConditionType, ConditionValue]:
    """What is said of pods that are replaced since the spec says so: a commit to the resource began that."""
    upgrade = plan.upgrade
    if upgrade is None or upgrade.cause is None:
        return {}
    if upgrade.phase == "Stuck":
        return {ConditionType.STALLED: ConditionValue("True", Reason.UPGRADE_STUCK, upgrade.message)}
    return {ConditionType.RECONCILING: ConditionValue("True", Reason.UPGRADING, upgrade.message)}


def stalled(verdict: ConditionValue) -> ConditionValue:
    """The same, as the condition that only a person can end."""
    return ConditionValue("True", verdict.reason, verdict.message)
