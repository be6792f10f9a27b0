"""What routers on paper do with requests that nobody sends, and what they count of it.

A router takes up the weights of its ConfigMap as Envoy does, answers the operator's questions about that in
Envoy's words, and counts as if its share of :data:`REQUESTS_PER_SECOND` came to each model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from slipway.core.traffic.envoy.messages import CLUSTERS_FILE, LISTENERS_FILE, WEIGHTS_FILE

Json = dict[str, Any]

#: That reach each model that has a route: few enough that no gate comes to a verdict while it is measured.
REQUESTS_PER_SECOND = 1.0
_ELSE = "-else-"


@dataclass
class Counted:
    """Requests for one arm: what was counted before its share was this one, and since when it is."""

    before: float = 0.0
    per_second: float = 0.0
    since: float = 0.0

    def at(self, now: float) -> float:
        """All until then; times are of any one clock, in seconds."""
        return self.before + self.per_second * (now - self.since)


@dataclass
class PaperRouter:
    """One router pod.

    Attributes:
        share: of all requests that it gets, since there are several routers.
        arms: by the model's name, by the revision's.
    """

    share: float
    arms: dict[str, dict[str, Counted]] = field(default_factory=dict)
    _fallbacks: dict[tuple[str, str], str] = field(default_factory=dict)
    _answers: dict[str, bytes] = field(default_factory=dict)

    def follow(self, files: Mapping[str, str], now: float) -> None:
        """Take up what the ConfigMaps hold, by file name."""
        clusters, weights, listeners = (
            json.loads(files[name]) for name in (CLUSTERS_FILE, WEIGHTS_FILE, LISTENERS_FILE)
        )
        version = weights["version_info"]
        [table] = weights["resources"]
        self._answers = {
            "version": _dump([{"version_info": version}]),
            "dynamic_route_configs": _dump([{"version_info": version, "route_config": table}]),
            "dynamic_active_clusters": _dump(
                [{"cluster": {"name": one["name"]}} for one in clusters["resources"]]
            ),
            "dynamic_listeners": _dump(
                [
                    {"name": one["name"], "active_state": {"version_info": "1"}}
                    for one in listeners["resources"]
                ]
            ),
        }
        for host in table["virtual_hosts"]:
            self._split(host, now)

    def _split(self, host: Json, now: float) -> None:
        model, arms = host["name"], self.arms.setdefault(host["name"], {})
        for counted in arms.values():
            counted.before, counted.per_second, counted.since = counted.at(now), 0.0, now
        for cluster, percent in _parts(host["routes"][-1].get("route", {})):
            revision, fallback, _ = cluster.partition("/")[2].partition(_ELSE)
            counted = arms.setdefault(revision, Counted(since=now))
            counted.per_second += REQUESTS_PER_SECOND * self.share * percent / 100
            if fallback:
                self._fallbacks[model, revision] = cluster

    def answer(self, path: str, query: str, now: float) -> bytes:
        """What Envoy's admin interface answers; empty where it has nothing to say."""
        asked = parse_qs(query)
        if path == "/stats":
            return _json({"stats": list(self._stats(now))}) if "format" in asked else b""
        masked = asked.get("mask") == ["version_info"]
        return self._answers["version" if masked else asked["resource"][0]]

    def _stats(self, now: float) -> Iterator[Json]:
        for model, arms in self.arms.items():
            for revision, counted in arms.items():
                requests, own = int(counted.at(now)), f"{model}/{revision}"
                led = self._fallbacks.get((model, revision), own)
                values = {
                    f"{led}.upstream_rq_completed": requests,
                    f"{own}.upstream_rq_total": requests,
                    f"{own}.membership_total": 1,
                    f"{own}.membership_healthy": 1,
                }
                yield from ({"name": f"cluster.{name}", "value": value} for name, value in values.items())


def _parts(action: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Cluster and percent of each part of a route's split; none of a route that is closed."""
    if "cluster" in action:
        yield action["cluster"], 100.0
    for one in action.get("weighted_clusters", {}).get("clusters", ()):
        yield one["name"], float(one["weight"])


def _dump(configs: list[Json]) -> bytes:
    return _json({"configs": configs})


def _json(content: Json) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
