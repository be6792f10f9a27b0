"""From what was counted of a version to a verdict for each condition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway.api.reasons import Reason
from slipway.api.verdicts import MAX_PERCENT
from slipway.core.monitoring import series
from slipway.core.monitoring.cohorts import hold, without
from slipway.core.monitoring.drift import CompareWith, FeatureDrift, ReferenceBins, judge_drift, reference_of
from slipway.core.monitoring.fairness import Gap, judge_fairness
from slipway.core.monitoring.performance import Measurement, judge_performance
from slipway.core.monitoring.policy import DAY_SECONDS, MonitoringPolicy, attributes_of
from slipway.core.monitoring.quality import Ages, QualityLimits, Ratio, comparisons, judge_quality, median_age
from slipway.core.monitoring.series import Values, by_cohort, of_all
from slipway.core.monitoring.verdict import MOST_CHARACTERS, MonitoredCondition, Status, Verdict, say
from slipway.core.observed import rfc3339

#: Nothing is known any more of pods that did not answer for so long.
BLIND = timedelta(minutes=5)
_WAITING = frozenset(
    {Reason.TOO_FEW_ROWS, Reason.TOO_FEW_LABELS, Reason.TOO_SMALL_GROUPS, Reason.NO_REFERENCE}
)


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
class WindowCounts:
    """What was counted of one version.

    Attributes:
        inputs: the window of drift and data quality.
        yesterday: the same a day ago, or None before there was such a day.
        labels: the window of performance.
        groups: the window of fairness.
        references: what the profile says of each feature.
        usual: gauges of the profile that data quality asks about.
        left_out: features of the profile that are not counted, since there are too many.
        model_days: since the model was made, or None where that is not known.
    """

    inputs: Window
    yesterday: Values | None
    labels: Window
    groups: Window
    references: Mapping[str, ReferenceBins]
    usual: Values
    left_out: int
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


Findings = Mapping[MonitoredCondition, Finding]


def judge_windows(asked: MonitoringPolicy, evidence: WindowCounts) -> Findings:
    """A verdict for each condition that there is something to say of, which no caller brings about alone."""
    return {
        condition: _held(condition, asked, evidence, _JUDGES[condition](asked, evidence))
        for condition in MonitoredCondition
        if _is_judged(condition, asked, evidence)
    }


def _is_judged(condition: MonitoredCondition, asked: MonitoringPolicy, evidence: WindowCounts) -> bool:
    match condition:
        case MonitoredCondition.PERFORMANCE:
            return bool(asked.objectives)
        case MonitoredCondition.FAIRNESS:
            return bool(asked.fairness.limits)
    return condition in asked.named or bool(evidence.references)


def _held(
    condition: MonitoredCondition, asked: MonitoringPolicy, evidence: WindowCounts, finding: Finding
) -> Finding:
    """The finding, or what is left of it without a cohort of callers; see :mod:`.cohorts`."""
    windows = {
        name: counts for name in _WINDOWS[condition] if (counts := _counts(evidence, name)) is not None
    }
    cohorts = {name: by_cohort(counts) for name, counts in windows.items()}
    # Whoever sent something in any of them, such as yesterday alone, may have decided.
    mine = {
        name: [values for found in cohorts.values() if (values := found.get(name))]
        for name in {name for found in cohorts.values() for name in found}
    }
    if not mine:
        return finding
    plain = {name: of_all(counts) for name, counts in windows.items()}
    known: dict[tuple[frozenset[str], int], Finding] = {}

    def judged(left_out: Collection[str], tests: int) -> Finding:
        key = (frozenset(left_out), tests)
        if key not in known:
            left = {name: without(counts, cohorts[name], left_out) for name, counts in plain.items()}
            known[key] = _JUDGES[condition](_shared(asked, tests), _with_counts(evidence, left))
        return known[key]

    held = hold(
        condition,
        finding.verdict.is_breach,
        mine,
        lambda left_out, tests: judged(left_out, tests).verdict.is_breach,
    )
    if held.needs is not None:
        words = f"one of {len(mine)} cohorts of callers decides, so nothing is done about it"
        parts = [words, f"with it {finding.verdict.message}"]
        verdict = say(condition, Status.UNKNOWN, Reason.ONE_CALLER_DECIDES, parts)
        return replace(finding, verdict=verdict, features=())
    if held.hides is not None:
        left = judged((held.hides,), len(mine))
        words = f"without one of {len(mine)} cohorts of callers, which alone says otherwise"
        verdict = say(condition, left.verdict.status, left.verdict.reason, [words, left.verdict.message])
        return replace(left, verdict=verdict)
    return finding


def _shared(asked: MonitoringPolicy, tests: int) -> MonitoringPolicy:
    """With intervals that so many tests share (Bonferroni)."""
    if tests == 1:
        return asked
    fairness = replace(asked.fairness, confidence=1.0 - (1.0 - asked.fairness.confidence) / tests)
    return replace(asked, fairness=fairness, confidence=1.0 - (1.0 - asked.confidence) / tests)


def _counts(evidence: WindowCounts, window: str) -> Values | None:
    found: Window | Values | None = getattr(evidence, window)
    return found.counts if isinstance(found, Window) else found


def _with_counts(evidence: WindowCounts, counts: Mapping[str, Values]) -> WindowCounts:
    found: dict[str, Window | Values] = {}
    for name, values in counts.items():
        window = getattr(evidence, name)
        found[name] = replace(window, counts=values) if isinstance(window, Window) else values
    return replace(evidence, **found)  # type: ignore[arg-type]


def unreachable(conditions: Mapping[MonitoredCondition, datetime], version: str, since: datetime) -> Findings:
    """What is said while no pod of a version answers: nothing."""
    words = f"no pod of version {version} could be read since {rfc3339(since)}"
    return {
        condition: Finding(
            say(condition, Status.UNKNOWN, Reason.COUNTERS_UNAVAILABLE, [words]),
            Window({}, counted, seconds=0.0),
        )
        for condition, counted in conditions.items()
    }


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


def _drift(asked: MonitoringPolicy, evidence: WindowCounts) -> Finding:
    window = evidence.inputs
    windows, references = series.feature_windows(window.counts), dict(evidence.references)
    if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
        if evidence.yesterday is None and references:
            words = f"nothing is known of this hour yesterday: counts go back to {rfc3339(window.since)}"
            verdict = say(MonitoredCondition.DRIFT, Status.UNKNOWN, Reason.NO_REFERENCE, [words])
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
    if verdict.reason is Reason.TOO_FEW_ROWS:
        percent = _counted(min(one.rows for one in features), asked.drift.minimum_rows)
    else:
        percent = 100.0 * max((one.excess for one in features), default=0.0) / asked.drift.warning
    return Finding(_with_left_out(verdict, evidence.left_out), window, percent, drifted)


def _with_left_out(verdict: Verdict, features: int) -> Verdict:
    if not features:
        return verdict
    tail = f"; {features} more of the profile are beyond what is counted, the least important ones"
    return replace(verdict, message=verdict.message[: MOST_CHARACTERS - len(tail)] + tail)


def _quality(asked: MonitoringPolicy, evidence: WindowCounts) -> Finding:
    window = evidence.inputs
    features = series.feature_quality(window.counts, evidence.usual)
    data_ages = series.data_ages(window.counts)
    ages = Ages(median_age(data_ages, asked.quality.minimum_rows), evidence.model_days)
    verdict, ratios = judge_quality(features, ages, asked.quality)
    if verdict.reason is Reason.TOO_FEW_ROWS:
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


def _of_ratio(one: Ratio) -> float:
    if one.limit:
        return 100.0 * one.share.value / one.limit
    return float(MAX_PERCENT) if one.share.hits else 0.0


def _performance(asked: MonitoringPolicy, evidence: WindowCounts) -> Finding:
    window = evidence.labels
    verdict, measured = judge_performance(series.feedback(window.counts), asked.objectives, asked.confidence)
    if verdict.reason is Reason.TOO_FEW_LABELS:
        percent = min(_counted(one.share.rows, one.objective.minimum_labels) for one in measured)
    else:
        percent = max(map(_of_objective, measured))
    return Finding(verdict, window, percent)


def _of_objective(one: Measurement) -> float:
    """Errors in percent of those that are allowed."""
    return 100.0 * (1.0 - one.share.value) / (1.0 - one.objective.minimum)


def _unfairness(asked: MonitoringPolicy, evidence: WindowCounts) -> Finding:
    window = evidence.groups
    attributes = attributes_of(asked, window.counts)
    verdict, gaps = judge_fairness(attributes, asked.fairness)
    if verdict.reason is Reason.TOO_SMALL_GROUPS:
        least = min(group.selection.rows for one in attributes for group in one.groups.values())
        percent = _counted(least, asked.fairness.minimum_group_rows)
    else:
        percent = max(map(_of_gap, gaps))
    return Finding(verdict, window, percent)


def _of_gap(gap: Gap) -> float:
    if gap.is_ratio:
        nearer = min(gap.value, 1.0 / gap.value if gap.value else 0.0)
        return 100.0 * gap.limit / nearer if nearer else float(MAX_PERCENT)
    if gap.limit:
        return 100.0 * gap.value / gap.limit
    return float(MAX_PERCENT) if gap.value else 0.0


def _counted(rows: float, needed: float) -> float:
    """In percent of what is needed."""
    return min(100.0, 100.0 * rows / needed)


_JUDGES: Mapping[MonitoredCondition, Callable[[MonitoringPolicy, WindowCounts], Finding]] = {
    MonitoredCondition.DRIFT: _drift,
    MonitoredCondition.DATA_QUALITY: _quality,
    MonitoredCondition.PERFORMANCE: _performance,
    MonitoredCondition.FAIRNESS: _unfairness,
}
#: Whose counts each condition stands on; its own window is the first.
_WINDOWS: Mapping[MonitoredCondition, tuple[str, ...]] = {
    MonitoredCondition.DRIFT: ("inputs", "yesterday"),
    MonitoredCondition.DATA_QUALITY: ("inputs",),
    MonitoredCondition.PERFORMANCE: ("labels",),
    MonitoredCondition.FAIRNESS: ("groups",),
}
