"""A rollout as text: what serves, how far the canary is, and what the evidence says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from slipway.api.rollout import Rollout, Step
from slipway.api.rollout_status import RolloutStatus
from slipway.api.status import ModelDeploymentStatus, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Fault
from slipway.core.resource import Resource
from slipway.core.rollout.machine import steps_of

_BAR = 20


def draw(resource: Resource, now: datetime) -> str:
    """A ModelDeployment for a terminal.

    Args:
        resource: as it was read.
        now: the time, with a time zone.
    """
    return "\n".join(_lines(resource, now))


def faults(resource: Resource) -> list[Fault]:
    """Why not all of it can be drawn."""
    return [found for found in (resource.spec, resource.status_fault) if isinstance(found, Fault)]


def _lines(resource: Resource, now: datetime) -> Iterator[str]:
    status, spec = resource.status, resource.spec
    yield f"{resource.owner.namespace}/{resource.owner.name}"
    for fault in faults(resource):
        yield f"  {fault.reason}: {fault.message}"
    if resource.status_fault is None or status.stable is not None or status.canary is not None:
        yield from _arms(status)
    if status.upgrade is not None:
        yield f"  upgrade {status.upgrade.phase}: {status.upgrade.message}"
    if status.rollout is not None and not isinstance(spec, Fault):
        yield ""
        yield from _rollout(spec, status.rollout, status, now)
    if status.rejected:
        yield ""
        yield "rejected; kubectl slipway retry lets the newest in again"
        for rejection in status.rejected:
            yield f"  {rejection.revision}  {rejection.rejectedAt}  {rejection.message}"
    yield ""
    for condition in status.conditions:
        yield f"  {condition.type:14} {condition.status:7} {condition.reason}: {condition.message}"


def _arms(status: ModelDeploymentStatus) -> Iterator[str]:
    canary_share = status.canaryWeight or 0
    if status.stable is None and status.canary is None:
        yield "  nothing serves yet"
    if status.stable is not None:
        yield _arm("stable", status.stable, 100 - canary_share)
    if status.canary is not None:
        yield _arm("canary", status.canary, canary_share if status.stable is not None else 0)


def _arm(role: str, revision: RevisionStatus, share: int) -> str:
    filled = round(_BAR * share / 100)
    bar = "█" * filled + "░" * (_BAR - filled)
    pods = f"{revision.readyReplicas}/{revision.replicas} pods ready"
    return f"  {role}  {bar} {share:3}%  version {revision.version}, revision {revision.revision}, {pods}"


def _rollout(
    spec: ModelDeploymentSpec, rollout: RolloutStatus, status: ModelDeploymentStatus, now: datetime
) -> Iterator[str]:
    since = now - datetime.fromisoformat(rollout.startedAt)
    yield f"rollout {rollout.id}: {rollout.phase} since {_span(since)}"
    for number, step in enumerate(steps_of(spec.rollout)):
        mark = "✓" if number < rollout.step else "→" if number == rollout.step else " "
        yield f"  {mark} {told_step(step)}"
    if rollout.message:
        yield f"  {rollout.message}"
    if status.canary is not None and status.canary.readyReplicas < rollout.canaryReplicas:
        begun = datetime.fromisoformat(rollout.stepStartedAt)
        left = begun + timedelta(seconds=spec.rollout.progressDeadlineSeconds) - now
        if rollout.phase != "Aborting":
            yield f"  without {rollout.canaryReplicas} ready pods in {_span(max(left, timedelta()))}: aborted"
    seen = status.canaryWeight or 0
    if seen != rollout.weight:
        yield f"  routers send {seen}%, {rollout.weight}% is asked for"
    for gate in rollout.gates:
        yield f"  gate {gate.name}: {gate.verdict}; {gate.message}"
    yield from _times(spec.rollout, rollout, now)


def _times(spec: Rollout, rollout: RolloutStatus, now: datetime) -> Iterator[str]:
    if rollout.weight or rollout.mirrorPercent:
        looked = datetime.fromisoformat(rollout.lookedAt or rollout.startedAt)
        left = looked + timedelta(seconds=spec.analysis.intervalSeconds) - now
        yield f"  next look in {_span(max(left, timedelta()))}"
    if rollout.phase in ("Promoting", "Aborting"):
        return
    steps = steps_of(spec)
    if rollout.step < len(steps):
        step, begun = steps[rollout.step], datetime.fromisoformat(rollout.stepStartedAt)
        if step.analysis is not None:
            left = begun + timedelta(seconds=spec.analysis.maxDurationSeconds) - now
            yield f"  without a verdict in {_span(max(left, timedelta()))}: {spec.analysis.onInconclusive}"
        elif step.pause is not None and step.pause.seconds is not None:
            left = begun + timedelta(seconds=step.pause.seconds) - now
            yield f"  goes on in {_span(max(left, timedelta()))}"


def told_step(step: Step) -> str:
    """A step in words."""
    if step.setWeight is not None:
        return f"{step.setWeight}% of the traffic"
    if step.setMirror is not None:
        return f"copies of {step.setMirror.percent}% of the requests"
    if step.setCanaryScale is not None:
        return f"{step.setCanaryScale.replicas} pods"
    if step.pause is not None:
        return "wait for approval" if step.pause.seconds is None else f"wait {step.pause.seconds} s"
    return "wait for evidence"


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
