"""From a ModelDeployment and the counters of its pods to what a report shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slipway.api.card import Card
from slipway.api.reasons import Reason
from slipway.api.status import ModelDeploymentStatus, RevisionStatus
from slipway.core import proof
from slipway.core.monitoring import series
from slipway.core.monitoring.drift import CompareWith, DriftLimits, judge_drift
from slipway.core.monitoring.fairness import GroupCounts, judge_fairness
from slipway.core.monitoring.intervals import deviations, share_interval
from slipway.core.monitoring.performance import (
    Feedback,
    Measurement,
    Objective,
    PerformanceMetric,
    coverage,
    estimate_accuracy,
    judge_performance,
    measure,
    quantile,
)
from slipway.core.monitoring.policy import MonitoringPolicy, attributes_of, monitoring_policy
from slipway.core.monitoring.quality import Ages, QualityLimits, judge_quality, median_age
from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict, number, percent
from slipway.core.naming import REVISION_LABEL
from slipway.core.observed import Fault, Manifest, timestamp
from slipway.core.resource import Resource
from slipway.names import Metric
from slipway.report.audits import audits_of
from slipway.report.page import CalibrationBin, Distribution, Event, FeatureReport, GroupReport, Rate, Report

Sample = tuple[str, Mapping[str, str], float]

#: What a label brings: it may come to a pod of any revision, and counts for the version that predicted.
_OF_LABELS = (Metric.FEEDBACK_LABELS, Metric.FEEDBACK_DELAY, Metric.FEEDBACK_ERROR, Metric.GROUP_FEEDBACK)
#: The group of all who are in none that is declared.
_OTHER = "other"
_CONFIDENCE = 0.95
_MOST_RATIOS = 20
#: What holds where the spec cannot be read.
_USUAL = MonitoringPolicy(DriftLimits(), CompareWith.REFERENCE, 3600.0, QualityLimits())


@dataclass(frozen=True)
class Counted:
    """What one pod counted.

    Attributes:
        since: when its counters were 0.
        samples: every series: its metric, labels and value.
    """

    pod: str
    revision: str
    since: datetime | None
    samples: tuple[Sample, ...]


def serving(status: ModelDeploymentStatus) -> RevisionStatus | None:
    """The revision that a report is about: the one that clients reach, else the one that is to come."""
    return status.stable or status.canary


def report_of(
    resource: Resource,
    pods: Sequence[Counted],
    silent: Mapping[str, str],
    revisions: Sequence[Manifest],
    now: datetime,
) -> Report:
    """What the pods counted since they started.

    Args:
        resource: of which :func:`serving` knows a revision.
        pods: that answered, of any of its revisions; one at least is of that revision.
        silent: why the other ready pods did not answer, by their names.
        revisions: its ControllerRevisions.
        now: when they were asked, with a time zone.

    Raises:
        ValueError: if no pod is of the revision that serves.
    """
    status, spec = resource.status, resource.spec
    arm = serving(status)
    own = [pod for pod in pods if arm is not None and pod.revision == arm.revision]
    if arm is None or not own:
        raise ValueError(f"no pod of {resource.owner.name} that serves was read")
    counts = series.add_up(_samples_of(pods, arm))
    gauges = series.add_up(own[0].samples)
    references = series.references(gauges)
    windows = {
        feature: bins
        for feature, bins in series.feature_windows(counts).items()
        if feature in references and bins.keys() <= references[feature].shares.keys()
    }
    asked = _USUAL if isinstance(spec, Fault) else monitoring_policy(spec)
    drift, features = judge_drift(windows, references, asked.drift)
    card = None if isinstance(spec, Fault) else spec.card
    limits = replace(asked.quality, data_age_seconds=series.data_age_limit(gauges))
    ages = Ages(median_age(series.data_ages(counts), limits.minimum_rows), _model_days(arm, now))
    quality, ratios = judge_quality(
        series.feature_quality(counts, gauges),
        ages,
        limits,
    )
    labels = series.feedback(counts)
    confidences, held_out = series.confidences(counts), series.held_out_accuracy(gauges)
    performance, measured = judge_performance(labels, asked.objectives)
    fairness, gaps = judge_fairness(attributes_of(asked, counts), asked.fairness)
    said = _said(status)
    judged = (
        *((drift, quality) if references or MonitoredCondition.DATA_QUALITY in asked.named else ()),
        *((performance,) if asked.objectives else ()),
        *((fairness,) if asked.fairness.limits else ()),
    )
    groups = tuple(_groups(counts, asked))
    return Report(
        namespace=resource.owner.namespace,
        name=resource.owner.name,
        made_at=_time(now),
        window=_window(own),
        facts=dict(_facts(resource, arm, own, counts, limits, now)),
        card=dict(_card(card)),
        verdicts=said or judged,
        judged="by the operator" if said else "here, of the counts below, with the limits of the spec",
        warnings=tuple(f"{pod} did not answer and is not counted: {why}" for pod, why in silent.items()),
        features=tuple(
            FeatureReport(
                one,
                Distribution(
                    tuple(references[one.feature].shares),
                    tuple(
                        windows[one.feature].get(bin_, 0.0) / (one.rows or 1.0)
                        for bin_ in references[one.feature].shares
                    ),
                    tuple(references[one.feature].shares.values()),
                ),
            )
            for one in features
        ),
        ratios=tuple(ratio for ratio in ratios if ratio.share.hits)[:_MOST_RATIOS],
        calibration=tuple(
            CalibrationBin(bin_, rows, held_out.get(bin_)) for bin_, rows in confidences.items()
        ),
        measurements=measured or tuple(_measurements(labels)),
        answers=tuple(_answers(labels, counts)),
        estimate=estimate_accuracy(confidences, held_out),
        gaps=gaps,
        groups=tuple(group for group in groups if group.rates),
        small_groups=sum(not group.rates for group in groups),
        fewest_rows=asked.fairness.minimum_group_rows,
        audits=tuple(audits_of(status)),
        events=tuple(_events(status, revisions)),
    )


def _samples_of(pods: Sequence[Counted], arm: RevisionStatus) -> Iterator[Sample]:
    for pod in pods:
        for sample in pod.samples:
            metric, labels, _ = sample
            if labels.get("model_version") != arm.version:
                continue
            if pod.revision == arm.revision or metric.startswith(_OF_LABELS):
                yield sample


def _said(status: ModelDeploymentStatus) -> tuple[Verdict, ...]:
    """What the operator's monitoring says."""
    kinds, reasons = {str(kind) for kind in MonitoredCondition}, {str(reason) for reason in Reason}
    return tuple(
        Verdict(MonitoredCondition(one.type), Status(one.status), Reason(one.reason), one.message)
        for one in status.conditions
        if one.type in kinds and one.reason in reasons
    )


