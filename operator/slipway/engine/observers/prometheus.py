"""What both revisions answered since a rollout's last look, as the Prometheus that it names has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from slipway.core.observed import ArmCount
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.rollout.interest import PrometheusInterest
from slipway.core.traffic.envoy.prometheus import WINDOW_SECONDS, Samples, Scraped, query, scraped
from slipway.engine.observers.looks import Found, UnreadError
from slipway.engine.store import Key

#: While scrapes are waited for, the Prometheus is queried no more often, in seconds.
AGAIN = 2.0


class PrometheusError(UnreadError):
    """A Prometheus that cannot be read; its message says why."""


class PrometheusReader:
    """Has the counts of routers from a Prometheus.

    They begin once both arms were scraped twice since traffic is split as it is, and since each router began
    to count: Envoy's histograms are those of the scrape before.
    """

    def __init__(self, ask: Callable[[str, str, str], Awaitable[list[Samples]]]) -> None:
        """
        Args:
            ask: for a namespace, the Prometheus at an address, for the answer to a query; raises
                :class:`PrometheusError`. Its clock is about that of the observer.
        """
        self._ask = ask

    async def read(
        self, key: Key, interest: PrometheusInterest, memory: ArmCounter | None, since: datetime, /
    ) -> Found[ArmCounter, tuple[ArmCount, ArmCount]]:
        """See :class:`slipway.engine.observers.looks.Reader`."""
        samples = await self._ask(key.namespace, interest.address, query(key.namespace, key.name))
        try:
            found = scraped(samples)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PrometheusError(
                f"{interest.address} has samples of routers that no router shows"
            ) from error
        _check(found, interest)
        if not all(_scrapes(found[name], since) >= 2 for name, _ in interest.routers):
            return Found(memory, again=AGAIN)
        shown = {life: found[name].arms for name, life in interest.routers}
        return Found(*count_arms(memory, interest, key.name, shown))


def _check(found: Mapping[str, Scraped], interest: PrometheusInterest) -> None:
    missing = [name for name, _ in interest.routers if name not in found]
    if missing:
        raise PrometheusError(
            f"there are no samples of router pod {missing[0]} within {WINDOW_SECONDS} s: let Prometheus "
            "scrape routers, with the labels namespace and pod"
        )


def _scrapes(one: Scraped, since: datetime) -> int:
    return sum(time > since.timestamp() for time in one.times)
