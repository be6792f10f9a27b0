"""What monitoring says of a model: from the counts of its window to what status remembers.

The figures are those of :mod:`slipway.core.monitoring`, which the rules for Prometheus compute too. What is
decided here is what is judged, from when on a verdict counts, and when it is worth writing down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.monitoring import DataQuality, Drift, Fairness
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import (
    MAX_FEATURES,
    MAX_PERCENT,
    FeatureStatus,
    MonitoringStatus,
    VerdictStatus,
)
from slipway.core.monitoring import series
from slipway.core.monitoring.drift import (
    CompareWith,
    DriftLimits,
    FeatureDrift,
    Reference,
    judge_drift,
    reference_of,
)
from slipway.core.monitoring.fairness import (
    Attribute,
    FairnessLimit,
    FairnessLimits,
    FairnessMetric,
    Gap,
    judge_fairness,
)
from slipway.core.monitoring.performance import (
    Measurement,
    Objective,
    PerformanceMetric,
    judge_performance,
)
from slipway.core.monitoring.quality import Ages, QualityLimits, Ratio, comparisons, judge_quality
from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import Condition, Status, Verdict, Why, number, say

#: Labels come late: objectives look at those of a day, as the rules do.
LABELS_SECONDS = 86_400.0
DAY_SECONDS = 86_400.0
#: Of the intervals of performance, over all objectives.
CONFIDENCE = 0.95
#: New numbers of a verdict are written after so long, if they are others by so many percent of a limit.
QUIET = timedelta(minutes=10)
MATERIAL_PERCENT = 25
#: Nothing is known any more of pods that did not answer for so long.
BLIND = timedelta(minutes=5)
_WAITING = frozenset({Why.TOO_FEW_ROWS, Why.TOO_FEW_LABELS, Why.TOO_SMALL_GROUPS, Why.NO_REFERENCE})


@dataclass(frozen=True)
class Asked:
    """What a spec asks to be judged, in numbers.

    Attributes:
        drift: limits of drift.
        compare_with: what windows are held against.
        inputs_seconds: window of drift and data quality.
        quality: limits of data quality.
        objectives: of performance; none where it is not judged.
        fairness: limits of fairness; none of them where it is not judged.
        attributes: name, reference group and groups of each sensitive attribute.
        groups_seconds: window of fairness.
        named: conditions that the spec names, and that are there whatever is counted.
    """

    drift: DriftLimits
    compare_with: CompareWith
    inputs_seconds: float
    quality: QualityLimits
    objectives: tuple[Objective, ...] = ()
    fairness: FairnessLimits = field(default_factory=lambda: FairnessLimits(()))
    attributes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    groups_seconds: float = DAY_SECONDS
    named: frozenset[Condition] = frozenset()


@dataclass(frozen=True)
class Window:
    """Counts of one window.

    Attributes:
        counts: by series.
        since: when it begins.
        whole: whether it is as long as it should be; not so soon after counting began.
    """

    counts: Values
    since: datetime
    whole: bool


@dataclass(frozen=True)
class Evidence:
    """What was counted of one version.

    Attributes:
        inputs: the window of drift and data quality.
        yesterday: the same a day ago, or None before there was such a day.
        labels: the window of performance.
        groups: the window of fairness.
        references: what the profile says of each feature.
        usual: gauges of the profile that data quality asks about.
    """

    inputs: Window
    yesterday: Values | None
    labels: Window
    groups: Window
    references: Mapping[str, Reference]
    usual: Values


@dataclass(frozen=True)
class Finding:
    """One condition's verdict, and what it stands on.

    Attributes:
        verdict: what is said.
        since: nothing from before was counted.
        whole: whether its window is.
        percent: the worst figure in percent of its limit, or None.
        features: that drifted, the furthest first.
        comparisons: of data quality, those that share the confidence.
        again: whether the look before said the same.
    """

    verdict: Verdict
    since: datetime
    whole: bool
    percent: float | None = None
    features: tuple[FeatureDrift, ...] = ()
    comparisons: int = 0
    again: bool = False


Findings = Mapping[Condition, Finding]


def asked_of(spec: ModelDeploymentSpec) -> Asked:
    """What a spec asks to be judged; what it does not say has its default."""
    monitoring = spec.monitoring
    drift = (monitoring.drift if monitoring else None) or Drift()
    quality = (monitoring.dataQuality if monitoring else None) or DataQuality()
    performance = monitoring.performance if monitoring else None
    named = {
        Condition.DRIFT: monitoring is not None and monitoring.drift is not None,
        Condition.DATA_QUALITY: monitoring is not None and monitoring.dataQuality is not None,
    }
    return Asked(
        drift=DriftLimits(
            warning=float(drift.psi.warning),
            critical=float(drift.psi.critical),
            significance=float(drift.significance),
            minimum_rows=drift.minimumRows,
            minimum_reference_rows=_least_reference_rows(drift),
        ),
        compare_with=CompareWith(drift.compareWith),
        inputs_seconds=float(drift.windowSeconds),
        quality=QualityLimits(share(quality.maxMissingRatio), share(quality.maxViolationRatio)),
        objectives=tuple(
            Objective(PerformanceMetric(one.metric), share(one.minimum), one.minimumLabels, one.outcome or "")
            for one in (performance.objectives if performance else ())
        ),
        **_fairness(spec.fairness),
        named=frozenset(condition for condition, is_named in named.items() if is_named),
    )


def _least_reference_rows(drift: Drift) -> int:
    """Of a profile as many as ever; of yesterday's window as many as of today's."""
    is_reference = CompareWith(drift.compareWith) is CompareWith.REFERENCE
    return DriftLimits().minimum_reference_rows if is_reference else drift.minimumRows


def _fairness(fairness: Fairness | None) -> dict[str, Any]:
    if fairness is None:
        return {}
    return {
        "fairness": FairnessLimits(
            tuple(
                FairnessLimit(FairnessMetric(one.name), share(one.minimum or one.maximum or "0%"))
                for one in fairness.metrics
            ),
            share(fairness.confidence),
            fairness.minimumGroupRows,
        ),
        "attributes": tuple(
            # Without a ratio no group is the reference, and any will do.
            (one.name, one.referenceGroup or one.groups[0], one.groups)
            for one in fairness.sensitiveAttributes
        ),
        "groups_seconds": float(fairness.windowSeconds),
    }


def share(text: str) -> float:
    """A share such as ``82%`` as a number between 0 and 1."""
    return float(text.removesuffix("%")) / 100.0


def judge(asked: Asked, evidence: Evidence) -> Findings:
    """A verdict for each condition that there is something to say of."""
    found: dict[Condition, Finding] = {}
    if Condition.DRIFT in asked.named or evidence.references:
        found[Condition.DRIFT] = _drift(asked, evidence)
    if Condition.DATA_QUALITY in asked.named or evidence.references:
        found[Condition.DATA_QUALITY] = _quality(asked, evidence)
    if asked.objectives:
        found[Condition.PERFORMANCE] = _performance(asked, evidence.labels)
    if asked.fairness.limits:
        found[Condition.FAIRNESS] = _unfairness(asked, evidence.groups)
    return found


def blind(conditions: Mapping[Condition, datetime], version: str, since: datetime) -> Findings:
    """What is said while no pod of a version answers: nothing."""
    words = f"no pod of version {version} could be read since {_text(since)}"
    return {
        condition: Finding(
            say(condition, Status.UNKNOWN, Why.COUNTERS_UNAVAILABLE, [words]), counted, whole=True, again=True
        )
        for condition, counted in conditions.items()
    }


def settle(
    before: MonitoringStatus | None, version: str, generation: int, findings: Findings, looked: datetime
) -> MonitoringStatus | None:
    """What status should say: what it says already, unless a finding is worth a write.

    It is where a condition turned, which two looks in a row have to agree on, and where a figure moved a
    quarter of its limit in no less than ten minutes. A verdict that an operator found before it was restarted
    stands until enough was counted anew, or a whole window went by without.

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
    for condition in Condition:
        finding, old = findings.get(condition), standing.get(condition.value)
        if finding is not None:
            stands = old is not None and _stands(old, finding, looked, same_spec)
            kept.append(old if old is not None and stands else _said(finding, looked))
    if not kept:
        return None
    return MonitoringStatus(version=version, observedGeneration=generation, verdicts=tuple(kept))