def _window(pods: Sequence[Counted]) -> str:
    times = sorted(pod.since for pod in pods if pod.since is not None)
    if not times:
        return "counts since the pods started"
    if len(pods) == 1:
        return f"counts since the pod started, {_time(times[0])}"
    return f"counts since the pods started, the first {_time(times[0])}, the last {_time(times[-1])}"


def _facts(
    resource: Resource,
    arm: RevisionStatus,
    pods: Sequence[Counted],
    counts: Values,
    limits: QualityLimits,
    now: datetime,
) -> Iterator[tuple[str, str]]:
    status = resource.status
    if status.model is not None and status.model.digest == arm.digest:
        yield "URI", status.model.uri
        if told := proof.told(status.model):
            yield "Conversion", told
    yield "Version", arm.version
    made = timestamp(arm.modelCreatedAt)
    if made is not None:
        age = f"{number((now - made).days)} days before this page"
        yield "Model made", f"{_time(made)}, {age}{_allowed(resource)}"
    yield "Digest", arm.digest
    yield "Revision", arm.revision
    canary = status.canary
    if canary is not None and canary.revision != arm.revision:
        share = f"{status.canaryWeight or 0}% of the traffic"
        yield "Canary", f"version {canary.version}, revision {canary.revision}, {share}; not counted here"
    yield "Pods read", number(len(pods))
    codes: dict[str, float] = {}
    for (metric, labels), value in counts.items():
        if metric == Metric.REQUESTS and value:
            code = dict(labels)["code"]
            codes[code] = codes.get(code, 0.0) + value
    yield "Requests", ", ".join(f"{number(codes[code])} answered {code}" for code in sorted(codes)) or "none"
    yield "Rows", number(sum(value for (metric, _), value in counts.items() if metric == Metric.ROWS))
    yield from _data_age(counts, limits.data_age_seconds)
    kinds = {str(kind) for kind in MonitoredCondition}
    for one in status.conditions:
        if one.type not in kinds:
            yield one.type, f"{one.status}, {one.reason}: {one.message}"


def _data_age(counts: Values, limit: float | None) -> Iterator[tuple[str, str]]:
    ages = series.data_ages(counts)
    rows = ages.get(math.inf, 0.0)
    median = median_age(ages, 1)
    if median is not None and limit in ages:
        share = percent(1.0 - ages[limit] / rows)
        allowed = f"{share} older than the {number(limit / 60.0)} min that are allowed"
        yield "Age of the data", f"half of {number(rows)} rows below {number(median / 60.0)} min; {allowed}"
    without = {
        dict(labels)["reason"]: value
        for (metric, labels), value in counts.items()
        if metric == Metric.DATA_AGE_UNKNOWN and value
    }
    if without:
        parts = ", ".join(f"{number(count)} {reason}" for reason, count in sorted(without.items()))
        yield "Rows without an age", parts


