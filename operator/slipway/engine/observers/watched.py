"""What is known of the version of a ModelDeployment that monitoring looks at; soft state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import MonitoringStatus
from slipway.bins import OTHER
from slipway.core.endpoint import has_address
from slipway.core.monitoring import series
from slipway.core.monitoring.drift import CompareWith, ReferenceBins, yesterday
from slipway.core.monitoring.judge import Findings, Window, WindowCounts
from slipway.core.monitoring.packed import Packed
from slipway.core.monitoring.policy import DAY_SECONDS, LABELS_SECONDS, MonitoringPolicy
from slipway.core.monitoring.series import Series, Values
from slipway.core.monitoring.verdict import MonitoredCondition
from slipway.core.monitoring.windows import Mark, Names, Row, Tally, begin, begin_at_zero, increase, remember
from slipway.core.naming import SERVER_CONTAINER
from slipway.core.observed import Manifest, is_ready, timestamp
from slipway.core.pod_counters import began, has_begun_since, life_of
from slipway.core.resource import Resource
from slipway.core.traffic.routed import is_routed
from slipway.names import BY_COHORT, Metric

#: Counts of inputs, and those of what was answered and what came back.
_INPUTS: frozenset[str] = frozenset({Metric.FEATURE_VALUES, Metric.VIOLATIONS, f"{Metric.DATA_AGE}_bucket"})
_OUTCOMES: frozenset[str] = frozenset(
    {
        Metric.ROWS,
        Metric.GROUP_PREDICTIONS,
        Metric.GROUP_FEEDBACK,
        Metric.FEEDBACK_LABELS,
        f"{Metric.FEEDBACK_DELAY}_bucket",
    }
)
GAUGES: frozenset[str] = frozenset({Metric.FEATURE_REFERENCE_RATIO, Metric.FEATURE_REFERENCE_ROWS})
#: Of no version in particular, or no counts.
APART = GAUGES | {Metric.CRASHES}
WANTED = _INPUTS | _OUTCOMES | APART | {Metric.MONITORED_FEATURES}
#: The same counts by cohort of callers.
COHORTS: frozenset[str] = frozenset(BY_COHORT.values())
INPUTS = _INPUTS | {BY_COHORT[metric] for metric in _INPUTS if metric in BY_COHORT}
OUTCOMES = _OUTCOMES | {BY_COHORT[metric] for metric in _OUTCOMES if metric in BY_COHORT}
LEFT_OUT = series.series(Metric.MONITORED_FEATURES, {"state": "over_budget"})

#: Marks that a window is divided into, and those of a day and more.
MARKS, MOST_MARKS = 20, 56


@dataclass(frozen=True)
class Profile:
    """What a model's profile says, as pods show it."""

    references: Mapping[str, ReferenceBins] = field(default_factory=dict)
    usual: Values = field(default_factory=dict)


@dataclass
class Watched:
    """What is known of one version of a ModelDeployment; all of it can be counted again."""

    namespace: str
    uid: str
    version: str
    began: datetime
    answered: datetime
    due: datetime
    #: Nobody had this version answer before: when the one before became stable, or the resource was made.
    after: datetime | None = None
    generation: int = -1
    tally: Tally[Series] | None = None
    inputs: tuple[Mark[Series], ...] = ()
    outcomes: tuple[Mark[Series], ...] = ()
    names: Names[Series] = field(default_factory=Names)
    input_names: Names[Series] = field(default_factory=Names)
    outcome_names: Names[Series] = field(default_factory=Names)
    #: The run whose gauges told what the profile says.
    described: str = ""
    profile: Packed[Profile] = field(default_factory=lambda: Packed(Profile()))
    #: How many bins each feature of the profile has.
    bins: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    is_full: bool = False
    findings: Findings = field(default_factory=dict)
    looked: datetime | None = None
    pods: int = 0
    #: Lives of counters that were there at the last look and not expected to answer, and when that was.
    unready: frozenset[str] = frozenset()
    asked_at: datetime | None = None
    #: What the sums of all have of this one, and whether it is in them no more.
    noted_size: int = 0
    noted_series: int = 0
    is_gone: bool = False

    @property
    def size(self) -> int:
        """Series that a look reads."""
        return self.pods * (len(self.names) + 1)

    def is_of(self, resource: Resource) -> bool:
        """Whether this is still what was looked at."""
        stable = resource.status.stable
        return stable is not None and (self.uid, self.version) == (resource.owner.uid, stable.version)

    def pack(self) -> None:
        """Take less memory until the next look."""
        for names in (self.names, self.input_names, self.outcome_names):
            names.pack()
        self.profile.pack()

    def count(
        self,
        counts: Mapping[str, Values],
        profile: Mapping[str, Values],
        old: Set[str],
        pods: Iterable[Manifest],
        asked: MonitoringPolicy,
        since: datetime | None,
        now: datetime,
    ) -> None:
        """Add what each life of a pod's counters shows.

        Args:
            counts: by life.
            profile: all that one of them shows.
            old: those that counted before the last look.
            pods: that there are.
            asked: how long windows are.
            since: when the version began to answer, where all that is shown at a first look is of it.
            now: the time, with a time zone.
        """
        if self.described not in counts:
            _describe(self, profile)
        self.pods = len(counts)
        if self.tally is not None:
            gone = self.tally.last.keys() - {life(pod) for pod in pods}
            met = {one: counts[one] for one in old if one not in self.tally.last}
            self.tally = self.tally.meet(met).add(counts, gone)
        elif since is None:
            self.tally = begin(counts)
        else:
            self.tally = begin_at_zero(counts)
            self.inputs = (Mark(since.timestamp(), Row({}, self.input_names)),)
            self.outcomes = (Mark(since.timestamp(), Row({}, self.outcome_names)),)

        totals = Row(self.tally.totals, self.names, len(self.names))
        self.tally = replace(self.tally, totals=totals)
        at = now.timestamp()
        inputs_span = asked.inputs_seconds
        if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
            inputs_span += DAY_SECONDS
        self.inputs = _remember(self.inputs, at, totals, INPUTS, self.input_names, inputs_span)
        outcomes_span = max(LABELS_SECONDS, asked.groups_seconds)
        self.outcomes = _remember(self.outcomes, at, totals, OUTCOMES, self.outcome_names, outcomes_span)


