"""Gateways around the fake API server: they answer for HTTPRoutes and do what the last accepted one says."""

from __future__ import annotations

import copy
from typing import Any

from slipway.core.observed import Manifest, ObjectKind
from tests.unit.fake import FakeKube, Place, place_of
from tests.unit.fake_routers import RouterPods

REST = {"path": {"type": "PathPrefix", "value": "/"}}


class Gateways:
    """What every Gateway does; no proof of what real ones do, which the tests on a cluster ask.

    Attributes:
        deaf: whether no controller looks at routes.
        refusal: why routes are not accepted, or None.
        weights: every weight of the canary that was ever done, in order, without repeats.
    """

    def __init__(self, kube: FakeKube, routers: RouterPods) -> None:
        self._kube = kube
        self._pods = routers
        self.deaf = False
        self.refusal: str | None = None
        self.weights: list[int] = []
        self._done: dict[Place, Manifest] = {}

    def act(self) -> bool:
        """Answer for routes that are new; whether there were any."""
        acted = False
        attached = [route for route in self._kube.all(ObjectKind.HTTP_ROUTE) if route["spec"]["parentRefs"]]
        for route in [] if self.deaf else attached:
            parents = [self._answer(route, parent) for parent in route["spec"]["parentRefs"]]
            if (route.get("status") or {}).get("parents") != parents:
                self._kube.edit(
                    place_of(route), lambda live, found=parents: live.update(status={"parents": found}), "gw"
                )
                acted = True
            if self.refusal is None:
                self._done[place_of(route)] = copy.deepcopy(route["spec"])
                weights = [ref.get("weight", 1) for ref in self.backends(route["spec"])]
                weight = weights[1] if len(weights) > 1 else 0
                if self.weights[-1:] != [weight]:
                    self.weights.append(weight)
        return acted

    def serve(self, seconds: float) -> None:
        """Requests of so many seconds, and copies, as the routes that were accepted last say."""
        for (_, _, name), spec in self._done.items():
            requests = self._pods.requests_per_second * seconds
            refs = self.backends(spec)
            total = sum(ref.get("weight", 1) for ref in refs)
            for ref in refs:
                revision = ref["name"].removeprefix(f"{name}-")
                self._pods.count_served(revision, requests * ref.get("weight", 1) / total)
            for filter_ in self.rule(spec).get("filters", ()):
                mirror = filter_["requestMirror"]
                revision = mirror["backendRef"]["name"].removeprefix(f"{name}-")
                self._pods.count_served(revision, requests * mirror.get("percent", 100) / 100)

    def rule(self, spec: Manifest) -> Manifest:
        """The rule for REST."""
        found: Manifest = next(rule for rule in spec["rules"] if rule["matches"] == [REST])
        return found

    def backends(self, spec: Manifest) -> list[dict[str, Any]]:
        """Backends of REST, the stable one first."""
        return list(self.rule(spec)["backendRefs"])

    def _answer(self, route: Manifest, parent: Manifest) -> dict[str, Any]:
        def condition(type_: str, fault: str | None) -> dict[str, Any]:
            return {
                "type": type_,
                "status": "True" if fault is None else "False",
                "reason": fault or type_,
                "message": "no listener allows it" if fault else "",
                "observedGeneration": route["metadata"]["generation"],
            }

        return {
            "parentRef": parent,
            "controllerName": "example.com/gateways",
            "conditions": [condition("Accepted", self.refusal), condition("ResolvedRefs", None)],
        }
