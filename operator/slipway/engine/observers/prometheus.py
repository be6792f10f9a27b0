"""What both revisions answered since a rollout's last look, as the Prometheus that it names has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway.core.allowed import Allowed
from slipway.core.observed import Fault, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.rollout.due import next_look
from slipway.core.traffic.envoy.prometheus import WINDOW_SECONDS, Samples, Scraped, query, scraped
from slipway.engine.store import Key

#: While scrapes are waited for, the Prometheus is asked no more often.
AGAIN = timedelta(seconds=2)


class PrometheusError(Exception):
    """A Prometheus that cannot be read; its message says why."""


@dataclass
class _Count:
    """Of one rollout, for as long as traffic is split in one way."""

    split: object
    since: datetime
    began: bool = False
    asked_at: datetime | None = None
    counter: ArmCounter | None = None


class PrometheusCounts:
    """Asks for counts where a look is due. All that it remembers can be had again."""

    def __init__(
        self,
        ask: Callable[[str, str, str], Awaitable[list[Samples]]],
        allowed: Allowed,
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            ask: for a namespace, the Prometheus at an address, for the answer to a query; raises
                :class:`PrometheusError`.
            allowed: by the installation.
            clock: tells the time, with a time zone; about that of the Prometheus.
        """
        self._ask = ask
        self._allowed = allowed
        self._clock = clock
        self._counts: dict[Key, _Count] = {}

    async def count(
        self, resource: Resource, traffic: ObservedTraffic | None, routers: Mapping[str, str]
    ) -> ObservedTraffic | None:
        """The traffic with what the Prometheus counts of it in the place of what routers themselves say.

        Without counts until both arms were scraped twice since traffic is split as it is, and since each
        router began to count: Envoy's histograms are those of the scrape before.

        Args:
            resource: with the status that holds its looks.
            traffic: what routers were seen to do.
            routers: names of all that have to be scraped, and the life of their counters.
        """
        key = Key(resource.owner.namespace, resource.owner.name)
        spec, rollout = resource.spec, resource.status.rollout
        source = None if isinstance(spec, Fault) else spec.rollout.analysis.prometheus
        if traffic is None or traffic.approximate or isinstance(spec, Fault) or source is None:
            self._counts.pop(key, None)
            return traffic
        fault = self._allowed.prometheus_fault(source)
        traffic = replace(traffic, canary=None, stable=None, evidence_fault=fault)
        canary, stable = resource.status.canary, resource.status.stable
        if rollout is None or canary is None or stable is None or len(traffic.weights) != 1:
            self._counts.pop(key, None)
            return traffic
        names, now = tuple(routers), self._clock()
        if not names:
            return traffic
        lives = frozenset(routers.items())
        split = (rollout.id, traffic.weights, traffic.receiving, canary.revision, stable.revision, lives)
        count = self._counts.get(key)
        if count is None or count.split != split:
            count = self._counts[key] = _Count(split, now)
        due = now >= next_look(rollout, spec.rollout.analysis)
        waits = count.asked_at is not None and now < count.asked_at + AGAIN
        if (count.began and not due) or waits:
            return traffic
        if fault is not None:
            return replace(traffic, evidence_error=fault.message) if due else traffic
        count.asked_at = now
        try:
            found = await self._scraped(key, source.address)
            _check(found, names)
        except PrometheusError as error:
            return replace(traffic, evidence_error=str(error)) if due else traffic
        if not all(_scrapes(found[name], count.since) >= 2 for name in names):
            return traffic
        count.began = True
        shown = {name: found[name].arms for name in names}
        count.counter, arms = count_arms(count.counter, resource, shown, routers, traffic)
        counted = arms or (None, None)
        return replace(traffic, canary=counted[0], stable=counted[1])

    async def _scraped(self, key: Key, address: str) -> Mapping[str, Scraped]:
        samples = await self._ask(key.namespace, address, query(key.namespace, key.name))
        try:
            return scraped(samples)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PrometheusError(f"{address} has samples of routers that no router shows") from error

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._counts.pop(key, None)

    def retry_after(self, key: Key) -> float | None:
        """Seconds until a rollout is to be looked at again, because scrapes are waited for; None if not."""
        count = self._counts.get(key)
        return None if count is None or count.began else AGAIN.total_seconds()


def _check(found: Mapping[str, Scraped], routers: tuple[str, ...]) -> None:
    missing = sorted(set(routers) - found.keys())
    if missing:
        raise PrometheusError(
            f"there are no samples of router pod {missing[0]} within {WINDOW_SECONDS} s: let Prometheus "
            "scrape routers, with the labels namespace and pod"
        )


def _scrapes(one: Scraped, since: datetime) -> int:
    return sum(time > since.timestamp() for time in one.times)