def _stands(old: VerdictStatus, finding: Finding, looked: datetime, same_spec: bool) -> bool:
    verdict = finding.verdict
    if old.status != verdict.status.value and verdict.reason in _WAITING and not finding.whole:
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


def _said(finding: Finding, looked: datetime) -> VerdictStatus:
    verdict = finding.verdict
    return VerdictStatus(
        type=verdict.condition.value,
        status=verdict.status.value,
        reason=verdict.reason.value,
        message=verdict.message,
        judgedAt=_text(looked),
        countedSince=_text(finding.since),
        percentOfLimit=_percent(finding),
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


def _percent(finding: Finding) -> int | None:
    return None if finding.percent is None else int(max(0.0, min(finding.percent, MAX_PERCENT)))


def _drift(asked: Asked, evidence: Evidence) -> Finding:
    window = evidence.inputs
    windows, references = series.feature_windows(window.counts), dict(evidence.references)
    if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
        if evidence.yesterday is None and references:
            words = f"nothing is known of this hour yesterday: counts go back to {_text(window.since)}"
            verdict = say(Condition.DRIFT, Status.UNKNOWN, Why.NO_REFERENCE, [words])
            return Finding(verdict, window.since, whole=False)
        before = series.feature_windows(evidence.yesterday or {})
        references = {name: reference_of(counts) for name, counts in before.items()}
    # A feature that nothing was counted of has too few rows; it is not left out.
    windows = {name: windows.get(name, {}) for name in references}
    verdict, features = judge_drift(windows, references, asked.drift)
    drifted = tuple(one for one in features if one.severity is not None)
    if verdict.reason is Why.TOO_FEW_ROWS:
        percent = _counted(min(one.rows for one in features), asked.drift.minimum_rows)
    else:
        percent = 100.0 * max((one.excess for one in features), default=0.0) / asked.drift.warning
    return Finding(verdict, window.since, window.whole, percent, drifted)


def _quality(asked: Asked, evidence: Evidence) -> Finding:
    window = evidence.inputs
    features = series.feature_quality(window.counts, evidence.usual)
    verdict, ratios = judge_quality(features, Ages(), asked.quality)
    if verdict.reason is Why.TOO_FEW_ROWS:
        rows = min((one.rows for one in features), default=0.0)
        percent = _counted(rows, asked.quality.minimum_rows)
    else:
        percent = max(map(_of_ratio, ratios), default=0.0)
    count = comparisons(features, asked.quality)
    return Finding(verdict, window.since, window.whole, percent, comparisons=count)


def _counted(rows: float, needed: float) -> float:
    """In percent of what is needed."""
    return min(100.0, 100.0 * rows / needed)


def _of_ratio(one: Ratio) -> float:
    if one.limit:
        return 100.0 * one.share.value / one.limit
    return float(MAX_PERCENT) if one.share.hits else 0.0


def _performance(asked: Asked, window: Window) -> Finding:
    verdict, measured = judge_performance(series.feedback(window.counts), asked.objectives, CONFIDENCE)
    if verdict.reason is Why.TOO_FEW_LABELS:
        percent = min(_counted(one.share.rows, one.objective.minimum_labels) for one in measured)
    else:
        percent = max(map(_of_objective, measured))
    return Finding(verdict, window.since, window.whole, percent)


def _of_objective(one: Measurement) -> float:
    """Errors in percent of those that are allowed."""
    return 100.0 * (1.0 - one.share.value) / (1.0 - one.objective.minimum)


def _unfairness(asked: Asked, window: Window) -> Finding:
    attributes = attributes_of(asked, window.counts)
    verdict, gaps = judge_fairness(attributes, asked.fairness)
    if verdict.reason is Why.TOO_SMALL_GROUPS:
        least = min(group.selection.rows for one in attributes for group in one.groups.values())
        percent = _counted(least, asked.fairness.minimum_group_rows)
    else:
        percent = max(map(_of_gap, gaps))
    return Finding(verdict, window.since, window.whole, percent)


def attributes_of(asked: Asked, counts: Values) -> list[Attribute]:
    """What the groups of each sensitive attribute got."""
    return [series.attribute(counts, name, reference, groups) for name, reference, groups in asked.attributes]


def _of_gap(gap: Gap) -> float:
    if gap.is_ratio:
        nearer = min(gap.value, 1.0 / gap.value if gap.value else 0.0)
        return 100.0 * gap.limit / nearer if nearer else float(MAX_PERCENT)
    if gap.limit:
        return 100.0 * gap.value / gap.limit
    return float(MAX_PERCENT) if gap.value else 0.0


def repeated(findings: Findings, before: Findings) -> Findings:
    """Findings that know whether the look before said the same."""
    return {
        condition: replace(
            finding,
            again=condition in before and before[condition].verdict.status is finding.verdict.status,
        )
        for condition, finding in findings.items()
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
