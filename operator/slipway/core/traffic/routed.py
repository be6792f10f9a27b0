"""Which ModelDeployments a router serves, and what the routers of a namespace were seen to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from slipway.api.status import RevisionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import GRPC_PORT, HTTP_PORT
from slipway.core import naming
from slipway.core.observed import Fault, Manifest, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.traffic.envoy.readback import RouterState, RouteState
from slipway.core.traffic.envoy.routes import Arm, Route

#: First port of a router's listeners; each ModelDeployment has one of its own.
FIRST_PORT = 10000
#: Listeners that the routers of a namespace may have.
MOST_PORTS = 5000
#: Ports of a group of shared routers: Envoy has all its clusters from one file, and that from one ConfigMap.
GROUP_PORTS = 100
#: How many of them are given out: what fits into the file, whatever the names, with a canary for each.
GROUP_MODELS = 80
_GROUPS = ("", *(str(number) for number in range(2, MOST_PORTS // GROUP_PORTS + 1)))


def is_routed(spec: ModelDeploymentSpec) -> bool:
    """Whether a new revision takes over step by step, by traffic."""
    return spec.rollout.strategy in ("Canary", "BlueGreen", "Shadow")


def has_routers(spec: ModelDeploymentSpec) -> bool:
    """Whether a ModelDeployment needs a router in front."""
    return is_routed(spec) and spec.traffic.provider == "Router"


def by_replicas(spec: ModelDeploymentSpec) -> bool:
    """Whether traffic is split by numbers of pods."""
    return is_routed(spec) and spec.traffic.provider == "ReplicaRatio"


def router_group(spec: ModelDeploymentSpec, name: str, port: int | None) -> str:
    """The routers that a ModelDeployment should have: its own, by its name, or those that have its port."""
    return name if spec.traffic.router == "Dedicated" else shared_group(port)


def shared_group(port: int | None) -> str:
    """The shared routers that a port belongs to: the first have no name, the others a number from 2 on.

    No ModelDeployment has such a name, which begins with a letter.
    """
    number = (port - FIRST_PORT) // GROUP_PORTS if port is not None else 0
    return _GROUPS[max(0, min(number, len(_GROUPS) - 1))]


def is_shared(group: str) -> bool:
    """Whether a name is one of :func:`shared_group`."""
    return group in _GROUPS


def routed_group(service: Manifest | None) -> str | None:
    """The routers that a Service leads to, by the name that :func:`router_group` gives; None if to none."""
    selector = (service["spec"].get("selector") or {}) if service is not None else {}
    if selector.get(naming.COMPONENT_LABEL) != "router":
        return None
    return str(selector.get(naming.MODEL_LABEL, ""))


def free_port(taken: Iterable[int]) -> int | None:
    """The first port that no other ModelDeployment of the namespace has, or None."""
    used = set(taken)
    every = range(FIRST_PORT, FIRST_PORT + MOST_PORTS)
    given = (port for port in every if (port - FIRST_PORT) % GROUP_PORTS < GROUP_MODELS)
    return next((port for port in given if port not in used), None)


def routes_of(resources: Iterable[Resource]) -> tuple[Route, ...]:
    """The routes of ModelDeployments, from their status alone, whichever routers have them."""
    routes = []
    for resource in sorted(resources, key=lambda found: found.owner.name):
        spec, status = resource.spec, resource.status
        if isinstance(spec, Fault) or resource.deleting or not has_routers(spec):
            continue
        if status.routerPort is None or status.stable is None:
            continue
        rollout = status.rollout
        canary = status.canary if rollout else None
        routes.append(
            Route(
                name=resource.owner.name,
                listener=status.routerPort,
                stable=_arm(resource, status.stable),
                canary=_arm(resource, canary) if canary else None,
                weight=rollout.weight if rollout and canary else 0,
                mirror_percent=rollout.mirrorPercent if rollout and canary else 0,
                affinity_header=spec.traffic.sessionAffinity.header if spec.traffic.sessionAffinity else None,
                # The pod answers 503 first, with the reason.
                timeout_milliseconds=spec.runtime.requestTimeoutMilliseconds + 1000,
            )
        )
    return tuple(routes)


def traffic_of(
    name: str, told: Route | None, routers: int, living: Sequence[RouterState], leaving: Sequence[RouterState]
) -> ObservedTraffic:
    """What the routers do for one ModelDeployment.

    Args:
        name: of the ModelDeployment.
        told: what they were told last.
        routers: that are ready.
        living: what was read of these; fewer where some could not be read.
        leaving: what was read of those that are on their way out.
    """
    found = [state.routes[name] for state in living if name in state.routes]
    going = [state.routes[name] for state in leaving if name in state.routes]
    receiving = frozenset(revision for route in (*found, *going) for revision in _reached(route))
    if told is not None and routers and not found:
        # None could be read: they are taken at what they were told.
        receiving |= _meant(told)
    canary = told.canary.revision if told is not None and told.canary is not None else ""
    arms = [state.arms.get((name, canary)) for state in living]
    synced = sum(state.does(told) for state in living) if told is not None and not told.closed else 0
    return ObservedTraffic(
        routers=routers,
        synced_routers=synced,
        weights=frozenset(route.weight for route in found),
        receiving=receiving,
        canary_pods=min((arm.healthy_pods if arm is not None else 0 for arm in arms), default=0),
        arrived=0 < routers == synced,
    )


def merged(asked: ObservedTraffic, others: Iterable[ObservedTraffic]) -> ObservedTraffic:
    """What several groups of routers do for one ModelDeployment.

    Args:
        asked: what the group does that it should have.
        others: what those do that it had, while they still have its route.
    """
    parts = (asked, *others)
    return replace(
        asked,
        routers=sum(part.routers for part in parts),
        synced_routers=sum(part.synced_routers for part in parts),
        weights=frozenset().union(*(part.weights for part in parts)),
        receiving=frozenset().union(*(part.receiving for part in parts)),
        canary_pods=min((part.canary_pods for part in parts if part.routers), default=0),
    )


def _reached(route: RouteState) -> frozenset[str]:
    named = {route.stable} if route.weight < 100 else set()
    if route.weight or route.mirror_percent:
        named.add(route.canary)
    return frozenset(revision for revision in named if revision is not None and not route.closed)


def _meant(route: Route) -> frozenset[str]:
    named = {route.stable.revision}
    if route.canary is not None and (route.weight or route.mirror_percent):
        named.add(route.canary.revision)
    return frozenset(named)


def _arm(resource: Resource, found: RevisionStatus) -> Arm:
    # A router is in the same namespace. A name with dots in it would be looked for in two other places first.
    host = naming.revision_object(resource.owner.name, found.revision)
    server = found.server
    if server is None:
        return Arm(revision=found.revision, host=host, port=HTTP_PORT, grpc_port=GRPC_PORT)
    return Arm(found.revision, host, server.httpPort, server.grpcPort, server.readyPath)
