"""Audits of a version before it has any pods, and of the stable one again and again.

What an audit said is remembered in status by all that it depends on; a Job runs where nothing is remembered,
or what is has grown old. Its name tells its occasion: an operator that is killed at any point finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slipway.api.audits import MAX_AUDIT_RESULTS, Audit, AuditResult
from slipway.api.reasons import Reason
from slipway.api.rollout_status import Rejection
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.audit import audit_job
from slipway.core.observed import Manifest, ObjectKind, Observed
from slipway.core.resource import Resource
from slipway.core.revision import Revision, Settings
from slipway.core.rollout.audit_run import AuditRun, outcome
from slipway.core.rollout.commands import is_retried
from slipway.core.rollout.history import rejection_of

#: When an audit that could not be done is tried again.
RETRY = timedelta(minutes=5)
#: How often is looked whether it is the turn of one that waits.
TURN = timedelta(seconds=10)
_MOST_LETTERS = 1024


@dataclass(frozen=True)
class AuditHold:
    """Why a version has no pods yet; ``suspended`` where only a person can have it go on."""

    reason: Reason
    message: str
    suspended: bool = False


@dataclass(frozen=True)
class Audits:
    """How audits stand.

    Attributes:
        results: to be remembered, the newest first.
        job: to be created, or None.
        running: name of the Job that is created or waited for; empty where there is none.
        spent: Jobs whose result is remembered, or that nobody needs.
        failed: why the wanted revision is not to serve; empty where it may.
        hold: why the wanted revision may not begin yet, or None.
        told: of the stable revision, or before there is one of the wanted one, what each audit said.
        subject: name of that revision.
        look_at: when time alone may change something, or None.
    """

    results: tuple[AuditResult, ...] = ()
    job: dict[str, Any] | None = None
    running: str = ""
    spent: tuple[Manifest, ...] = ()
    failed: str = ""
    hold: AuditHold | None = None
    told: tuple[tuple[str, AuditResult | None], ...] = ()
    subject: str = ""
    look_at: datetime | None = None


NO_AUDITS = Audits()


def audits_of(
    resource: Resource,
    spec: ModelDeploymentSpec,
    wanted: Revision | None,
    stable: Revision | None,
    observed: Observed,
    settings: Settings,
    now: datetime,
) -> Audits:
    """What audits say, and what is to be done for them.

    Args:
        resource: with the results that status remembers.
        spec: as it is now.
        wanted: the revision that the spec wants, or None while its model is not resolved.
        stable: the revision that clients reach, as far as it is known what it is.
        observed: Jobs and their pods among others.
        settings: of the installation.
        now: the time, with a time zone.
    """
    asked, jobs = spec.rollout.audits, _jobs(observed)
    if not asked:
        return Audits(spent=tuple(jobs))
    rejected, remembered = _without_retried(resource)
    is_new = wanted is not None and (stable is None or wanted.name != stable.name)
    if wanted is not None and stable is not None and rejection_of(wanted, rejected) is not None:
        is_new = False
    fresh = [_begin(resource, audit, wanted, stable, remembered, now) for audit in asked if wanted and is_new]
    can_run = stable is not None and not stable.model.folder
    again = [
        _begin(resource, audit, stable, None, remembered, now, serves=True) for audit in asked if can_run
    ]
    runs = [*fresh, *again]
    current = _look(runs, observed, now)
    job = None
    if current is not None and observed.find(ObjectKind.JOB, current.job) is None:
        if observed.may_audit:
            own = spec.runtime.pod
            job = audit_job(
                resource.owner,
                current.job,
                current.audit,
                current.revision,
                current.baseline,
                settings,
                own,
            )
        else:
            current.waits = "waits for its turn: other audits of the namespace run"
    results = _kept(runs, remembered)
    needed = {run.job for run in runs if run.job and (run is current or run.result not in remembered)}
    lost = _lost_stable(resource, stable, asked) if is_new else None
    told = again or fresh
    return Audits(
        results=results,
        job=job,
        running=current.job if current is not None else "",
        spent=tuple(found for found in jobs if found["metadata"]["name"] not in needed),
        failed=_failed(fresh),
        hold=lost or _hold(fresh),
        told=tuple((run.audit.name, run.result) for run in told),
        subject=told[0].revision.name if told else "",
        look_at=_look_at(runs, current, job, now),
    )


def _jobs(observed: Observed) -> list[Manifest]:
    return [
        found
        for found in observed.of(ObjectKind.JOB)
        if (found["metadata"].get("labels") or {}).get(naming.COMPONENT_LABEL) == "audit"
    ]


def _without_retried(resource: Resource) -> tuple[tuple[Rejection, ...], list[AuditResult]]:
    """Rejections and results but for those that a person asked to be forgotten."""
    status = resource.status
    retried = {found.id for found in status.rejected if is_retried(resource.annotations, found)}
    again = {found.revision for found in status.rejected if found.id in retried}
    return tuple(found for found in status.rejected if found.id not in retried), [
        found for found in status.audits or () if not (found.verdict == "Fail" and found.revision in again)
    ]


def audit_key(audit: Audit, revision: Revision) -> str:
    """Hash of all that a result depends on, but the version that it is compared with."""
    what = audit.model_dump(
        mode="json",
        exclude_none=True,
        exclude={"onFail", "onInconclusive", "repeatSeconds", "timeoutSeconds"},
    )
    inputs = None if revision.inputs is None else revision.inputs.model_dump(mode="json")
    return naming.content_hash([what, revision.model.digest, revision.model.profile, inputs])


def _begin(
    resource: Resource,
    audit: Audit,
    revision: Revision | None,
    stable: Revision | None,
    remembered: Sequence[AuditResult],
    now: datetime,
    serves: bool = False,
) -> AuditRun:
    """What is remembered of an audit, and whether it is due."""
    assert revision is not None
    # What a server of one's own serves is no ONNX model that an audit could run.
    is_model = stable is not None and not stable.model.folder
    baseline = stable if audit.maxAccuracyLoss is not None and is_model else None
    run = AuditRun(audit, revision, baseline, audit_key(audit, revision), serves)
    run.result = next(
        (
            found
            for found in remembered
            if (found.name, found.key) == (audit.name, run.key)
            and (baseline is None or found.baseline == baseline.model.digest)
        ),
        None,
    )
    occasion = ""
    if run.result is not None:
        occasion = run.result.finishedAt
        due = _due(run)
        if due is None or due > now:
            return run
    compared = baseline.model.digest if baseline is not None else ""
    run.job = naming.audit_job(
        resource.owner.name, [resource.owner.uid, audit.name, run.key, compared, occasion]
    )
    return run


def _due(run: AuditRun) -> datetime | None:
    """When an audit is to run again; None where its result is final, or there is none yet."""
    if run.result is None:
        return None
    finished = datetime.fromisoformat(run.result.finishedAt)
    if run.result.verdict == "Error":
        return finished + RETRY
    if run.serves and run.audit.repeatSeconds is not None:
        return finished + timedelta(seconds=run.audit.repeatSeconds)
    return None


def _look(runs: Sequence[AuditRun], observed: Observed, now: datetime) -> AuditRun | None:
    """Take in what Jobs found out; the first run whose Job is to be there, as one runs at a time."""
    current = None
    for run in runs:
        if not run.job:
            continue
        job = observed.find(ObjectKind.JOB, run.job)
        found = outcome(run, job, observed, now) if job is not None else None
        if found is not None:
            run.result = found
        elif current is None:
            current = run
    return current


def _kept(runs: Sequence[AuditRun], remembered: Sequence[AuditResult]) -> tuple[AuditResult, ...]:
    """Results of the audits in the spec, then others, for a version that may come back."""
    own = list(dict.fromkeys(run.result for run in runs if run.result is not None))
    places = {_place(found) for found in own}
    others = [found for found in remembered if _place(found) not in places]
    newest = sorted(own, key=lambda found: found.finishedAt, reverse=True)
    return tuple((newest + others)[:MAX_AUDIT_RESULTS])


def _place(result: AuditResult) -> tuple[str, str, str | None]:
    return result.name, result.key, result.baseline


def _failed(runs: Sequence[AuditRun]) -> str:
    for run in runs:
        if run.audit.onFail != "Report" and run.result is not None and run.result.verdict == "Fail":
            return f"audit {run.audit.name}: {run.result.message}"[:_MOST_LETTERS]
    return ""


def _hold(runs: Sequence[AuditRun]) -> AuditHold | None:
    """The most lasting of what keeps a version from beginning."""
    holds = [found for run in runs if (found := _hold_of(run)) is not None]
    order = (Reason.AUDIT_INCONCLUSIVE, Reason.AUDIT_ERROR, Reason.AUDITING)
    return min(holds, key=lambda found: order.index(found.reason), default=None)


def _hold_of(run: AuditRun) -> AuditHold | None:
    audit, result = run.audit, run.result
    if audit.onFail == "Report":
        return None
    if result is None:
        waits = f": {run.waits}" if run.waits else ""
        return AuditHold(Reason.AUDITING, f"audit {audit.name} is under way{waits}")
    if result.verdict == "Error":
        message = f"audit {audit.name} could not be done: {result.message}; it is tried again every 5 minutes"
        return AuditHold(Reason.AUDIT_ERROR, message)
    if result.verdict == "Inconclusive" and audit.onInconclusive != "Continue":
        message = (
            f"audit {audit.name} is inconclusive: {result.message}; give it more rows, or let such versions "
            "in by onInconclusive: Continue"
        )
        return AuditHold(Reason.AUDIT_INCONCLUSIVE, message, suspended=True)
    return None


def _lost_stable(resource: Resource, stable: Revision | None, asked: Sequence[Audit]) -> AuditHold | None:
    """That there is a stable version that cannot be compared with."""
    comparing = next((found for found in asked if found.maxAccuracyLoss and found.onFail != "Report"), None)
    if comparing is None:
        return None
    if stable is not None and stable.model.folder:
        message = (
            f"audit {comparing.name} compares with the stable version, which is not an ONNX model: a server "
            "of one's own serves it; leave maxAccuracyLoss out until Slipway's own server serves a stable one"
        )
        return AuditHold(Reason.AUDIT_ERROR, message)
    if stable is not None or resource.status.stable is None:
        return None
    message = (
        f"audit {comparing.name} compares with the stable version, whose ControllerRevision is gone; leave "
        "maxAccuracyLoss out, or make the stable version the wanted one first"
    )
    return AuditHold(Reason.AUDIT_ERROR, message)


def _look_at(
    runs: Sequence[AuditRun], current: AuditRun | None, job: dict[str, Any] | None, now: datetime
) -> datetime | None:
    moments = [due for run in runs if (due := _due(run)) is not None]
    if current is not None and job is None:
        # It waits for its turn, or for the last words of its pod.
        moments.append(now + TURN)
    return min((moment for moment in moments if moment > now), default=None)
