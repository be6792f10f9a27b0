"""All conversations with what is not the API server, as reconcile sees them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from slipway.core.observed import AnswerAgreement, ArmCount
from slipway.core.rollout.arms import ArmCounter
from slipway.core.rollout.interest import AnswerInterest, Interest, Interests, PrometheusInterest
from slipway.core.rollout.reading import PodCounts, Readings
from slipway.engine.observers.aliases import Aliases
from slipway.engine.observers.cluster_keys import ClusterKeys
from slipway.engine.observers.issuer_keys import IssuerKeys
from slipway.engine.observers.looks import LookObserver
from slipway.engine.observers.monitoring import Judge
from slipway.engine.observers.pod_counts import Counted
from slipway.engine.observers.pool import Pool
from slipway.engine.observers.routers import RouterObserver
from slipway.engine.store import Key


@dataclass(frozen=True)
class Observers:
    """Each looks by itself, keeps what it found, and has a key worked on where that is news.

    Attributes:
        routers: what routers do and count.
        pods: what model servers' pods counted, for gates that routers cannot answer.
        answers: how alike both revisions answered.
        prometheus: what a Prometheus has of routers.
        aliases: what names that move mean now.
        monitoring: what is judged of the stable version.
        cluster_keys: the keys by which the cluster signs tokens of ServiceAccounts.
        issuer_keys: public keys of issuers at addresses.
    """

    routers: RouterObserver
    pods: LookObserver[Interest, Counted, PodCounts]
    answers: LookObserver[AnswerInterest, bool, AnswerAgreement]
    prometheus: LookObserver[PrometheusInterest, ArmCounter, tuple[ArmCount, ArmCount]]
    aliases: Aliases
    monitoring: Judge
    cluster_keys: ClusterKeys
    issuer_keys: IssuerKeys

    def subscribe(self, key: Key, interests: Interests) -> None:
        """Have a ModelDeployment's rollout observed as it needs it now."""
        asked = interests.prometheus
        self.pods.subscribe(key, interests.pods)
        self.answers.subscribe(key, interests.answers)
        self.prometheus.subscribe(key, asked if asked is None or asked.fault is None else None)

    def readings(self, key: Key) -> Readings:
        """The newest of a ModelDeployment."""
        return Readings(self.pods.reading(key), self.answers.reading(key), self.prometheus.reading(key))

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone; its routers are forgotten once they are."""
        for observer in (self.pods, self.answers, self.prometheus, self.aliases, self.monitoring):
            observer.forget(key)
        self.cluster_keys.forget(key)
        self.issuer_keys.forget(key)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Those that look when something is due."""
        observers = (self.routers, self.pods, self.answers, self.prometheus)
        keys = (self.cluster_keys, self.issuer_keys)
        return tuple(observer.pool for observer in (*observers, *keys))

    @property
    def by_name(self) -> dict[str, Pool]:
        """All pools, by what they look at."""
        return {
            "routers": self.routers.pool,
            "pods": self.pods.pool,
            "answers": self.answers.pool,
            "prometheus": self.prometheus.pool,
            "aliases": self.aliases.pool,
            "monitoring": self.monitoring.pool,
            "cluster_keys": self.cluster_keys.pool,
            "issuer_keys": self.issuer_keys.pool,
        }

    async def watch(self) -> None:
        """Observe, for ever."""
        pools = (pool.watch() for pool in self.pools)
        await asyncio.gather(*pools, self.aliases.watch(), self.monitoring.watch())
