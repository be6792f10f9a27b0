"""When what was found is worth writing into status."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.verdicts import (
    MAX_FEATURES,
    MAX_PERCENT,
    EpisodeStatus,
    FeatureStatus,
    MonitoringStatus,
    VerdictStatus,
)
from slipway.core.monitoring.judge import Finding, Findings
from slipway.core.monitoring.verdict import MonitoredCondition, Status, number
from slipway.core.observed import rfc3339

#: New numbers of a verdict are written after so long, if they are others by so many percent of a limit.
QUIET = timedelta(minutes=10)
MATERIAL_PERCENT = 50


def update(
    before: MonitoringStatus | None, version: str, generation: int, findings: Findings, looked: datetime
) -> MonitoringStatus | None:
    """What status should say: what it says already, unless a finding is worth a write.

    It is where a condition turned, which two looks in a row have to agree on, and where a figure moved by
    half of its limit in no less than ten minutes. Where too little is counted to say anything, as after
    the operator was restarted, what was found before stands until a whole window went by so.

    Args:
        before: what it says.
        version: that the findings are of.
        generation: of the spec whose limits they are held against.
        findings: of the newest look.
        looked: when that was.
    """
    if before is not None and before.version != version:
        before = None
    standing = {verdict.type: verdict for verdict in before.verdicts} if before is not None else {}
    same_spec = before is not None and before.observedGeneration == generation
    kept = []
    for condition in MonitoredCondition:
        finding, old = findings.get(condition), standing.get(condition.value)
        if finding is not None:
            stands = old is not None and _stands(old, finding, looked, same_spec)
            kept.append(old if old is not None and stands else _said(finding, looked, old))
    if not kept:
        return None
    return MonitoringStatus(version=version, observedGeneration=generation, verdicts=tuple(kept))


def _stands(old: VerdictStatus, finding: Finding, looked: datetime, same_spec: bool) -> bool:
    verdict = finding.verdict
    if old.status != verdict.status.value and finding.waits and _knew_lately(finding, looked):
        return True
    if not same_spec:
        return False
    if old.status != verdict.status.value:
        return not finding.again
    if looked - datetime.fromisoformat(old.judgedAt) < QUIET:
        return True
    if old.reason != verdict.reason.value:
        return False
    percent = _percent(finding)
    if percent is None or old.percentOfLimit is None:
        return percent is None and old.percentOfLimit is None
    return abs(percent - old.percentOfLimit) < MATERIAL_PERCENT


def _knew_lately(finding: Finding, looked: datetime) -> bool:
    known = finding.known
    return known is not None and (looked - known).total_seconds() < finding.window.seconds


def _said(finding: Finding, looked: datetime, old: VerdictStatus | None) -> VerdictStatus:
    verdict = finding.verdict
    return VerdictStatus(
        type=verdict.condition.value,
        status=verdict.status.value,
        reason=verdict.reason.value,
        message=verdict.message,
        judgedAt=rfc3339(looked),
        countedSince=rfc3339(finding.window.since),
        percentOfLimit=_percent(finding),
        episode=_episode(old.episode if old is not None else None, finding, looked),
        features=tuple(
            FeatureStatus(
                name=one.feature[:253],
                severity="Critical" if one.severity == "critical" else "Warning",
                psi=number(one.excess),
                rows=int(one.rows),
            )
            for one in finding.features[:MAX_FEATURES]
        ),
    )


def _episode(before: EpisodeStatus | None, finding: Finding, looked: datetime) -> EpisodeStatus | None:
    """The same one while less than a window was good: two windows that overlap tell of the same rows."""
    verdict = finding.verdict
    if verdict.is_breach:
        if before is not None and (before.endedAt is None or _lately(before.endedAt, finding, looked)):
            return before.model_copy(update={"endedAt": None})
        return EpisodeStatus(startedAt=rfc3339(looked))
    if before is not None and before.endedAt is None and verdict.status is not Status.UNKNOWN:
        return before.model_copy(update={"endedAt": rfc3339(looked)})
    return before


def _lately(ended: str, finding: Finding, looked: datetime) -> bool:
    return (looked - datetime.fromisoformat(ended)).total_seconds() < finding.window.seconds


def _percent(finding: Finding) -> int | None:
    return None if finding.percent is None else int(max(0.0, min(finding.percent, MAX_PERCENT)))
