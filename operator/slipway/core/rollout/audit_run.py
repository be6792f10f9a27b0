"""What the Job of an audit came to: read from its pod's last words, and judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from slipway.api.audits import Audit, AuditFigure, AuditResult
from slipway.api.base import share
from slipway.contract import Audited, Evaded, TerminationMessage, Unaudited, Withstood
from slipway.core.diagnosis import diagnose_pod
from slipway.core.monitoring.fairness import FairnessLimit, FairnessLimits, FairnessMetric
from slipway.core.monitoring.robustness import (
    RobustnessLimits,
    Smoothing,
    judge_evasion,
    judge_smoothing,
)
from slipway.core.monitoring.subgroups import (
    Figure,
    Groups,
    Judged,
    SubgroupLimits,
    is_shown,
    judge_subgroups,
)
from slipway.core.objects.audit import CONTAINER, smoothing
from slipway.core.observed import Manifest, ObjectKind, Observed, condition_of, rfc3339, timestamp
from slipway.core.revision import Revision

#: How long the last words of a pod may be behind the end of its Job.
_PATIENCE = timedelta(seconds=60)
_MOST_LETTERS = 1024


@dataclass
class AuditRun:
    """One audit of one revision, as far as it is."""

    audit: Audit
    revision: Revision
    baseline: Revision | None
    key: str
    #: Whether clients reach the revision.
    serves: bool
    job: str = ""
    #: What is remembered, or has just been found.
    result: AuditResult | None = None
    waits: str = ""


def outcome(run: AuditRun, job: Manifest, observed: Observed, now: datetime) -> AuditResult | None:
    """What a Job came to, or None while it goes on."""
    pods = [
        pod
        for pod in observed.of(ObjectKind.POD)
        if any(
            owner.get("controller") and owner["uid"] == job["metadata"]["uid"]
            for owner in pod["metadata"].get("ownerReferences") or ()
        )
    ]
    for pod in pods:
        answer = _answer(pod)
        if answer is not None:
            return _judged(run, answer, now)
    ended = next(
        (
            found
            for found in (condition_of(job, "Failed"), condition_of(job, "Complete"))
            if found is not None and found["status"] == "True"
        ),
        None,
    )
    fault = next((found for pod in pods if (found := diagnose_pod(pod, now)) is not None), None)
    why = f"{fault.reason}: {fault.message}" if fault is not None else ""
    if ended is None:
        run.waits = why
        return None
    if ended["type"] == "Complete" and now - (timestamp(ended.get("lastTransitionTime")) or now) < _PATIENCE:
        return None
    said = str(ended.get("message") or "its pod ended without an answer")
    return _result(run, "Error", f"{why or said}", now)


def _answer(pod: Manifest) -> Audited | Withstood | Evaded | Unaudited | None:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if container["name"] != CONTAINER:
            continue
        try:
            outcome = TerminationMessage.model_validate_json(ended.get("message") or "").outcome
        except ValidationError:
            return None
        return outcome if isinstance(outcome, Audited | Withstood | Evaded | Unaudited) else None
    return None


def _judged(run: AuditRun, answer: Audited | Withstood | Evaded | Unaudited, now: datetime) -> AuditResult:
    if isinstance(answer, Unaudited):
        return _result(run, "Error", answer.message, now)
    baseline = run.baseline.model.digest if run.baseline is not None else None
    pinned = run.audit.data.digest
    if (answer.digest, answer.baseline) != (run.revision.model.digest, baseline) or pinned not in (
        None,
        answer.dataDigest,
    ):
        return _result(run, "Error", "its pod answered for something else; the answer is not believed", now)
    try:
        found = _judge(run.audit, answer)
    except ValueError as error:
        return _result(run, "Error", f"its pod's counts cannot be: {error}", now)
    told = _result(run, found.verdict, found.message, now)
    return told.model_copy(
        update={
            "dataDigest": answer.dataDigest,
            "rows": _rows(answer),
            "figures": tuple(_figure(each) for each in found.figures if is_shown(each)),
        }
    )


def _rows(answer: Audited | Withstood | Evaded) -> int:
    if isinstance(answer, Audited):
        return sum(answer.rows[:4])
    return len(answer.hits if isinstance(answer, Withstood) else answer.distances)


def _judge(audit: Audit, answer: Audited | Withstood | Evaded) -> Judged:
    """Raises ValueError where the answer is to another question."""
    moved = None if audit.robustness is None else smoothing(audit.robustness)
    if audit.type == "Subgroups" and isinstance(answer, Audited):
        return judge_subgroups(answer, limits_of(audit))
    if moved is not None and isinstance(answer, Withstood):
        return judge_smoothing(answer, Smoothing(moved.noise, moved.samples), _robustness_limits(audit))
    if audit.type == "Evasion" and isinstance(answer, Evaded):
        return judge_evasion(answer, _robustness_limits(audit))
    raise ValueError(f"they are of another type of audit than {audit.type}")


def _result(run: AuditRun, verdict: str, message: str, now: datetime) -> AuditResult:
    return AuditResult.model_validate(
        {
            "name": run.audit.name,
            "revision": run.revision.name,
            "version": run.revision.model.version,
            "key": run.key,
            "baseline": run.baseline.model.digest if run.baseline is not None else None,
            "verdict": verdict,
            "message": message[:_MOST_LETTERS],
            "finishedAt": rfc3339(now),
        }
    )


def limits_of(audit: Audit) -> SubgroupLimits:
    """What an audit holds a model to, with what goes without saying."""
    return SubgroupLimits(
        attributes=tuple(
            Groups(each.column, each.groups, each.referenceGroup or each.groups[0])
            for each in audit.attributes or ()
        ),
        fairness=FairnessLimits(
            tuple(
                FairnessLimit(FairnessMetric(one.name), share(one.minimum or one.maximum or "0%"))
                for one in audit.metrics or ()
            ),
            share(audit.confidence or "95%"),
            audit.minimumGroupRows or 100,
        ),
        minimum_accuracy=share(audit.minimumAccuracy) if audit.minimumAccuracy is not None else None,
        max_loss=share(audit.maxAccuracyLoss) if audit.maxAccuracyLoss is not None else None,
        minimum_rows=audit.minimumRows or 300,
    )


def _robustness_limits(audit: Audit) -> RobustnessLimits:
    assert audit.robustness is not None
    return RobustnessLimits(
        float(audit.robustness.radius),
        share(audit.confidence or "95%"),
        minimum_accuracy=share(audit.minimumAccuracy) if audit.minimumAccuracy is not None else None,
        max_loss=share(audit.maxAccuracyLoss) if audit.maxAccuracyLoss is not None else None,
        minimum_rows=audit.minimumRows or 100,
    )


def _figure(found: Figure) -> AuditFigure:
    return AuditFigure(
        metric=found.metric,
        of=found.of,
        value=_decimal(found.value),
        low=_decimal(found.interval.low),
        high=_decimal(found.interval.high),
        limit=None if found.limit is None else _decimal(found.limit),
    )


def _decimal(value: float) -> str:
    return f"{max(-1e6, min(1e6, value)):.4f}"