def _allowed(resource: Resource) -> str:
    spec = resource.spec
    if isinstance(spec, Fault) or spec.card is None or spec.card.maxAgeDays is None:
        return ""
    return f"; {spec.card.maxAgeDays} are allowed"


def _model_days(arm: RevisionStatus, now: datetime) -> float | None:
    made = timestamp(arm.modelCreatedAt)
    return None if made is None else (now - made).total_seconds() / 86_400.0


def _card(card: Card | None) -> Iterator[tuple[str, str]]:
    if card is None:
        return
    for name, value in (
        ("Owner", card.owner),
        ("Intended use", card.intendedUse),
        ("Limitations", card.limitations),
        ("More", " ".join(card.links)),
    ):
        if value:
            yield name, value


def _measurements(labels: Feedback) -> Iterator[Measurement]:
    """Accuracy; no limit is known."""
    if sum(labels.confusion.values()):
        share = measure(labels.confusion, PerformanceMetric.ACCURACY)
        objective = Objective(PerformanceMetric.ACCURACY, 0.0)
        yield Measurement(objective, share, share_interval(share, deviations(_CONFIDENCE)))


def _answers(labels: Feedback, counts: Values) -> Iterator[str]:
    """What labels say beyond a share, in sentences."""
    errors = counts.get((f"{Metric.FEEDBACK_ERROR}_count", ()), 0.0)
    if errors:
        mean = counts[f"{Metric.FEEDBACK_ERROR}_sum", ()] / errors
        yield f"The mean absolute error is {number(mean)}, of {number(errors)} labels."
    covered, delay = coverage(labels), quantile(labels.delays, 0.5)
    if sum(labels.confusion.values()) and not math.isnan(covered):
        yield f"{percent(covered)} of the rows have labels; those that come first may be unlike the rest."
    if not math.isnan(delay):
        yield f"Half of the labels came within {number(delay / 60.0)} minutes of the prediction."


def _groups(counts: Values, asked: MonitoringPolicy) -> Iterator[GroupReport]:
    """Every group, and all who are in none; those with too few rows have no rates."""
    for name, reference, groups in asked.attributes:
        everyone = (*groups, *(() if _OTHER in groups else (_OTHER,)))
        found = series.attribute(counts, name, reference, everyone)
        for group, counted in found.groups.items():
            yield GroupReport(name, group, tuple(_rates(counted, asked.fairness.minimum_group_rows)))


def _rates(group: GroupCounts, fewest: int) -> Iterator[Rate]:
    z = deviations(_CONFIDENCE)
    for what, share in (
        ("favorable, of all", group.selection),
        ("favorable, of those whose label is", group.true_positives),
        ("favorable, of those whose label is not", group.false_positives),
    ):
        if share.rows >= fewest:
            yield Rate(what, share, share_interval(share, z))


def _events(status: ModelDeploymentStatus, revisions: Sequence[Manifest]) -> Iterator[Event]:
    """What happened to the rollouts, the newest first."""
    found: list[tuple[datetime, str, str]] = []
    for one in revisions:
        at = timestamp(one["metadata"].get("creationTimestamp"))
        name = (one["metadata"].get("labels") or {}).get(REVISION_LABEL, one["metadata"]["name"])
        model = (one.get("data") or {}).get("model") or {}
        if at is not None:
            words = f"{name}: version {model.get('version', '?')}, {model.get('digest', '?')}"
            found.append((at, "New revision", words))
    promoted = timestamp(status.promotedAt)
    if promoted is not None and status.stable is not None:
        found.append((promoted, "Promoted", f"{status.stable.revision}: version {status.stable.version}"))
    for rejection in status.rejected:
        at = timestamp(rejection.rejectedAt)
        if at is not None:
            found.append((at, "Rejected", f"{rejection.revision}: {rejection.message}"))
    rollout = status.rollout
    if rollout is not None:
        at = timestamp(rollout.startedAt)
        told = [f"{rollout.revision}: {rollout.message or rollout.phase}"]
        told += [f"gate {gate.name}: {gate.verdict}, {gate.message}" for gate in rollout.gates]
        if at is not None:
            found.append((at, f"Rollout, {rollout.phase.lower()}", "; ".join(told)))
    for at, what, message in sorted(found, key=lambda one: one[0], reverse=True):
        yield Event(_time(at), what, message)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
