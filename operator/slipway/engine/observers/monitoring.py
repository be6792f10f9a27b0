"""Reads what pods count, and has a ModelDeployment looked at when that says something new of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slipway.api.verdicts import MonitoringStatus
from slipway.bins import OTHER
from slipway.core.endpoint import Endpoint, endpoint_of, has_address
from slipway.core.monitoring import series
from slipway.core.monitoring.drift import CompareWith, ReferenceBins, yesterday
from slipway.core.monitoring.hysteresis import update
from slipway.core.monitoring.judge import (
    BLIND,
    Findings,
    Window,
    WindowCounts,
    judge_windows,
    repeated,
    unreachable,
)
from slipway.core.monitoring.policy import DAY_SECONDS, LABELS_SECONDS, MonitoringPolicy, monitoring_policy
from slipway.core.monitoring.series import ByVersion, Series, Values
from slipway.core.monitoring.verdict import MonitoredCondition
from slipway.core.monitoring.windows import MOST_SERIES, Mark, Row, Tally, begin, increase, remember
from slipway.core.naming import SERVER_CONTAINER
from slipway.core.observed import Fault, Manifest, ObjectKind, is_ready, revision_of_object, timestamp
from slipway.core.pod_counters import has_begun_since, life_of
from slipway.core.resource import Resource
from slipway.engine.observers.pods import AT_ONCE
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key, Store
from slipway.names import ADMIN_PORT, Metric

log = logging.getLogger(__name__)

#: Counts of inputs, and those of what was answered and what came back.
INPUTS: frozenset[str] = frozenset({Metric.FEATURE_VALUES, Metric.VIOLATIONS, f"{Metric.DATA_AGE}_bucket"})
OUTCOMES: frozenset[str] = frozenset(
    {
        Metric.ROWS,
        Metric.GROUP_PREDICTIONS,
        Metric.GROUP_FEEDBACK,
        Metric.FEEDBACK_LABELS,
        f"{Metric.FEEDBACK_DELAY}_bucket",
    }
)
GAUGES: frozenset[str] = frozenset({Metric.FEATURE_REFERENCE_RATIO, Metric.FEATURE_REFERENCE_ROWS})
WANTED = INPUTS | OUTCOMES | GAUGES | {Metric.MONITORED_FEATURES}
LEFT_OUT = series.series(Metric.MONITORED_FEATURES, {"state": "over_budget"})

#: Seconds between two rounds of looking for who is due, and between two looks at the same; a short window is
#: looked at more often, so many times at least.
ROUND, INTERVAL = 1.0, 15.0
LOOKS = 8
#: Seconds until a model that has nothing to be judged is looked at again.
BARREN = 600.0
#: Series of all models of a namespace that are remembered.
MOST_SERIES_OF_NAMESPACE = 65_536
#: Reading a series takes so many seconds, and all reading together so much of the operator's time at most.
SERIES_SECONDS, SHARE_OF_TIME = 1e-5, 0.1
#: Marks that a window is divided into, and those of a day and more.
MARKS, MOST_MARKS = 20, 56


@dataclass
class _Watched:
    """What is known of one version of a ModelDeployment; all of it can be counted anew."""

    namespace: str
    uid: str
    version: str
    began: datetime
    answered: datetime
    due: datetime
    generation: int = -1
    tally: Tally[Series] | None = None
    inputs: tuple[Mark[Series], ...] = ()
    outcomes: tuple[Mark[Series], ...] = ()
    places: dict[Series, int] = field(default_factory=dict)
    input_places: dict[Series, int] = field(default_factory=dict)
    outcome_places: dict[Series, int] = field(default_factory=dict)
    #: The run whose gauges told what the profile says.
    described: str = ""
    references: Mapping[str, ReferenceBins] = field(default_factory=dict)
    usual: Values = field(default_factory=dict)
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
        return self.pods * (len(self.places) + 1)


class Judge:
    """Looks at the stable version of every ModelDeployment that has something to be judged.

    What was counted lies in memory alone: an operator that begins counts anew, and what status says stands
    until it knows better. Reading takes a tenth of the operator's time at most: with more models or more
    features each is looked at less often, which windows do not mind.
    """

    def __init__(
        self,
        store: Store,
        read_pod: Callable[[Endpoint], Awaitable[ByVersion | None]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            read_pod: reads the pod whose admin port it is, its counts by version; None where it cannot be
                read.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: between 0 and 1, so that not all are looked at at once.
        """
        self._store = store
        self._read = read_pod
        self._changed = changed
        self._clock = clock
        self._spread = spread
        self._watched: dict[Key, _Watched] = {}
        #: ModelDeployments that changed since the last round.
        self._news = store.subscribe()
        self.pool = Pool(self._look_safely, self._due, clock, spread)
        #: What a look at each reads, together; series that are remembered, by namespace.
        self._size = 0
        self._series: Counter[str] = Counter()

    def monitoring(self, resource: Resource) -> MonitoringStatus | None:
        """What status should say of a resource; what it says already where nothing newer is known."""
        before, stable = resource.status.monitoring, resource.status.stable
        if stable is None:
            return None
        found = self._watched.get(Key(resource.owner.namespace, resource.owner.name))
        if found is None or found.looked is None or not _is_of(found, resource):
            return before if before is not None and before.version == stable.version else None
        return update(before, found.version, found.generation, found.findings, found.looked)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._drop(key)
        # One of the same name may be there already.
        self._news.add(key)

    def _drop(self, key: Key) -> None:
        found = self._watched.pop(key, None)
        if found is not None:
            self._size -= found.noted_size
            self._series[found.namespace] -= found.noted_series
            if not self._series[found.namespace]:
                del self._series[found.namespace]
            found.is_gone = True
        self.pool.forget(key)

    def judged(self) -> Iterator[tuple[Key, str, MonitoringPolicy, Mapping[str, ReferenceBins], Findings]]:
        """Each ModelDeployment that is judged: its version, by what, its profile, and what was found."""
        for key, found in self._watched.items():
            resource = self._store.read(key)
            if resource is not None and found.findings and not isinstance(resource.spec, Fault):
                policy = monitoring_policy(resource.spec)
                yield key, found.version, policy, found.references, found.findings

    async def watch(self) -> None:
        """Look at who is due, for ever: who does not answer keeps nobody else waiting."""
        await asyncio.gather(self.pool.watch(), self._follow())

    async def _follow(self) -> None:
        while True:
            self._take_news()
            await asyncio.sleep(ROUND)

    async def round(self) -> None:
        """Look at who is due now, and wait for all of them."""
        self._take_news()
        await self.pool.drain()

    def _take_news(self) -> None:
        while self._news:
            self._schedule(self._news.pop())

    def _due(self, key: Key) -> datetime | None:
        resource, found = self._store.read(key), self._watched.get(key)
        if resource is None or found is None or resource.status.stable is None:
            return None
        return found.due

    def pace(self, asked: MonitoringPolicy | None = None) -> float:
        """Seconds between two looks at the same ModelDeployment."""
        windows = (asked.inputs_seconds, asked.groups_seconds) if asked is not None else ()
        wanted = min([INTERVAL, *(seconds / LOOKS for seconds in windows)])
        return max(wanted, self._size * SERIES_SECONDS / SHARE_OF_TIME)

    def _schedule(self, key: Key) -> None:
        """Set when a ModelDeployment that changed is looked at next."""
        resource, found = self._store.read(key), self._watched.get(key)
        if resource is None:
            self._drop(key)
            return
        stable = resource.status.stable
        if stable is None:
            self.pool.refresh(key)
            return
        if found is None or not _is_of(found, resource):
            self._drop(key)
            now = self._clock()
            due = now + timedelta(seconds=INTERVAL * self._spread())
            found = _Watched(key.namespace, resource.owner.uid, stable.version, now, now, due)
            self._watched[key] = found
        changed = found.looked is not None and found.generation != resource.generation
        if changed:
            found.due = self._clock()
        self.pool.refresh(key, at_once=changed)

    def _note_size(self, found: _Watched) -> None:
        """Keep the sums of what is watched."""
        if found.is_gone:
            return
        size, series_ = found.size, len(found.places)
        self._size += size - found.noted_size
        self._series[found.namespace] += series_ - found.noted_series
        found.noted_size, found.noted_series = size, series_

    async def _look_safely(self, key: Key) -> bool:
        """One model's figures, whatever they are, are no reason not to look at the others."""
        found = self._watched.get(key)
        if found is None:
            return True
        try:
            return await self._look(key, found)
        except Exception:
            log.exception("not judged", extra={"key": str(key)})
            # Later and later, whatever it is due by.
            return False

    async def _look(self, key: Key, found: _Watched) -> bool:
        """Whether any of the pods that can be expected to answer does."""
        resource, now = self._store.read(key), self._clock()
        asked = (
            None if resource is None or isinstance(resource.spec, Fault) else monitoring_policy(resource.spec)
        )
        found.due = now + timedelta(seconds=self.pace(asked) * (0.8 + 0.4 * self._spread()))
        if asked is None or resource is None or resource.deleting or isinstance(resource.spec, Fault):
            return True
        pods = [child for child in self._store.children(key) if child["kind"] == ObjectKind.POD]
        pods = [pod for pod in pods if revision_of_object(pod) is not None and self._store.is_believed(pod)]
        scrapes, profile = await self._scrape(found, pods)
        is_read = bool(scrapes) or not any(map(_answers, pods))
        if not _is_of(found, resource):
            return is_read
        old = _already_counting(found, scrapes, pods)
        found.asked_at, found.unready = now, frozenset(_life(pod) for pod in pods if not _answers(pod))
        found.generation = resource.generation
        if any(scrapes.values()):
            found.answered = now
            self._count(found, scrapes, profile, old, pods, asked, now)
            findings = judge_windows(asked, _evidence(found, asked, resource, now))
            if not findings:
                found.due = now + timedelta(seconds=BARREN * (0.8 + 0.4 * self._spread()))
        elif now - found.answered >= BLIND:
            since = _conditions(asked, resource.status.monitoring, found)
            findings = unreachable(since, found.version, found.answered)
        else:
            return is_read
        found.findings = repeated(findings, found.findings, now, found.began)
        found.looked = now
        if self.monitoring(resource) != resource.status.monitoring:
            self._changed(key)
        return is_read

    async def _scrape(
        self, found: _Watched, pods: Iterable[Manifest]
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """What each life of a pod's counters shows of the version; those that do not answer are missing.

        And all that one of them shows, which has the profile where any has. Of the others no more than bare
        numbers is held: pods are many, and each may show thousands of names of its own.
        """
        profile: dict[str, Values] = {}
        room = asyncio.Semaphore(AT_ONCE)

        async def scrape(pod: Manifest) -> tuple[str, Values] | None:
            async with room:
                read_out = await self._read(endpoint_of(pod, ADMIN_PORT))
                if read_out is None:
                    return None
                life, values = _life(pod), read_out.get(found.version, {})
                if not profile or (_gauges(values) and not any(map(_gauges, profile.values()))):
                    profile.clear()
                    profile[life] = values
                counts = {one: value for one, value in values.items() if one[0] not in GAUGES}
                row = Row(counts, found.places, self._most_series(found)) if values else {}
                self._note_size(found)
                return life, row

        answers = await asyncio.gather(*(scrape(pod) for pod in pods if _answers(pod)))
        return dict(answer for answer in answers if answer is not None), profile

    def _count(
        self,
        found: _Watched,
        counts: Mapping[str, Values],
        profile: Mapping[str, Values],
        old: Set[str],
        pods: Iterable[Manifest],
        asked: MonitoringPolicy,
        now: datetime,
    ) -> None:
        if found.described not in counts:
            _describe(found, profile)
        found.pods = len(counts)
        self._note_size(found)
        if found.tally is None:
            found.tally = begin(counts)
        else:
            gone = found.tally.last.keys() - {_life(pod) for pod in pods}
            met = {life: counts[life] for life in old if life not in found.tally.last}
            found.tally = found.tally.meet(met).add(counts, gone)

        totals = Row(found.tally.totals, found.places, len(found.places))
        found.tally = replace(found.tally, totals=totals)
        at = now.timestamp()
        inputs_span = asked.inputs_seconds
        if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
            inputs_span += DAY_SECONDS
        found.inputs = _remember(found.inputs, at, totals, INPUTS, found.input_places, inputs_span)
        outcomes_span = max(LABELS_SECONDS, asked.groups_seconds)
        found.outcomes = _remember(found.outcomes, at, totals, OUTCOMES, found.outcome_places, outcomes_span)

    def _most_series(self, found: _Watched) -> int:
        """Series that a model may have: pods show what they like, and it is remembered for good."""
        others = self._series[found.namespace] - found.noted_series
        most = max(0, min(MOST_SERIES, MOST_SERIES_OF_NAMESPACE - others))
        if len(found.places) >= most and not found.is_full:
            found.is_full = True
            log.warning(
                "no room for more series of a model",
                extra={"namespace": found.namespace, "uid": found.uid, "series": len(found.places)},
            )
        return most


def _is_of(found: _Watched, resource: Resource) -> bool:
    """Whether this is still what was looked at."""
    stable = resource.status.stable
    return stable is not None and (found.uid, found.version) == (resource.owner.uid, stable.version)


def _gauges(values: Values) -> dict[Series, float]:
    return {one: value for one, value in values.items() if one[0] in GAUGES}


def _describe(found: _Watched, scrapes: Mapping[str, Values]) -> None:
    """What the profile says, of any pod that has it."""
    for run, values in scrapes.items():
        gauges = _gauges(values)
        if gauges or found.described == "":
            found.described, found.references = run, series.references(gauges)
            found.usual = {one: value for one, value in gauges.items() if ("bin", OTHER) in one[1]}
            found.left_out = int(values.get(LEFT_OUT, 0.0))
        if gauges:
            return


def _remember(
    marks: tuple[Mark[Series], ...],
    at: float,
    totals: Values,
    metrics: frozenset[str],
    places: dict[Series, int],
    span: float,
) -> tuple[Mark[Series], ...]:
    """With one mark more; counts that did not move share their numbers with the mark before."""
    row = Row({one: value for one, value in totals.items() if one[0] in metrics}, places)
    last = marks[-1].totals if marks else None
    if isinstance(last, Row) and last.is_same(row):
        row = last
    parts = MARKS if span < DAY_SECONDS else MOST_MARKS
    return remember(marks, Mark(at, row), span, span / parts)


def _evidence(found: _Watched, asked: MonitoringPolicy, resource: Resource, now: datetime) -> WindowCounts:
    at, before = now.timestamp(), None
    if asked.compare_with is CompareWith.SAME_HOUR_YESTERDAY:
        pair = yesterday(found.inputs, at, asked.inputs_seconds)
        before = pair[1] if pair is not None else None
    return WindowCounts(
        inputs=_window(found.inputs, asked.inputs_seconds, now),
        yesterday=before,
        labels=_window(found.outcomes, LABELS_SECONDS, now),
        groups=_window(found.outcomes, asked.groups_seconds, now),
        references=found.references,
        usual=found.usual,
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


def _conditions(
    asked: MonitoringPolicy, before: MonitoringStatus | None, found: _Watched
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


def _answers(pod: Manifest) -> bool:
    """Whether a pod can be expected to say what it counted: one that leaves serves on for a while."""
    return has_address(pod) and (is_ready(pod) or "deletionTimestamp" in pod["metadata"])


def _life(pod: Manifest) -> str:
    return life_of(pod, SERVER_CONTAINER)


def _already_counting(found: _Watched, lives: Iterable[str], pods: Iterable[Manifest]) -> Set[str]:
    """Lives that counted before the last look: what they did then is of no window that began since.

    Others began since, or were not ready for requests at that look.
    """
    since = found.asked_at or found.began
    fresh = {_life(pod) for pod in pods if has_begun_since(pod, SERVER_CONTAINER, since)}
    return set(lives) - fresh - found.unready
