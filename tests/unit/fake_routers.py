"""Router pods on the fake API server: they do what their ConfigMaps say once their kubelet brings them."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping

from slipway.contract import Metric
from slipway.core import naming
from slipway.core.endpoint import Endpoint
from slipway.core.monitoring.series import ByVersion, Series, series
from slipway.core.observed import Manifest, ObjectKind, is_ready, revision_of_object
from slipway.core.rollout.shadow_agreement import Remembered
from slipway.core.traffic.envoy.config import version
from slipway.core.traffic.envoy.objects import routes_map, told
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState, RouterState, RouteState
from slipway.core.traffic.envoy.routes import Route, arms, defined
from tests.unit.fake import FakeKube


class RouterPods:
    """What every router does and counts.

    Attributes:
        requests_per_second: that reach each ModelDeployment with a route.
        error_rate: share of a revision's answers that are errors, by its name.
        share: percent that goes to canaries whatever their weight, or None.
        knows: whether they find a revision's ready pods well, by its name.
        deaf: names of pods that take up nothing new.
        mute: names of pods that cannot be read.
        violation_rate: share of a revision's requests that break its contract, by its name.
        answers: shares of a revision's answers by class, by its name.
        unlike_rate: share of copies that the canary answers otherwise than stable does.
        silent: whether model-server pods cannot be read.
        weights: every weight that any router was ever in, in order, without repeats.
    """

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube
        self.requests_per_second = 0.0
        self.error_rate: Callable[[str], float] = lambda _: 0.0
        self.share: int | None = None
        self.violation_rate: Callable[[str], float] = lambda _: 0.0
        self.answers: Callable[[str], dict[str, float]] = lambda _: {"0": 0.9, "1": 0.1}
        self.silent = False
        self.knows: Callable[[str], bool] = lambda _: True
        self.unlike_rate = 0.0
        self._remembering: set[str] = set()
        self._answers: dict[str, list[bytes]] = {}
        self._requests = 0
        self.deaf: set[str] = set()
        self.mute: set[str] = set()
        self.weights: list[int] = []
        self._taken_up: dict[str, tuple[str | None, tuple[Route, ...]]] = {}
        self._counted: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._served: dict[str, dict[Series, float]] = defaultdict(lambda: defaultdict(float))
        self._copied: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    async def read(self, target: Endpoint, known: RouterState | None) -> RouterState | None:
        """As :func:`slipway.infra.routers.read_router` does; None for one that is mute or not there."""
        self.follow()
        name = target.host
        if name in self.mute or name not in self._taken_up:
            return None
        routes = self._taken_up[name][1]
        version = repr(sorted(map(repr, routes)))
        if known is not None and known.version == version:
            return known
        return RouterState(
            version=version,
            routes={route.name: _state(route) for route in routes},
            arms={
                (route.name, arm.revision): ArmState(
                    counters=_counters(self._counted[name, route.name, arm.revision]),
                    pods=self._ready(arm.revision),
                    healthy_pods=self._ready(arm.revision) if self.knows(arm.revision) else 0,
                    shadow=_counters(self._copied[name, route.name, arm.revision]),
                )
                for route in routes
                for arm in arms(route)
            },
            clusters=frozenset(cluster for route in routes for cluster in defined(route)),
            listeners=frozenset(route.name for route in routes if not route.leaving),
        )

    async def read_pod(self, target: Endpoint) -> ByVersion | None:
        """As :func:`slipway.infra.pods.pod_reader` does."""
        name = target.host
        if self.silent:
            return None
        return {"1": {key: float(int(value)) for key, value in self._served[name].items()}}

    async def take_answers(self, target: Endpoint, seconds: int, most: int) -> Remembered | None:
        """As :func:`slipway.infra.pods.answer_taker` does."""
        name = target.host
        if self.silent:
            return None
        assert seconds > 0
        assert most > 0
        self._remembering.add(name)
        return Remembered(False, b"".join(self._answers.pop(name, [])))

    def forget(self, pod: str) -> None:
        """A router's or a model server's container began again: what it counted is gone."""
        for place in [place for place in (*self._counted, *self._copied) if place[0] == pod]:
            self._counted.pop(place, None)
            self._copied.pop(place, None)
        self._served.pop(pod, None)

    def _copy(self, stable: str, canary: str, copies: int) -> None:
        """One pod of each revision remembers what it answered to requests that were copied."""
        for number in range(copies):
            self._requests += 1
            other = self._requests * 7919 % 1000 < self.unlike_rate * 1000
            for revision, value in ((stable, 0), (canary, int(other))):
                pods = [pod for pod in self._kube.all(ObjectKind.POD) if revision_of_object(pod) == revision]
                name = str(pods[number % len(pods)]["metadata"]["name"])
                if name in self._remembering:
                    entry = struct.pack("<QQ", self._requests << 8, value)
                    self._answers.setdefault(name, []).append(entry)

    def count_served(self, revision: str, requests: float) -> None:
        """Each ready pod of a revision gets as much, and counts it."""
        pods = [pod for pod in self._kube.all(ObjectKind.POD) if revision_of_object(pod) == revision]
        ready = [str(pod["metadata"]["name"]) for pod in pods if is_ready(pod)]
        for name in ready:
            part, broken = requests / len(ready), self.violation_rate(revision)
            failed = self.error_rate(revision)
            counted = self._served[name]
            counted[series(Metric.REQUESTS, {"code": "200"})] += part * (1 - broken - failed)
            counted[series(Metric.REQUESTS, {"code": "500"})] += part * failed
            counted[series(Metric.REQUESTS, {"code": "400"})] += part * broken
            counted[series(Metric.REJECTED, {"reason": "schema"})] += part * broken
            for class_, share in self.answers(revision).items():
                labels = {"output": "label", "bin": class_}
                counted[series(Metric.PREDICTION_VALUES, labels)] += part * (1 - broken) * share

    def follow(self) -> None:
        """Each pod takes up the routes when it starts, and when its kubelet is made to look."""
        pods = {str(pod["metadata"]["name"]): pod for pod in self._pods()}
        for name, pod in pods.items():
            mark = (pod["metadata"].get("annotations") or {}).get(naming.TOUCHED_ANNOTATION)
            if name not in self._taken_up or (name not in self.deaf and self._taken_up[name][0] != mark):
                self._taken_up[name] = (mark, self._told(_group(pod)))
                for route in self._taken_up[name][1]:
                    if self.weights[-1:] != [route.weight]:
                        self.weights.append(route.weight)
        for gone in set(self._taken_up) - set(pods):
            del self._taken_up[gone]

    def serve(self, seconds: float) -> None:
        """Requests of so many seconds, split over routers and arms exactly by weight."""
        self.follow()
        pods = {str(pod["metadata"]["name"]): pod for pod in self._pods()}
        for name, (_, routes) in self._taken_up.items():
            for route in routes:
                led = self._led_to(route.name, pods)
                share = self.requests_per_second * seconds / len(led) if name in led else 0.0
                weight = (route.weight if self.share is None else self.share) / 100 if route.canary else 0.0
                for arm, part in zip(arms(route), (1 - weight, weight), strict=False):
                    counted = self._counted[name, route.name, arm.revision]
                    counted[0] += share * part
                    counted[1] += share * part * self.error_rate(arm.revision)
                    self.count_served(arm.revision, share * part)
                if route.canary is not None:
                    copied = self._copied[name, route.name, route.canary.revision]
                    copies = share * route.mirror_percent / 100
                    copied[0] += copies
                    self.count_served(route.canary.revision, copies)
                    self._copy(route.stable.revision, route.canary.revision, int(copies))
                    copied[1] += copies * self.error_rate(route.canary.revision)

    def counted(self) -> dict[tuple[str, str, str], tuple[float, float]]:
        """Requests and errors by router pod, ModelDeployment and revision, copies left out."""
        return {
            (pod, name, revision): (requests, errors)
            for (pod, name, revision), (requests, errors) in self._counted.items()
            if pod in self._taken_up
        }

    def doing(self, pod: str) -> tuple[Route, ...]:
        """The routes that a router pod has taken up."""
        self.follow()
        return self._taken_up[pod][1] if pod in self._taken_up else ()

    def _pods(self) -> list[Manifest]:
        return [
            pod
            for pod in self._kube.all(ObjectKind.POD)
            if is_any_router(pod) and "deletionTimestamp" not in pod["metadata"] and "status" in pod
        ]

    def _led_to(self, model: str, pods: Mapping[str, Manifest]) -> set[str]:
        """Names of the router pods behind the Service of a ModelDeployment."""
        services = [
            found for found in self._kube.all(ObjectKind.SERVICE) if found["metadata"]["name"] == model
        ]
        return {
            name
            for name, pod in pods.items()
            for service in services
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        }

    def _ready(self, revision: str) -> int:
        pods = [pod for pod in self._kube.all(ObjectKind.POD) if revision_of_object(pod) == revision]
        return sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)

    def _told(self, model: str) -> tuple[Route, ...]:
        name = routes_map(model)
        maps = [found for found in self._kube.all(ObjectKind.CONFIG_MAP) if found["metadata"]["name"] == name]
        return tuple(route for found in maps for route in told(found))


def is_any_router(pod: Manifest) -> bool:
    """Whether a pod is a router, of a namespace or of a ModelDeployment."""
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get(naming.COMPONENT_LABEL) == "router")


def _group(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"][naming.MODEL_LABEL])


def _counters(counted: list[float]) -> ArmCounters:
    requests, errors = map(int, counted)
    return ArmCounters(requests, errors, meant=requests)


def _state(route: Route) -> RouteState:
    return RouteState(
        stable=route.stable.revision if route.weight < 100 else None,
        canary=route.canary.revision if route.canary and (route.weight or route.mirror_percent) else None,
        weight=route.weight,
        mirror_percent=route.mirror_percent,
        closed=route.closed,
        version=version(route),
    )
