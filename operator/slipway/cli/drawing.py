"""A rollout as text: what serves, how far the canary is, and what the evidence says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from slipway.api.rollout import Rollout, Step
from slipway.api.rollout_status import RolloutStatus
from slipway.api.status import Condition, ModelDeploymentStatus, RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.cli.terminal import Line, Tone
from slipway.core import proof
from slipway.core.observed import Fault
from slipway.core.resource import Resource
from slipway.core.rollout.machine import steps_of

_BAR = 16


#: What a condition is when something is wrong; of others False is what is under way, or wrong by its reason.
_BAD = {"Ready": "False", "Stalled": "True", "Drift": "True", "Crashing": "True"} | dict.fromkeys(
    ("DataQuality", "Performance", "Fairness", "AuditsPassed", "TrafficSynced", "ScalingActive"), "False"
)
_OPEN = {"Reconciling": "True", "Suspended": "True", "RolloutComplete": "False"}
_VERDICTS = {"Pass": Tone.GOOD, "Fail": Tone.BAD, "Inconclusive": Tone.WAITING, "Error": Tone.WAITING}
_PHASES = {"Aborting": Tone.BAD, "Paused": Tone.WAITING}


def draw(resource: Resource, now: datetime) -> list[Line]:
    """A ModelDeployment for a terminal.

    Args:
        resource: as it was read.
        now: the time, with a time zone.
    """
    return list(_lines(resource, now))


def faults(resource: Resource) -> list[Fault]:
    """Why not all of it can be drawn."""
    return [found for found in (resource.spec, resource.status_fault) if isinstance(found, Fault)]


def _lines(resource: Resource, now: datetime) -> Iterator[Line]:
    status, spec = resource.status, resource.spec
    yield Line(f"{resource.owner.namespace}/{resource.owner.name}", Tone.TITLE)
    for fault in faults(resource):
        yield Line(f"  {fault.reason}: {fault.message}", Tone.BAD)
    if resource.status_fault is None or status.stable is not None or status.canary is not None:
        yield from _arms(status)
    if status.model is not None and (told := proof.told(status.model)):
        tone = Tone.PLAIN if proof.is_proved(status.model) else Tone.WAITING
        yield Line(f"  version {status.model.version}: {told}", tone)
    if status.upgrade is not None:
        tone = Tone.BAD if status.upgrade.phase == "Stuck" else Tone.WAITING
        yield Line(f"  upgrade {status.upgrade.phase}: {status.upgrade.message}", tone)
    if status.rollout is not None and not isinstance(spec, Fault):
        yield Line("")
        yield from _rollout(spec, status.rollout, status, now)
    if status.rejected:
        yield Line("")
        yield Line("rejected; kubectl slipway retry allows the most recent to be tried again", Tone.TITLE)
        for rejection in status.rejected:
            yield Line(f"  {rejection.revision}  {rejection.rejectedAt}  {rejection.message}")
    yield from _audits(status)
    yield Line("")
    for condition in status.conditions:
        told = f"  {condition.type:16} {condition.status:7} {condition.reason}: {condition.message}"
        yield Line(told, tone_of(condition))


def _audits(status: ModelDeploymentStatus) -> Iterator[Line]:
    if status.audits:
        yield Line("")
        yield Line("audits", Tone.TITLE)
    for found in sorted(status.audits or (), key=lambda one: one.finishedAt, reverse=True):
        told = f"  {found.name}, version {found.version}: {found.verdict}; {found.message}"
        yield Line(told, _VERDICTS[found.verdict])


def _arms(status: ModelDeploymentStatus) -> Iterator[Line]:
    canary_share = status.canaryWeight or 0
    if status.stable is None and status.canary is None:
        yield Line("  nothing serves yet", Tone.WAITING)
    if status.stable is not None:
        yield _arm("stable", status.stable, 100 - canary_share)
    if status.canary is not None:
        yield _arm("canary", status.canary, canary_share if status.stable is not None else 0)


def _arm(role: str, revision: RevisionStatus, share: int) -> Line:
    filled = round(_BAR * share / 100)
    bar = "█" * filled + "░" * (_BAR - filled)
    pods = f"{revision.readyReplicas}/{revision.replicas} pods ready"
    if revision.device is not None:
        pods += f", on {revision.device}"
    told = f"  {role}  {bar} {share:3}%  version {revision.version}, revision {revision.revision}, {pods}"
    return Line(told, Tone.GOOD if revision.readyReplicas else Tone.BAD)


def tone_of(condition: Condition) -> Tone:
    """How good or bad it is that a condition is as it is."""
    if _BAD.get(condition.type) == condition.status or condition.reason == "Rejected":
        return Tone.BAD
    if _OPEN.get(condition.type) == condition.status or condition.status == "Unknown":
        return Tone.WAITING
    return Tone.PLAIN


def _rollout(
    spec: ModelDeploymentSpec, rollout: RolloutStatus, status: ModelDeploymentStatus, now: datetime
) -> Iterator[Line]:
    since = now - datetime.fromisoformat(rollout.startedAt)
    tone = _PHASES.get(rollout.phase, Tone.TITLE)
    yield Line(f"rollout {rollout.id}: {rollout.phase} since {_span(since)}", tone)
    for number, step in enumerate(steps_of(spec.rollout)):
        mark = "✓" if number < rollout.step else "→" if number == rollout.step else " "
        yield Line(f"  {mark} {told_step(step)}")
    if rollout.message:
        yield Line(f"  {rollout.message}")
    if status.canary is not None and status.canary.readyReplicas < rollout.canaryReplicas:
        begun = datetime.fromisoformat(rollout.stepStartedAt)
        left = begun + timedelta(seconds=spec.rollout.progressDeadlineSeconds) - now
        if rollout.phase != "Aborting":
            told = (
                f"  without {rollout.canaryReplicas} ready pods in {_span(max(left, timedelta()))}: aborted"
            )
            yield Line(told, Tone.WAITING)
    seen = status.canaryWeight or 0
    if seen != rollout.weight:
        yield Line(f"  routers send {seen}%, {rollout.weight}% is asked for")
    for gate in rollout.gates:
        yield Line(f"  gate {gate.name}: {gate.verdict}; {gate.message}", _VERDICTS[gate.verdict])
    yield from _times(spec.rollout, rollout, now)


def _times(spec: Rollout, rollout: RolloutStatus, now: datetime) -> Iterator[Line]:
    if rollout.weight or rollout.mirrorPercent:
        looked = datetime.fromisoformat(rollout.lookedAt or rollout.startedAt)
        left = looked + timedelta(seconds=spec.analysis.intervalSeconds) - now
        yield Line(f"  next look in {_span(max(left, timedelta()))}")
    if rollout.phase in ("Promoting", "Aborting"):
        return
    steps = steps_of(spec)
    if rollout.step < len(steps):
        step, begun = steps[rollout.step], datetime.fromisoformat(rollout.stepStartedAt)
        if step.analysis is not None:
            left = begun + timedelta(seconds=spec.analysis.maxDurationSeconds) - now
            told = f"  without a verdict in {_span(max(left, timedelta()))}: {spec.analysis.onInconclusive}"
            yield Line(told)
        elif step.pause is not None and step.pause.seconds is not None:
            left = begun + timedelta(seconds=step.pause.seconds) - now
            yield Line(f"  goes on in {_span(max(left, timedelta()))}")


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
