"""What a router pod really does, from its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.core.traffic.envoy.bootstrap import LATENCY_BOUNDS_MILLISECONDS
from slipway.core.traffic.envoy.config import VERSION_METADATA, version
from slipway.core.traffic.envoy.routes import Route, defined

ROUTES_QUERY = "/config_dump?resource=dynamic_route_configs"
#: Version of the weights alone: no route changes without it.
VERSION_QUERY = "/config_dump?resource=dynamic_route_configs&mask=version_info"
CLUSTERS_QUERY = "/config_dump?resource=dynamic_active_clusters&mask=cluster.name"
LISTENERS_QUERY = "/config_dump?resource=dynamic_listeners&mask=name,active_state.version_info"
#: Asking for anything makes Envoy merge its workers' histograms; what is asked next has them.
FLUSH_QUERY = "/stats?filter=%5Enone%24"
#: ``^cluster\.[^.]+\.(…)$``: cluster names hold no dot, what is counted below them a second time does.
COUNTERS_QUERY = (
    "/stats?format=json&histogram_buckets=cumulative&filter=%5Ecluster%5C.%5B%5E.%5D%2B%5C.%28"
    # Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the server's faults.
    "grpc%5C.2%7Cgrpc%5C.4%7Cgrpc%5C.12%7Cgrpc%5C.13%7Cgrpc%5C.14%7Cgrpc%5C.15%7C"
    # Permission denied, resource exhausted, unauthenticated: who was not let in.
    "grpc%5C.7%7Cgrpc%5C.8%7Cgrpc%5C.16%7Cupstream_rq_401%7Cupstream_rq_403%7Cupstream_rq_429%7C"
    "upstream_rq_completed%7Cupstream_rq_5xx%7Cupstream_rq_422%7Cupstream_rq_retry_success%7Cupstream_rq_timeout%7C"
    "upstream_rq_total%7Cupstream_rq_pending_failure_eject%7C"
    "upstream_rq_active%7Cmembership_healthy%7Cmembership_total%7Cupstream_rq_time%29%24"
)

#: The same, by their codes.
_NOT_LET_IN, _REFUSED = ("7", "8", "16"), ("upstream_rq_401", "upstream_rq_403", "upstream_rq_429")
#: Beyond this a count is not one that status could hold.
_MOST_COUNT = 2**53
_STAT = re.compile(
    r"cluster\.(?P<name>[^./]+)/(?P<revision>[^./]+?)(?:-else-(?P<other>[^./]+))?(?P<shadow>/shadow)?"
    r"(?P<grpc>/grpc)?\.(?:(?P<what>[^.]+)|grpc\.(?P<status>\d+))"
)


@dataclass(frozen=True)
class ArmCounters:
    """What came of the requests meant for one arm, since the router's pod or the arm's cluster began.

    Attributes:
        requests: that this arm answered, or was asked in vain.
        errors: of these, answered with 5xx, 422 or a like status of gRPC, not at all, or by the other arm
            since this one could not.
        slow: milliseconds → requests that took longer, or were given up.
        meant: requests that the split gave this arm, whoever answered them, those under way included.
        refused: of the requests, those that were not let in, which say nothing of the arm's model.
    """

    requests: int = 0
    errors: int = 0
    slow: Mapping[int, int] = field(default_factory=lambda: dict.fromkeys(LATENCY_BOUNDS_MILLISECONDS, 0))
    meant: int = 0
    refused: int = 0

    def since(self, before: ArmCounters | None) -> ArmCounters:
        """What was counted since then; all of it where counting began anew in between."""
        if before is None or self.requests < before.requests:
            return self
        return ArmCounters(
            self.requests - before.requests,
            max(0, self.errors - before.errors),
            {bound: max(0, count - before.slow.get(bound, 0)) for bound, count in self.slow.items()},
            max(0, self.meant - before.meant),
            max(0, self.refused - before.refused),
        )

    def __add__(self, other: ArmCounters) -> ArmCounters:
        return ArmCounters(
            self.requests + other.requests,
            self.errors + other.errors,
            {
                bound: self.slow.get(bound, 0) + other.slow.get(bound, 0)
                for bound in {**self.slow, **other.slow}
            },
            self.meant + other.meant,
            self.refused + other.refused,
        )


@dataclass(frozen=True)
class RouteState:
    """What a router does with the requests of one ModelDeployment.

    Attributes:
        stable: revision that gets what the canary does not; None where all goes to the canary.
        canary: revision that gets a share or copies, or None.
        weight: percent of requests for the canary.
        mirror_percent: percent of requests that are copied to it.
        closed: whether it answers 503 by itself.
        version: of the configuration that it took up; see :func:`slipway.core.router.config.version`.
    """

    stable: str | None
    canary: str | None
    weight: int
    mirror_percent: int
    closed: bool
    version: str


@dataclass(frozen=True)
class ArmState:
    """One arm as a router sees it: how many pods it knows and finds well, and what came of requests."""

    pods: int = 0
    healthy_pods: int = 0
    counters: ArmCounters = ArmCounters()
    shadow: ArmCounters = ArmCounters()


@dataclass(frozen=True)
class RouterState:
    """One router pod.

    Attributes:
        routes: by name of the ModelDeployment.
        arms: by name of the ModelDeployment and of the revision.
        clusters: that are loaded: resolved, and asked for their health once.
        listeners: that accept connections, by name of the ModelDeployment.
        version: of all its routes; empty where it has none.
    """

    routes: Mapping[str, RouteState]
    arms: Mapping[tuple[str, str], ArmState]
    clusters: frozenset[str]
    listeners: frozenset[str]
    version: str = ""

    def does(self, route: Route) -> bool:
        """Whether it does exactly what the route says, and could do what comes next."""
        found = self.routes.get(route.name)
        return (
            found is not None
            and found.version == version(route)
            and (route.name in self.listeners) is not route.leaving
            and defined(route) <= self.clusters
        )


def read_version(dump: Mapping[str, Any]) -> str:
    """The version of all routes, from the answer to :data:`VERSION_QUERY` or :data:`ROUTES_QUERY`."""
    return " ".join(str(found.get("version_info", "")) for found in dump.get("configs", ()))


def read_routes(dump: Mapping[str, Any]) -> dict[str, RouteState]:
    """Routes from the answer to :data:`ROUTES_QUERY`."""
    return {
        host["name"]: _route_state(host)
        for found in dump.get("configs", ())
        for host in found["route_config"].get("virtual_hosts", ())
    }


def read_names(dump: Mapping[str, Any]) -> frozenset[str]:
    """Names from the answers to :data:`CLUSTERS_QUERY` and :data:`LISTENERS_QUERY`, without what warms up."""
    return frozenset(
        found["cluster"]["name"] if "cluster" in found else found["name"]
        for found in dump.get("configs", ())
        if "cluster" in found or "active_state" in found
    )


def read_arms(stats: Mapping[str, Any]) -> dict[tuple[str, str], ArmState]:
    """Arms from the answer to :data:`COUNTERS_QUERY`."""
    sums: dict[tuple[str, str, bool], _Sums] = {}
    for match, value in _stats(stats):
        arm = (match["name"], match["revision"], match["shadow"] is not None)
        what = match["what"]
        if match["status"]:
            what = "grpc_refused" if match["status"] in _NOT_LET_IN else "grpc_error"
        if what in ("upstream_rq_5xx", "upstream_rq_422", *_REFUSED) and match["grpc"]:
            continue  # which has a status of gRPC as well
        sums.setdefault(arm, _Sums()).take(what, match["other"] is not None, value)
    return {
        (name, revision): ArmState(
            found.pods,
            found.healthy,
            found.counters(),
            sums[name, revision, True].counters() if (name, revision, True) in sums else ArmCounters(),
        )
        for (name, revision, shadow), found in sums.items()
        if not shadow
    }


class _Sums:
    """Adds up the clusters that send requests to one arm: itself, and itself with another to fall back on."""

    def __init__(self) -> None:
        self.pods = self.healthy = 0
        self._completed = self._failed = self._rescued = self._refused = 0
        self._given_up = self._tried = self._active = 0
        self._slow = dict.fromkeys(LATENCY_BOUNDS_MILLISECONDS, 0)

    def take(self, what: str, fallback: bool, value: Any) -> None:
        """One statistic."""
        match what:
            case "upstream_rq_completed":
                self._completed += value
            # 422: the model failed at what its own signature allows.
            case "upstream_rq_5xx" | "upstream_rq_422" | "grpc_error":
                self._failed += value
            case "grpc_refused" | "upstream_rq_401" | "upstream_rq_403" | "upstream_rq_429":
                self._refused += value
            case "upstream_rq_timeout":
                self._given_up += value
            case "upstream_rq_retry_success" if fallback:
                # A second try goes to the other arm.
                self._rescued += value
            case "upstream_rq_total" | "upstream_rq_pending_failure_eject" if not fallback:
                self._tried += value
            case "upstream_rq_active" if not fallback:
                self._active += value
            case "membership_total" if not fallback:
                self.pods = max(self.pods, value)
            case "membership_healthy" if not fallback:
                self.healthy = max(self.healthy, value)
            case "upstream_rq_time":
                total = value[-1]["cumulative"] if value else 0
                for bucket in value:
                    if bucket["upper_bound"] in self._slow:
                        self._slow[bucket["upper_bound"]] += total - bucket["cumulative"]

    def counters(self) -> ArmCounters:
        """What they amount to."""
        # While no pod of an arm is known to be well, the other arm gets its requests: they say nothing of it.
        # That begins and ends some moments later than the counts of pods tell, so it has to be counted.
        requests = min(self._completed, self._tried)
        errors = min(requests, self._failed + self._rescued)
        slow = {bound: min(requests, count + self._given_up) for bound, count in self._slow.items()}
        refused = min(requests - errors, self._refused)
        return ArmCounters(requests, errors, slow, self._completed + self._active, refused)


def _stats(stats: Mapping[str, Any]) -> Iterator[tuple[re.Match[str], Any]]:
    for stat in stats.get("stats", ()):
        histograms = stat.get("histograms")
        found = (
            ((one["name"], one["buckets"]) for one in histograms)
            if histograms is not None
            else ((stat["name"], stat["value"]),)
        )
        for name, value in found:
            if match := _STAT.fullmatch(name):
                for count in (one["cumulative"] for one in value) if histograms is not None else (value,):
                    if not isinstance(count, int) or not 0 <= count <= _MOST_COUNT:
                        raise ValueError("a value is no count")
                yield match, value


def _route_state(host: Mapping[str, Any]) -> RouteState:
    rule = host["routes"][-1]
    action = rule.get("route", {})
    split = action.get("weighted_clusters", {}).get("clusters") or [
        {"name": action["cluster"], "weight": 100} for _ in range("cluster" in action)
    ]
    stable = canary = None
    weight = mirror = 0
    for part in split:
        revision, _, other = part["name"].partition("/")[2].partition("-else-")
        if other:
            canary, weight = revision, int(part["weight"])
        else:
            stable = revision
    for policy in action.get("request_mirror_policies", ()):
        canary = policy["cluster"].split("/")[1]
        mirror = int(policy["runtime_fraction"]["default_value"].get("numerator", 0))
    told = host["metadata"]["filter_metadata"][VERSION_METADATA]["version"]
    return RouteState(stable, canary, weight, mirror, "direct_response" in rule, told)
