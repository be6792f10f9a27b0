"""Reads what pods count, and has a ModelDeployment looked at when that says something new of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from slipway.api.status import CrashStatus
from slipway.api.verdicts import MonitoringStatus
from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.monitoring.hysteresis import update
from slipway.core.monitoring.judge import BLIND, Findings, judge_windows, repeated, unreachable
from slipway.core.monitoring.policy import MonitoringPolicy, acts_on_breach, monitoring_policy
from slipway.core.monitoring.series import ByVersion, Values
from slipway.core.monitoring.windows import MOST_SERIES, Row
from slipway.core.observed import Fault, Manifest, ObjectKind, revision_of_object, timestamp
from slipway.core.resource import Resource
from slipway.engine.observers.crashes import CrashWatch, said_of
from slipway.engine.observers.pods import AT_ONCE
from slipway.engine.observers.pool import Pool
from slipway.engine.observers.watched import (
    APART,
    Watched,
    already_counting,
    answering_since,
    answers,
    conditions,
    evidence,
    gauges,
    life,
)
from slipway.engine.store import Key, Store
from slipway.names import ADMIN_PORT

log = logging.getLogger(__name__)

#: Seconds between two rounds of looking for who is due, and between two looks at the same; a short window is
#: looked at more often, so many times at least.
ROUND, INTERVAL = 1.0, 15.0
LOOKS = 8
#: Seconds until a model that has nothing to be judged is looked at again, and if it has a canary or processes
#: of it died lately.
BARREN, CLOSE = 600.0, 60.0
#: Series of all models of a namespace that are remembered.
MOST_SERIES_OF_NAMESPACE = 65_536
#: Reading a series takes so many seconds, and all reading together so much of the operator's time at most.
SERIES_SECONDS, SHARE_OF_TIME = 1e-5, 0.1


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
        read_cohorts: Callable[[Endpoint], Awaitable[ByVersion | None]] | None = None,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            read_pod: reads the pod whose admin port it is, its counts by version; None where it cannot be
                read.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: between 0 and 1, so that not all are looked at at once.
            read_cohorts: as ``read_pod``, what pods counted by cohort of callers.
        """
        self._store = store
        self._read_cohorts = read_cohorts
        self._read = read_pod
        self._changed = changed
        self._clock = clock
        self._spread = spread
        self._watched: dict[Key, Watched] = {}
        self._crashes: dict[Key, CrashWatch] = {}
        #: ModelDeployments that changed since the last round.
        self._news = store.subscribe()
        self.pool = Pool(self._look_safely, self._due, clock, spread)
        #: What a look at each reads, together; series that are remembered, by namespace.
        self._size = 0
        self._series: Counter[str] = Counter()

    def monitoring(self, resource: Resource) -> MonitoringStatus | None:
        """What status should say of a resource; what it says already where nothing newer is known."""
        before, stable = resource.status.monitoring, resource.status.stable
        if stable is None or stable.server is not None:
            return None
        found = self._watched.get(Key(resource.owner.namespace, resource.owner.name))
        if found is None or found.looked is None or not found.is_of(resource):
            return before if before is not None and before.version == stable.version else None
        return update(before, found.version, found.generation, found.findings, found.looked)

    def crashes(self, resource: Resource) -> Mapping[str, CrashStatus]:
        """What status should say of processes that died, by revision; as :meth:`monitoring`."""
        found = self._crashes.get(Key(resource.owner.namespace, resource.owner.name))
        if found is None or found.uid != resource.owner.uid:
            return said_of(resource)
        return found.told()

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._drop(key)
        self._crashes.pop(key, None)
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

    def judged(self) -> Iterator[tuple[Key, str, MonitoringPolicy, Mapping[str, int], Findings]]:
        """Each ModelDeployment that is judged: version, by what, bins of each feature, what was found."""
        for key, found in self._watched.items():
            resource = self._store.read(key)
            if resource is not None and found.findings and not isinstance(resource.spec, Fault):
                policy = monitoring_policy(resource.spec)
                yield key, found.version, policy, found.bins, found.findings

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
            self._crashes.pop(key, None)
            return
        stable = resource.status.stable
        if stable is None or stable.server is not None:
            # A server of one's own counts nothing that could be judged.
            self._drop(key)
            self._crashes[key] = CrashWatch(resource.owner.uid, self._clock())
            self.pool.refresh(key)
            return
        if found is None or not found.is_of(resource):
            self._drop(key)
            self._watched[key] = found = self._begin(key, resource, stable.version, found)
        crashes = self._crashes.get(key)
        if crashes is None or crashes.uid != resource.owner.uid:
            self._crashes[key] = CrashWatch.begin(resource, self._clock())
        if resource.status.canary is not None:
            found.due = min(found.due, self._clock() + timedelta(seconds=CLOSE))
        changed = found.looked is not None and found.generation != resource.generation
        if changed:
            found.due = self._clock()
        self.pool.refresh(key, at_once=changed)

    def _begin(self, key: Key, resource: Resource, version: str, before: Watched | None) -> Watched:
        """Watch a version that became stable: at once, where that was just now."""
        now, uid = self._clock(), resource.owner.uid
        promoted = timestamp(resource.status.promotedAt)
        is_new = promoted is not None and (now - promoted).total_seconds() < INTERVAL
        due = now + timedelta(seconds=0.0 if is_new else INTERVAL * self._spread())
        after = None
        if before is not None and before.uid == uid:
            after = before.began
        elif not resource.status.previous and (manifest := self._store.resource(key)) is not None:
            after = timestamp(manifest["metadata"].get("creationTimestamp"))
        return Watched(key.namespace, uid, version, now, now, due, after)

    def _note_size(self, found: Watched) -> None:
        """Keep the sums of what is watched."""
        if found.is_gone:
            return
        size, series_ = found.size, len(found.names)
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
        finally:
            found.pack()

    async def _look(self, key: Key, found: Watched) -> bool:
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
        scrapes, profile = await self._scrape(key, found, pods, acts_on_breach(resource.spec))
        dies = self._note_crashes(key, pods)
        is_read = bool(scrapes) or not any(map(answers, pods))
        if not found.is_of(resource):
            return is_read
        old = already_counting(found, scrapes, pods)
        found.asked_at, found.unready = now, frozenset(life(pod) for pod in pods if not answers(pod))
        found.generation = resource.generation
        if any(scrapes.values()):
            found.answered = now
            since = answering_since(found, resource, resource.spec, scrapes, pods, asked, now)
            found.count(scrapes, profile, old, pods, asked, since, now)
            self._note_size(found)
            findings = judge_windows(asked, evidence(found, asked, resource, now))
            if not findings:
                rest = max(CLOSE, self.pace()) if dies else BARREN
                found.due = now + timedelta(seconds=rest * (0.8 + 0.4 * self._spread()))
        elif now - found.answered >= BLIND:
            counted = conditions(asked, resource.status.monitoring, found)
            findings = unreachable(counted, found.version, found.answered)
        else:
            return is_read
        found.findings = repeated(findings, found.findings, now, found.began)
        found.looked = now
        if self.monitoring(resource) != resource.status.monitoring:
            self._changed(key)
        return is_read

    def _note_crashes(self, key: Key, pods: Iterable[Manifest]) -> bool:
        """Have status say what died, where that is news; whether processes are likely to die soon."""
        resource, crashes = self._store.read(key), self._crashes.get(key)
        if resource is None or crashes is None:
            return False
        crashes.settle({life(pod) for pod in pods}, self._clock())
        roles = [role for role in (resource.status.stable, resource.status.canary) if role is not None]
        told = crashes.told()
        if any(told.get(role.revision) != role.crashes for role in roles):
            self._changed(key)
        return bool(told) or resource.status.canary is not None

    async def _scrape(
        self, key: Key, found: Watched, pods: Iterable[Manifest], by_cohort: bool
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """What each life of a pod's counters shows of the version; those that do not answer are missing.

        And all that one of them shows, which has the profile where any has. Of the others no more than bare
        numbers is held: pods are many, and each may show thousands of names of its own.
        """
        profile: dict[str, Values] = {}
        room = asyncio.Semaphore(AT_ONCE)

        async def scrape(pod: Manifest) -> tuple[str, Values] | None:
            async with room:
                target = endpoint_of(pod, ADMIN_PORT)
                read_out = await self._read(target)
                cohorts: ByVersion | None = {}
                if by_cohort and read_out is not None and self._read_cohorts is not None:
                    # Afterwards: what has come since the one is left out of more than it was counted in.
                    cohorts = await self._read_cohorts(target)
                if read_out is None or cohorts is None:
                    return None
                if (crashes := self._crashes.get(key)) is not None:
                    crashes.count(pod, read_out, self._clock())
                run, values = life(pod), read_out.get(found.version, {})
                if not profile or (gauges(values) and not any(map(gauges, profile.values()))):
                    profile.clear()
                    profile[run] = values
                counts = {one: value for one, value in values.items() if one[0] not in APART}
                counts |= cohorts.get(found.version, {})
                row = Row(counts, found.names, self._most_series(found)) if values else {}
                self._note_size(found)
                return run, row

        found_out = await asyncio.gather(*(scrape(pod) for pod in pods if answers(pod)))
        return dict(one for one in found_out if one is not None), profile

    def _most_series(self, found: Watched) -> int:
        """Series that a model may have: pods show what they like, and it is remembered for good."""
        others = self._series[found.namespace] - found.noted_series
        most = max(0, min(MOST_SERIES, MOST_SERIES_OF_NAMESPACE - others))
        if len(found.names) >= most and not found.is_full:
            found.is_full = True
            log.warning(
                "no room for more series of a model",
                extra={"namespace": found.namespace, "uid": found.uid, "series": len(found.names)},
            )
        return most
