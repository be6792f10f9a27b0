"""Model-server pods on the fake API server: what each counted, in every life that it had."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import Series, Values, series
from slipway.core.observed import ObjectKind, is_ready, revision_of_object
from slipway.names import BY_COHORT, Metric
from tests.unit.fake import FakeKube, place_of, stamp

#: A profile's features and the shares of their bins.
Profile = Mapping[str, Mapping[str, float]]


class ModelPods:
    """What every serving pod counts.

    Attributes:
        profile: what models are compared with; empty where there is none.
        reference_rows: behind it.
        left_out: features of the profile that are too many to be counted.
        mute: names of pods that cannot be read.
        reads: how often any pod was read.
    """

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube
        self.profile: Profile = {}
        self.reference_rows = 10_000.0
        self.left_out = 0
        self.mute: set[str] = set()
        self.reads = 0
        self._counted: dict[str, dict[str, dict[Series, float]]] = defaultdict(lambda: defaultdict(dict))
        self._by_cohort: dict[str, dict[str, dict[Series, float]]] = defaultdict(lambda: defaultdict(dict))

    async def read(self, target: Endpoint) -> Mapping[str, Values] | None:
        """As :func:`slipway.infra.pods.pod_reader` does; None for one that is mute or not there."""
        self.reads += 1
        name = target.host
        if name in self.mute or name not in self.names():
            return None
        own = self._own(name)
        counted = {version: dict(counts) for version, counts in self._counted[self._uid(name)].items()}
        return {**counted, own: {**self._gauges(), **self._zeros(), **counted.get(own, {})}}

    async def read_cohorts(self, target: Endpoint) -> Mapping[str, Values] | None:
        """As :func:`slipway.infra.pods.pod_reader` reads the page of cohorts."""
        found = await self.read(target)
        return None if found is None else dict(self._by_cohort[self._uid(target.host)])

    def names(self) -> list[str]:
        """Pods that serve, in the order in which they were made."""
        return [
            str(pod["metadata"]["name"])
            for pod in self._kube.all(ObjectKind.POD)
            if revision_of_object(pod) is not None and is_ready(pod)
        ]

    def rows(
        self, count: int, random: np.random.Generator, shares: Profile | None = None, cohort: str = ""
    ) -> None:
        """So many rows, spread over the pods and bins; like the profile unless ``shares`` says otherwise.

        A ``cohort`` of callers has asked for all of them.
        """
        for feature, expected in self.profile.items():
            found = (shares or {}).get(feature, expected)
            drawn = random.multinomial(count, list(found.values()))
            for bin_, number in zip(found, drawn, strict=True):
                of = {"feature": feature, "bin": bin_}
                self.count(Metric.FEATURE_VALUES, of, int(number), cohort=cohort)
        self.count(Metric.ROWS, {}, count)

    def count(
        self,
        metric: str,
        labels: Mapping[str, str],
        number: int,
        pods: Iterable[str] = (),
        version: str = "",
        cohort: str = "",
    ) -> None:
        """So many more of a series, spread over the pods; with a cohort the same once more by it."""
        names = list(pods) or self.names()
        for place, name in enumerate(names):
            counts = self._counted[self._uid(name)][version or self._own(name)]
            key = series(metric, labels)
            more = (number + place) // len(names)
            counts[key] = counts.get(key, 0.0) + more
            if cohort:
                by_cohort = self._by_cohort[self._uid(name)][version or self._own(name)]
                key = series(BY_COHORT[metric], {**labels, "cohort": cohort})
                by_cohort[key] = by_cohort.get(key, 0.0) + more

    def restart(self, name: str) -> None:
        """The container ended and began anew: its counts begin at 0."""
        for counted in (self._counted, self._by_cohort):
            counted.pop(self._uid(name), None)
        pod = self._pod(name)
        found = (pod["status"].get("containerStatuses") or [{"restartCount": 0}])[0]
        running = {"running": {"startedAt": stamp(self._kube.now())}}
        status = {"name": "server", "restartCount": found["restartCount"] + 1, "state": running}
        self._kube.edit(place_of(pod), lambda live: live["status"].update(containerStatuses=[status]))

    def _pod(self, name: str) -> dict[str, Any]:
        return next(pod for pod in self._kube.all(ObjectKind.POD) if pod["metadata"]["name"] == name)

    def _uid(self, name: str) -> str:
        """A pod that takes another's name counts from 0."""
        return str(self._pod(name)["metadata"]["uid"])

    def _own(self, name: str) -> str:
        """The version that a pod serves."""
        env = self._pod(name)["spec"]["containers"][0]["env"][0]["value"]
        found = json.loads(env)["modelVersion"]
        return str(found)

    def _gauges(self) -> Values:
        found: dict[Series, float] = {}
        for feature, shares in self.profile.items():
            for bin_, share in shares.items():
                found[series(Metric.FEATURE_REFERENCE_RATIO, {"feature": feature, "bin": bin_})] = share
            found[series(Metric.FEATURE_REFERENCE_ROWS, {"feature": feature})] = self.reference_rows
        found[series(Metric.MONITORED_FEATURES, {"state": "over_budget"})] = float(self.left_out)
        return found

    def _zeros(self) -> Values:
        bins = [(feature, bin_) for feature, shares in self.profile.items() for bin_ in (*shares, "missing")]
        zeros = {
            series(Metric.FEATURE_VALUES, {"feature": feature, "bin": bin_}): 0.0 for feature, bin_ in bins
        }
        return {**zeros, series(Metric.ROWS, {}): 0.0}
