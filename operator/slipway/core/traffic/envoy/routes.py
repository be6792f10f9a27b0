"""What a namespace's router is asked to do, and the safe way from one such state to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from slipway.core.traffic.envoy.messages import ENVOY_ADMIN_PORT, ROUTER_ADMIN_PORT

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([-.:A-Za-z0-9]{0,251}[A-Za-z0-9])?")
#: A header's name as HTTP has it; Envoy's own begin with a colon.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_ELSE = "-else-"
MAX_TIMEOUT_MILLISECONDS = 3_600_000


@dataclass(frozen=True)
class Arm:
    """One revision.

    Attributes:
        revision: its name; at most 63 letters, digits and dashes.
        host: DNS name of a headless Service of its pods, or an address.
        port: where the pods answer REST.
        grpc_port: where they answer gRPC; None where they do not.
        ready_path: says on the port of REST whether a pod is well; None for the model server's own.
    """

    revision: str
    host: str
    port: int
    grpc_port: int | None = None
    ready_path: str | None = None


@dataclass(frozen=True)
class Route:
    """One ModelDeployment.

    Attributes:
        name: of the ModelDeployment.
        listener: port of its listener on the router's pods.
        stable: what answers all that the canary does not.
        canary: its clusters are loaded whatever its weight, so that a weight can be set at once.
        weight: percent of requests that the canary answers.
        mirror_percent: percent of requests of which a copy goes to the canary; answers to copies are dropped.
        affinity_header: requests with the same value of this header go to the same arm; those without it
            are split at random.
        timeout_milliseconds: until a request without a complete answer is ended with 504.
        closed: the listener answers 503 by itself; so a new one starts, until its clusters are loaded.
        leaving: the listener takes no new connection, and asks those who have one to close it.
    """

    name: str
    listener: int
    stable: Arm
    canary: Arm | None = None
    weight: int = 0
    mirror_percent: int = 0
    affinity_header: str | None = None
    timeout_milliseconds: int = 15000
    closed: bool = False
    leaving: bool = False


@lru_cache(maxsize=4096)
def refusal(route: Route) -> str | None:
    """Why a route cannot be rendered, whatever its neighbours are, or None."""
    checks = (
        (_LABEL.fullmatch(route.name), f"{route.name!r} is no DNS label"),
        (_is_port(route.listener), f"listener {route.listener} is no free port"),
        (
            all(_LABEL.fullmatch(arm.revision) and _ELSE not in arm.revision for arm in arms(route)),
            f"a revision's name is no DNS label, or holds {_ELSE!r}",
        ),
        (all(_HOST.fullmatch(arm.host) for arm in arms(route)), "a revision's host is no DNS name"),
        (
            all(0 < port < 65536 for arm in arms(route) for port in (arm.port, arm.grpc_port or arm.port)),
            "a revision's port is not between 1 and 65535",
        ),
        (
            route.canary is None or route.canary.revision != route.stable.revision,
            "stable and canary are the same revision",
        ),
        (
            route.canary is not None or (route.weight == 0 and route.mirror_percent == 0),
            "there is no canary to send traffic to",
        ),
        (0 <= route.weight <= 100, f"weight {route.weight} is not between 0 and 100"),
        (0 <= route.mirror_percent <= 100, f"mirror {route.mirror_percent} is not between 0 and 100"),
        (
            route.affinity_header is None or _HEADER.fullmatch(route.affinity_header),
            f"{route.affinity_header!r} is no name of a header",
        ),
        (
            0 < route.timeout_milliseconds <= MAX_TIMEOUT_MILLISECONDS,
            f"timeout of {route.timeout_milliseconds} ms is not between 1 ms and 1 h",
        ),
    )
    return next((why for holds, why in checks if not holds), None)


def arm_cluster(route: Route, arm: Arm, grpc: bool = False) -> str:
    """Name of the Envoy cluster of one arm's pods: what it counts is what those pods did."""
    return f"{route.name}/{arm.revision}" + ("/grpc" if grpc else "")


def shadow_cluster(route: Route, arm: Arm, grpc: bool = False) -> str:
    """The same pods again for copies, with counters and limits of their own."""
    return f"{route.name}/{arm.revision}/shadow" + ("/grpc" if grpc else "")


