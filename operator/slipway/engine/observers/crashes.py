"""Processes of a ModelDeployment's model servers that died while their pods served on; soft state."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from slipway.api.status import CrashStatus
from slipway.core.monitoring.series import ByVersion, series
from slipway.core.naming import SERVER_CONTAINER
from slipway.core.observed import Manifest, revision_of_object, rfc3339
from slipway.core.pod_counters import has_begun_since, life_of
from slipway.core.resource import Resource
from slipway.core.status.crashes import at_least
from slipway.names import Metric

#: Status says it until nothing was seen to die for so long.
LATELY = timedelta(minutes=15)

_RUNS, _SERVERS = (series(Metric.CRASHES, {"process": process}) for process in ("run", "server"))


class Deaths(NamedTuple):
    """Processes that died."""

    runs: int = 0
    servers: int = 0


_NONE = Deaths()


@dataclass(frozen=True)
class Episode:
    """Deaths of one revision's processes, with less than :data:`LATELY` between any two that were seen."""

    since: datetime
    last: datetime
    deaths: Deaths


@dataclass
class CrashWatch:
    """What is known of the revisions of one ModelDeployment.

    Attributes:
        uid: of the ModelDeployment.
        began: when watching did; what pods counted before is of no episode.
        counted: what each life of a pod's counters showed last.
        episodes: by revision.
    """

    uid: str
    began: datetime
    counted: dict[str, Deaths] = field(default_factory=dict)
    episodes: dict[str, Episode] = field(default_factory=dict)

    @classmethod
    def begin(cls, resource: Resource, now: datetime) -> CrashWatch:
        """Watch: what status says stands for a while, since nobody knows when the last one died."""
        episodes = {
            revision: Episode(datetime.fromisoformat(said.since), now, Deaths(said.runs, said.servers))
            for revision, said in said_of(resource).items()
        }
        return cls(resource.owner.uid, now, episodes=episodes)

    def count(self, pod: Manifest, shown: ByVersion, now: datetime) -> None:
        """Take in what a pod shows, whatever version it claims to be of."""
        revision, life = revision_of_object(pod), life_of(pod, SERVER_CONTAINER)
        before = self.counted.get(life)
        found = self.counted[life] = _deaths(shown)
        if before is None:
            before = _NONE if has_begun_since(pod, SERVER_CONTAINER, self.began) else found
        new = Deaths(max(0, found.runs - before.runs), max(0, found.servers - before.servers))
        if revision is None or new == _NONE:
            return
        episode = self.episodes.get(revision) or Episode(now, now, _NONE)
        deaths = Deaths(episode.deaths.runs + new.runs, episode.deaths.servers + new.servers)
        self.episodes[revision] = replace(episode, last=now, deaths=deaths)

    def settle(self, lives: Container[str], now: datetime) -> None:
        """Forget what is past: episodes, and lives other than these."""
        self.counted = {life: deaths for life, deaths in self.counted.items() if life in lives}
        self.episodes = {
            revision: found for revision, found in self.episodes.items() if now - found.last < LATELY
        }

    def told(self) -> dict[str, CrashStatus]:
        """What status should say, by revision: numbers in steps, so that it is written seldom."""
        return {
            revision: CrashStatus(
                since=rfc3339(found.since),
                runs=at_least(found.deaths.runs),
                servers=at_least(found.deaths.servers),
            )
            for revision, found in self.episodes.items()
        }


def said_of(resource: Resource) -> Mapping[str, CrashStatus]:
    """What status says of the stable revision and the canary."""
    roles = (resource.status.stable, resource.status.canary)
    return {role.revision: role.crashes for role in roles if role is not None and role.crashes is not None}


def _deaths(shown: ByVersion) -> Deaths:
    runs, servers = (sum(values.get(one, 0.0) for values in shown.values()) for one in (_RUNS, _SERVERS))
    return Deaths(int(runs), int(servers)) if runs or servers else _NONE