def answering_since(
    found: Watched,
    resource: Resource,
    spec: ModelDeploymentSpec,
    counts: Mapping[str, Values],
    pods: Iterable[Manifest],
    asked: MonitoringPolicy,
    now: datetime,
) -> datetime | None:
    """Since when a version that is new has answered, where its pods show just that; else None.

    They began with it, and not longer ago than a window. Pods that came by steps had copies of requests, too.
    """
    by_steps = is_routed(spec) and resource.status.previous
    if found.tally is not None or found.after is None or by_steps:
        return None
    starts = [began(pod, SERVER_CONTAINER) for pod in pods if counts.get(life(pod))]
    known = [start for start in starts if start is not None and start >= found.after]
    window = timedelta(seconds=min(asked.inputs_seconds, asked.groups_seconds))
    if not known or len(known) < len(starts) or now - min(known) > window:
        return None
    return min(known)


def gauges(values: Values) -> dict[Series, float]:
    """What the profile says, of all that a pod shows."""
    return {one: value for one, value in values.items() if one[0] in GAUGES}


def _describe(found: Watched, scrapes: Mapping[str, Values]) -> None:
    """What the profile says, of any pod that has it."""
    for run, values in scrapes.items():
        told = gauges(values)
        if told or found.described == "":
            usual = {one: value for one, value in told.items() if ("bin", OTHER) in one[1]}
            references = series.references(told)
            found.described, found.profile = run, Packed(Profile(references, usual))
            found.bins = {name: len(reference.shares) for name, reference in references.items()}
            found.left_out = int(values.get(LEFT_OUT, 0.0))
        if told:
            return


def _remember(
    marks: tuple[Mark[Series], ...],
    at: float,
    totals: Values,
    metrics: frozenset[str],
    names: Names[Series],
    span: float,
) -> tuple[Mark[Series], ...]:
    """With one mark more; counts that did not move share their numbers with the mark before."""
    row = Row({one: value for one, value in totals.items() if one[0] in metrics}, names)
    last = marks[-1].totals if marks else None
    if isinstance(last, Row) and last.is_same(row):
        row = last
    parts = MARKS if span < DAY_SECONDS else MOST_MARKS
    return remember(marks, Mark(at, row), span, span / parts)


def evidence(found: Watched, asked: MonitoringPolicy, resource: Resource, now: datetime) -> WindowCounts:
    """What is held against the limits now."""
    at, before = now.timestamp(), None
    if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
        pair = yesterday(found.inputs, at, asked.inputs_seconds)
        before = pair[1] if pair is not None else None
    return WindowCounts(
        inputs=_window(found.inputs, asked.inputs_seconds, now),
        yesterday=before,
        labels=_window(found.outcomes, LABELS_SECONDS, now),
        groups=_window(found.outcomes, asked.groups_seconds, now),
        references=found.profile.value.references,
        usual=found.profile.value.usual,
        left_out=found.left_out,
        model_days=_model_days(resource, now),
    )


def _model_days(resource: Resource, now: datetime) -> float | None:
    made = timestamp(resource.status.stable.modelCreatedAt) if resource.status.stable else None
    return None if made is None else (now - made).total_seconds() / DAY_SECONDS


def _window(marks: tuple[Mark[Series], ...], seconds: float, now: datetime) -> Window:
    """As much of a window as was counted."""
    at = now.timestamp()
    found = increase(marks, max(at - seconds, marks[0].at), at)
    if found is None:
        return Window(dict.fromkeys(marks[-1].totals, 0.0), now, seconds)
    return Window(found.counts, now - timedelta(seconds=found.seconds), seconds)


def conditions(
    asked: MonitoringPolicy, before: MonitoringStatus | None, found: Watched
) -> dict[MonitoredCondition, datetime]:
    """Conditions that something would be said of, and from when on it was counted."""
    conditions = dict.fromkeys(asked.named, found.began)
    if asked.objectives:
        conditions[MonitoredCondition.PERFORMANCE] = found.began
    if asked.fairness.limits:
        conditions[MonitoredCondition.FAIRNESS] = found.began
    for verdict in before.verdicts if before is not None and before.version == found.version else ():
        conditions[MonitoredCondition(verdict.type)] = datetime.fromisoformat(verdict.countedSince)
    return conditions


def answers(pod: Manifest) -> bool:
    """Whether a pod can be expected to say what it counted: one that leaves serves on for a while."""
    return has_address(pod) and (is_ready(pod) or "deletionTimestamp" in pod["metadata"])


def life(pod: Manifest) -> str:
    """Names the life of the counters of a pod's model server."""
    return life_of(pod, SERVER_CONTAINER)


def already_counting(found: Watched, lives: Iterable[str], pods: Iterable[Manifest]) -> Set[str]:
    """Lives that counted before the last look: what they did then is of no window that began since.

    Others began since, or were not ready for requests at that look.
    """
    since = found.asked_at or found.began
    fresh = {life(pod) for pod in pods if has_begun_since(pod, SERVER_CONTAINER, since)}
    return set(lives) - fresh - found.unready