def fallback_cluster(route: Route, first: Arm, second: Arm, grpc: bool = False) -> str:
    """The pods of one arm or, while none of those is well, of the other."""
    return f"{route.name}/{first.revision}{_ELSE}{second.revision}" + ("/grpc" if grpc else "")


def arms(route: Route) -> tuple[Arm, ...]:
    """Both arms, or the one that there is."""
    return (route.stable,) if route.canary is None else (route.stable, route.canary)


def defined(route: Route) -> frozenset[str]:
    """Names of the clusters that a route brings with it."""
    return frozenset(_defined(route))


def used(route: Route) -> frozenset[str]:
    """Names of the clusters that its listener sends requests to."""
    return frozenset(_used(route))


def is_safe(before: Route, after: Route) -> bool:
    """Whether no request is lost whichever of listeners, clusters and routes a router takes up first."""
    if before.listener != after.listener and not after.closed:
        return False
    return used(before) <= defined(after) and used(after) <= defined(before) and not _moves(before, after)


def bridge(before: Route | None, wanted: Route) -> Route:
    """The next state on the way to the wanted one: ``wanted`` itself once that is safe.

    A router takes up its files one after the other, so a route must never name a cluster that comes or goes
    with the same write. Write what this returns, read back that every router does it, and ask again with it
    as ``before``.

    Args:
        before: what every router was seen to do, or None for a ModelDeployment that is new to them.
        wanted: where it has to come to.
    """
    if before is None:
        return replace(wanted, weight=0, mirror_percent=0, closed=True)
    still = replace(wanted, weight=0, mirror_percent=0)
    ways = (
        wanted,
        still,
        replace(still, canary=before.stable),
        replace(still, stable=before.stable, canary=wanted.stable),
        replace(before, weight=0, mirror_percent=0),
        replace(wanted, weight=0, mirror_percent=0, closed=True),
    )
    return next((way for way in ways if way != before and is_safe(before, way)), wanted)


def next_state(possible: Sequence[Route], wanted: Route) -> Route:
    """The next state on the way to the wanted one, for routers of which each may be in another state.

    Args:
        possible: every state that a router may be in, the one it was told last at the end; empty for a
            ModelDeployment that is new to them.
        wanted: where it has to come to.
    """
    if possible and all(before == wanted for before in possible):
        return wanted
    if len(possible) < 2:
        return bridge(possible[0] if possible else None, wanted)
    ways = (wanted, *(bridge(before, wanted) for before in reversed(possible)))
    safe = (way for way in ways if all(way == before or is_safe(before, way) for before in possible))
    # Where none is, routers have to come together first.
    return next(safe, possible[-1])


def _moves(before: Route, after: Route) -> bool:
    """Whether a cluster that is in use would lead elsewhere."""
    places = {arm.revision: arm for arm in arms(before)}
    return any(places.get(arm.revision, arm) != arm for arm in arms(after))


def _defined(route: Route) -> Iterator[str]:
    for arm in arms(route):
        for grpc in protocols((arm,)):
            yield arm_cluster(route, arm, grpc)
    if route.canary is None:
        return
    for grpc in protocols((route.canary,)):
        yield shadow_cluster(route, route.canary, grpc)
    for grpc in protocols(arms(route)):
        yield fallback_cluster(route, route.canary, route.stable, grpc)
        yield fallback_cluster(route, route.stable, route.canary, grpc)


def _used(route: Route) -> Iterator[str]:
    if route.closed:
        return
    for grpc in protocols(arms(route)):
        if route.weight < 100 or route.canary is None:
            yield arm_cluster(route, route.stable, grpc)
        if route.canary is not None and route.weight > 0:
            yield fallback_cluster(route, route.canary, route.stable, grpc)
        if route.canary is not None and route.mirror_percent > 0:
            yield shadow_cluster(route, route.canary, grpc)


def protocols(found: Iterable[Arm]) -> tuple[bool, ...]:
    """Whether gRPC: REST alone, or both where every arm has both."""
    return (False, True) if all(arm.grpc_port is not None for arm in found) else (False,)


def _is_port(port: int) -> bool:
    return 1024 <= port < 65536 and port not in (ROUTER_ADMIN_PORT, ENVOY_ADMIN_PORT)
