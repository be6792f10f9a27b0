"""Which ModelDeployments a router serves, and what the routers of a namespace were seen to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from slipway.api.rollout import MAX_OUTPUTS, Gate, LookStatus, PredictionStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import GRPC_PORT, HTTP_PORT
from slipway.core import mismatch, names
from slipway.core.observed import Agreement, ArmCount, Fault, Manifest, ServedCount, Traffic
from slipway.core.prediction_shift import bin_names, common_bins
from slipway.core.resource import Resource
from slipway.core.router.readback import RouterState, RouteState
from slipway.core.router.routes import Arm, Route

#: First port of a router's listeners; each ModelDeployment has one of its own.
FIRST_PORT = 10000
#: Listeners that a router of a namespace may have.
MOST_PORTS = 5000


def is_routed(spec: ModelDeploymentSpec) -> bool:
    """Whether a new revision takes over step by step, by traffic."""
    return spec.rollout.strategy in ("Canary", "BlueGreen", "Shadow")


def has_routers(spec: ModelDeploymentSpec) -> bool:
    """Whether a ModelDeployment needs a router in front."""
    return is_routed(spec) and spec.traffic.provider == "Router"


def by_replicas(spec: ModelDeploymentSpec) -> bool:
    """Whether traffic is split by numbers of pods."""
    return is_routed(spec) and spec.traffic.provider == "ReplicaRatio"


def router_group(spec: ModelDeploymentSpec, name: str) -> str:
    """The routers that a ModelDeployment should have: its own, by its name, or by none the namespace's."""
    return name if spec.traffic.router == "Dedicated" else ""


def led_to(service: Manifest | None) -> str | None:
    """The routers that a Service leads to, by the name that :func:`router_group` gives; None if to none."""
    selector = (service["spec"].get("selector") or {}) if service is not None else {}
    if selector.get(names.COMPONENT_LABEL) != "router":
        return None
    return str(selector.get(names.MODEL_LABEL, ""))


def free_port(taken: Iterable[int]) -> int | None:
    """The first port that no other ModelDeployment of the namespace has, or None."""
    used = set(taken)
    return next((port for port in range(FIRST_PORT, FIRST_PORT + MOST_PORTS) if port not in used), None)


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
        canary = status.canary.revision if status.canary and rollout else None
        routes.append(
            Route(
                name=resource.owner.name,
                listener=status.routerPort,
                stable=_arm(resource, status.stable.revision),
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
) -> Traffic:
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
    reached = frozenset(revision for route in (*found, *going) for revision in _reached(route))
    if told is not None and routers and not found:
        # None could be read: they are taken at what they were told.
        reached |= _meant(told)
    canary = told.canary.revision if told is not None and told.canary is not None else ""
    arms = [state.arms.get((name, canary)) for state in living]
    knowing = sum(state.does(told) for state in living) if told is not None and not told.closed else 0
    return Traffic(
        routers=routers,
        knowing=knowing,
        weights=frozenset(route.weight for route in found),
        reached=reached,
        canary_pods=min((arm.healthy_pods if arm is not None else 0 for arm in arms), default=0),
        arrived=0 < routers == knowing,
    )


def together(asked: Traffic, others: Iterable[Traffic]) -> Traffic:
    """What several groups of routers do for one ModelDeployment.

    Args:
        asked: what the group does that it should have.
        others: what those do that it had, while they still have its route.
    """
    parts = (asked, *others)
    return replace(
        asked,
        routers=sum(part.routers for part in parts),
        knowing=sum(part.knowing for part in parts),
        weights=frozenset().union(*(part.weights for part in parts)),
        reached=frozenset().union(*(part.reached for part in parts)),
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


def look(gates: Iterable[Gate], traffic: Traffic) -> LookStatus | None:
    """The counts since the last look as status keeps them, or None where they could not be had."""
    if traffic.canary is None or traffic.stable is None:
        return None
    listed = tuple(gates)
    canary, stable = traffic.canary_served, traffic.stable_served
    served = canary is not None and stable is not None
    shifts = served and any(gate.type == "PredictionShift" for gate in listed)
    return LookStatus(
        canaryRequests=traffic.canary.requests,
        canaryEvents=tuple(_events(gate, traffic.canary, canary, traffic.agreement) for gate in listed),
        stableRequests=traffic.stable.requests,
        stableEvents=tuple(_events(gate, traffic.stable, stable) for gate in listed),
        canaryServed=canary.requests if canary is not None and served else None,
        stableServed=stable.requests if stable is not None and served else None,
        pairs=traffic.agreement.pairs if traffic.agreement is not None else None,
        predictions=_predictions(canary, stable) if canary and stable and shifts else None,
    )


def doubt(spec: ModelDeploymentSpec, traffic: Traffic) -> str | None:
    """What is wrong with the split since the last look, or None where nothing is, or nothing can be said."""
    if traffic.canary is None or traffic.stable is None or len(traffic.weights) != 1:
        return None
    if spec.traffic.sessionAffinity is not None:
        # Weights are shares of clients then, of which some ask more than others.
        return None
    (weight,) = traffic.weights
    return mismatch.doubt(weight, traffic.canary.meant, traffic.stable.meant)


def _events(
    gate: Gate, count: ArmCount, served: ServedCount | None, agreement: Agreement | None = None
) -> int:
    # Counters are read one after the other while requests go on.
    match gate.type:
        case "ErrorRate":
            return min(count.errors, count.requests)
        case "SlowRequests":
            return min(count.slow.get(gate.thresholdMilliseconds or 0, 0), count.requests)
        case "Violations":
            return min(served.violations, served.requests) if served is not None else 0
        case "ShadowAgreement":
            return agreement.unlike.get(gate.name, 0) if agreement is not None else 0
        case _:
            return 0


def _predictions(canary: ServedCount, stable: ServedCount) -> tuple[PredictionStatus, ...]:
    found: list[PredictionStatus] = []
    for output in sorted(canary.predictions.keys() & stable.predictions.keys()):
        arms = (canary.predictions[output], stable.predictions[output])
        bins = common_bins(*arms)
        if bins is not None and len(found) < MAX_OUTPUTS:
            counted = names.content_hash(bin_names(*arms))
            found.append(PredictionStatus(output=output[:253], bins=counted, canary=bins[0], stable=bins[1]))
    return tuple(found)


def _arm(resource: Resource, revision: str) -> Arm:
    # A router is in the same namespace. A name with dots in it would be looked for in two other places first.
    host = names.revision_object(resource.owner.name, revision)
    return Arm(revision=revision, host=host, port=HTTP_PORT, grpc_port=GRPC_PORT)
