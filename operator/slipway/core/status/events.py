"""What Events tell: one for each thing that turned good or bad, and none twice for one cause."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import MonitoringStatus
from slipway.core.observed import Observed
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.status.condition_value import ConditionValue, is_bad, said_before
from slipway.core.status.conditions import ConditionValues
from slipway.core.status.way_out import way_out
from slipway.core.upgrade import is_under_way

#: Of the conditions of monitoring, audits and crashes, the status that is bad.
_BAD = {
    ConditionType.DRIFT: "True",
    ConditionType.DATA_QUALITY: "False",
    ConditionType.PERFORMANCE: "False",
    ConditionType.FAIRNESS: "False",
    ConditionType.AUDITS_PASSED: "False",
    ConditionType.CRASHING: "True",
}


@dataclass(frozen=True)
class Event:
    """An Event to be emitted: something turned good or bad."""

    normal: bool
    reason: Reason
    message: str


def events(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, verdicts: ConditionValues
) -> tuple[Event, ...]:
    """One Event for each condition that turned good or bad, and none twice for one cause."""
    types = [ConditionType.READY]
    if not _is_first_answer(resource, verdicts):
        types.append(ConditionType.MODEL_RESOLVED)
    if not _goes_without_saying(resource, verdicts):
        types.append(ConditionType.REVISION_READY)
    told = changed(resource, {type_: verdicts[type_] for type_ in types})
    told = (*told, *_routers(resource, verdicts), *_breaches(resource, verdicts))
    scaling, before_ = (
        verdicts.get(ConditionType.SCALING_ACTIVE),
        said_before(resource, ConditionType.SCALING_ACTIVE),
    )
    if scaling is not None and before_ is None:
        told = (*told, Event(False, scaling.reason, scaling.message))
    told = (*told, *_stranded(resource, verdicts, way_out(resource, spec, plan, observed)))
    told = (*told, *_upgrade(resource, plan))
    before = resource.status.stable.revision if resource.status.stable else None
    step = _step_taken(resource, plan)
    if step is not None:
        told = (*told, step)
    if before is not None and plan.roles.stable not in (None, before):
        why = f": {plan.roles.took_over}" if plan.roles.took_over else ""
        message = f"revision {plan.roles.stable} took over from {before}{why}"
        return (*told, Event(normal=True, reason=Reason.SERVING, message=message))
    return told


def _is_first_answer(resource: Resource, verdicts: ConditionValues) -> bool:
    """That a model was found, where nothing was wrong before: what comes of it is told."""
    before, now = said_before(resource, ConditionType.MODEL_RESOLVED), verdicts[ConditionType.MODEL_RESOLVED]
    return (now.status, now.reason) == ("True", Reason.RESOLVED) and (
        before is None or before.status == "Unknown"
    )


def _goes_without_saying(resource: Resource, verdicts: ConditionValues) -> bool:
    """That pods are ready, where what comes of it is told as soon as the resource is."""
    before = said_before(resource, ConditionType.READY)
    return verdicts[ConditionType.REVISION_READY].status == "True" and (
        before is None or before.status != "True"
    )


def _routers(resource: Resource, verdicts: ConditionValues) -> tuple[Event, ...]:
    """What keeps routers from being there, once a cause; a split that is off is told by its rollout."""
    verdict, before = (
        verdicts.get(ConditionType.TRAFFIC_SYNCED),
        said_before(resource, ConditionType.TRAFFIC_SYNCED),
    )
    if verdict is None or not is_bad(verdict) or verdict.reason is Reason.SPLIT_MISMATCH:
        return ()
    if before is not None and (before.status, before.reason) == (verdict.status, verdict.reason):
        return ()
    return (Event(False, verdict.reason, verdict.message),)


def _stranded(resource: Resource, verdicts: ConditionValues, help_: str) -> tuple[Event, ...]:
    """The stable revision answers nothing, and there is something to be done or to be known of it."""
    ready, before = verdicts[ConditionType.READY], said_before(resource, ConditionType.READY)
    if ready.status == "True" or not help_ or (before is not None and help_ in before.message):
        return ()
    return (Event(False, ready.reason, ready.message),)


def _upgrade(resource: Resource, plan: Plan) -> tuple[Event, ...]:
    """That pods are replaced though nobody changed the resource, and that it does not go on."""
    before, now = resource.status.upgrade, plan.upgrade
    if now is None or now.phase == "Waiting" or (before is not None and before.phase == now.phase):
        return ()
    if now.phase == "Stuck":
        return (Event(False, Reason.UPGRADE_STUCK, now.message),)
    return () if is_under_way(before) else (Event(True, Reason.UPGRADING, now.message),)


def changed(resource: Resource, verdicts: ConditionValues) -> tuple[Event, ...]:
    """Those of the verdicts that are new and worth telling."""
    told: dict[Reason, Event] = {}
    for type_, verdict in verdicts.items():
        before = said_before(resource, type_)
        if before is not None and (before.status, before.reason) == (verdict.status, verdict.reason):
            continue
        if verdict.status == "True" or is_bad(verdict) or verdict.reason is Reason.REGISTRY_UNREACHABLE:
            good = verdict.status == "True" and verdict.reason is not Reason.REFRESH_FAILED
            event = Event(good, verdict.reason, verdict.message)
            if not _is_known(resource, verdict):
                told.setdefault(event.reason, event)
    return tuple(told.values())


def _is_known(resource: Resource, verdict: ConditionValue) -> bool:
    """Whether another condition said the very same while the resource was not ready already."""
    ready = said_before(resource, ConditionType.READY)
    if ready is None or ready.status == "True":
        return False
    return any(
        (said.reason, said.message, said.status) == (verdict.reason, verdict.message, verdict.status)
        for said in resource.status.conditions
    )


def _breaches(resource: Resource, verdicts: ConditionValues) -> tuple[Event, ...]:
    """What monitoring found to be bad, and what is known to be good again."""
    told = []
    for type_, bad in _BAD.items():
        before, now = said_before(resource, type_), verdicts.get(type_)
        if now is None or now.status == "Unknown":
            continue
        if now.status == bad and (before is None or before.status != bad):
            told.append(Event(False, now.reason, now.message))
        if now.status != bad and before is not None and before.status == bad:
            told.append(Event(True, now.reason, now.message))
    return tuple(told)


def _step_taken(resource: Resource, plan: Plan) -> Event | None:
    """A rollout that began, moved traffic, or came to wait for somebody."""
    before, now = resource.status.rollout, plan.roles.rollout
    if now is None:
        return None
    what = f"{now.weight}% of traffic is for revision {now.revision}"
    if now.mirrorPercent:
        what = f"copies of {now.mirrorPercent}% of requests are for revision {now.revision}"
    if before is None or before.id != now.id:
        return Event(True, Reason.ROLLING_OUT, f"revision {now.revision} is to take over step by step")
    if (before.weight, before.mirrorPercent) != (now.weight, now.mirrorPercent):
        return Event(now.phase != "Aborting", Reason.ROLLING_OUT, what)
    if now.mismatch and not before.mismatch:
        return Event(False, Reason.SPLIT_MISMATCH, now.mismatch)
    if now.phase == "Paused" != before.phase:
        return Event(True, Reason.ROLLING_OUT, f"{what}; {now.message}")
    return None


def jobs_created(resource: Resource, monitoring: MonitoringStatus | None) -> tuple[Event, ...]:
    """Jobs that status did not remember yet."""
    before = resource.status.monitoring
    known = {found.episode.job for found in (before.verdicts if before else ()) if found.episode}
    return tuple(
        Event(True, Reason.JOB_CREATED, f"Job {found.episode.job} was created, since {found.type} is bad")
        for found in (monitoring.verdicts if monitoring is not None else ())
        if found.episode is not None and found.episode.job not in (None, *known)
    )
