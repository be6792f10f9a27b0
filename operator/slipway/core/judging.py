"""What monitoring says of a model: from the counts of its window to what status remembers.

The figures are those of :mod:`slipway.core.monitoring`, which the rules for Prometheus compute too. What is
decided here is what is judged, from when on a verdict counts, and when it is worth writing down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.api.monitoring import DataQuality, Drift, Fairness
from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import (
    MAX_FEATURES,
    MAX_PERCENT,
    EpisodeStatus,
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
from slipway.core.monitoring.quality import (
    Ages,
    QualityLimits,
    Ratio,
    comparisons,
    judge_quality,
    median_age,
)
from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import Condition, Status, Verdict, Why, number, say

#: Labels come late: objectives look at those of a day, as the rules do.
LABELS_SECONDS = 86_400.0
DAY_SECONDS = 86_400.0
#: Of the intervals of performance, over all objectives.
CONFIDENCE = 0.95
#: New numbers of a verdict are written after so long, if they are others by so many percent of a limit.
QUIET = timedelta(minutes=10)
MATERIAL_PERCENT = 50
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
        seconds: how long it should be.
    """

    counts: Values
    since: datetime
    seconds: float


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
        model_days: since the model was made, or None where that is not known.
    """

    inputs: Window
    yesterday: Values | None
    labels: Window
    groups: Window
    references: Mapping[str, Reference]
    usual: Values
    model_days: float | None = None


@dataclass(frozen=True)
class Finding:
    """One condition's verdict, and what it stands on.

    Attributes:
        verdict: what is said.
        window: of which it is said.
        percent: the worst figure in percent of its limit, or None.
        features: that drifted, the furthest first.
        comparisons: of data quality, those that share the confidence.
        again: whether the look before said the same.
        known: when a look last had enough to say something; before there was one, when looking began.
    """

    verdict: Verdict
    window: Window
    percent: float | None = None
    features: tuple[FeatureDrift, ...] = ()
    comparisons: int = 0
    again: bool = False
    known: datetime | None = None

    @property
    def waits(self) -> bool:
        """Whether there is too little to say anything."""
        return self.verdict.reason in _WAITING


Findings = Mapping[Condition, Finding]


def asked_of(spec: ModelDeploymentSpec) -> Asked:
    """What a spec asks to be judged; what it does not say has its default."""
    monitoring = spec.monitoring
    drift = (monitoring.drift if monitoring else None) or Drift()
    quality = (monitoring.dataQuality if monitoring else None) or DataQuality()
    performance = monitoring.performance if monitoring else None
    freshness = monitoring.freshness if monitoring else None
    model_days = spec.card.maxAgeDays if spec.card else None
    named = {
        Condition.DRIFT: monitoring is not None and monitoring.drift is not None,
        Condition.DATA_QUALITY: freshness is not None
        or model_days is not None
        or (monitoring is not None and monitoring.dataQuality is not None),
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
        quality=QualityLimits(
            share(quality.maxMissingRatio),
            share(quality.maxViolationRatio),
            data_age_seconds=float(freshness.maxAgeSeconds) if freshness else None,
            model_age_days=float(model_days) if model_days else None,
        ),
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
            say(condition, Status.UNKNOWN, Why.COUNTERS_UNAVAILABLE, [words]),
            Window({}, counted, seconds=0.0),
        )
        for condition, counted in conditions.items()
    }


def settle(
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
    for condition in Condition:
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
        judgedAt=_text(looked),
        countedSince=_text(finding.window.since),
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
        return EpisodeStatus(startedAt=_text(looked))
    if before is not None and before.endedAt is None and verdict.status is not Status.UNKNOWN:
        return before.model_copy(update={"endedAt": _text(looked)})
    return before


def _lately(ended: str, finding: Finding, looked: datetime) -> bool:
    return (looked - datetime.fromisoformat(ended)).total_seconds() < finding.window.seconds


def _percent(finding: Finding) -> int | None:
    return None if finding.percent is None else int(max(0.0, min(finding.percent, MAX_PERCENT)))


def _drift(asked: Asked, evidence: Evidence) -> Finding:
    window = evidence.inputs
    windows, references = series.feature_windows(window.counts), dict(evidence.references)
    if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
        if evidence.yesterday is None and references:
            words = f"nothing is known of this hour yesterday: counts go back to {_text(window.since)}"
            verdict = say(Condition.DRIFT, Status.UNKNOWN, Why.NO_REFERENCE, [words])
            return Finding(verdict, replace(window, seconds=DAY_SECONDS + window.seconds))
        before = series.feature_windows(evidence.yesterday or {})
        references = {name: reference_of(counts) for name, counts in before.items()}
    # A feature that nothing was counted of has too few rows; it is not left out. One that pods count in other
    # bins is: their profiles differ, as where one was logged anew while pods ran on.
    windows = {
        name: counts
        for name, reference in references.items()
        if (counts := windows.get(name, {})).keys() <= reference.shares.keys()
    }
    verdict, features = judge_drift(windows, references, asked.drift)
    drifted = tuple(one for one in features if one.severity is not None)
    if verdict.reason is Why.TOO_FEW_ROWS:
        percent = _counted(min(one.rows for one in features), asked.drift.minimum_rows)
    else:
        percent = 100.0 * max((one.excess for one in features), default=0.0) / asked.drift.warning
    return Finding(verdict, window, percent, drifted)


def _quality(asked: Asked, evidence: Evidence) -> Finding:
    window = evidence.inputs
    features = series.feature_quality(window.counts, evidence.usual)
    data_ages = series.data_ages(window.counts)
    ages = Ages(median_age(data_ages, asked.quality.minimum_rows), evidence.model_days)
    verdict, ratios = judge_quality(features, ages, asked.quality)
    if verdict.reason is Why.TOO_FEW_ROWS:
        rows = [one.rows for one in features]
        rows += [max(data_ages.values(), default=0.0)] if asked.quality.data_age_seconds is not None else []
        percent = _counted(min(rows, default=0.0), asked.quality.minimum_rows)
    else:
        percent = max([*map(_of_ratio, ratios), *_of_ages(ages, asked.quality)], default=0.0)
    count = comparisons(features, asked.quality)
    return Finding(verdict, window, percent, comparisons=count)


def _of_ages(ages: Ages, limits: QualityLimits) -> Iterator[float]:
    for age, limit in (
        (ages.data_seconds, limits.data_age_seconds),
        (ages.model_days, limits.model_age_days),
    ):
        if age is not None and limit is not None:
            yield 100.0 * age / limit


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
    return Finding(verdict, window, percent)


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
    return Finding(verdict, window, percent)


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


def repeated(findings: Findings, before: Findings, looked: datetime, began: datetime) -> Findings:
    """Findings that know of the looks before: whether the last said the same, and when one last knew."""
    found = {}
    for condition, finding in findings.items():
        last = before.get(condition)
        known = looked if not finding.waits else (last.known if last is not None else began)
        again = last is not None and last.verdict.status is finding.verdict.status
        # It is kept until the next look: the counts would be most of it.
        window = replace(finding.window, counts={})
        found[condition] = replace(finding, window=window, again=again, known=known)
    return found


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
