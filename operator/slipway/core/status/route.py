"""Whether clients reach the revision that they are to reach, and whether traffic is split as asked."""

from __future__ import annotations

from datetime import datetime

from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.garbage import ENDPOINT_PROPAGATION
from slipway.core.objects.metadata import Owner
from slipway.core.observed import (
    Fault,
    ObjectKind,
    ObjectReference,
    Observed,
    ObservedTraffic,
    is_ready,
    revision_of_object,
)
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.restored import how_to_go_on, is_forgotten, is_restored
from slipway.core.status.condition_value import ConditionValue, failed, first_fault
from slipway.core.traffic.routed import routed_group


def route_ready(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed, now: datetime
) -> ConditionValue:
    routed = plan.roles.routed
    if routed is None:
        return ConditionValue("Unknown", Reason.WAITING_FOR_REVISION, "no revision is there to be routed to")
    ours = (
        ObjectReference(kind, resource.owner.name) for kind in (ObjectKind.SERVICE, ObjectKind.HTTP_ROUTE)
    )
    fault = first_fault(observed, ours)
    if fault is None and spec.traffic.gatewayAPI is not None and observed.traffic is not None:
        fault = observed.traffic.fault
    if fault is not None:
        return failed(fault)
    if _leads_to(routed, resource, observed):
        return ConditionValue(
            "True", Reason.ROUTED, f"Service {resource.owner.name} leads to revision {routed}"
        )
    if _is_moving(plan, now) and _is_served_by_any(resource, observed):
        # Its endpoints follow in a moment; until then clients reach the revision before.
        return ConditionValue(
            "True", Reason.ROUTED, f"Service {resource.owner.name} leads to revision {routed}"
        )
    stable = resource.status.stable
    if is_forgotten(resource.owner, plan.roles.stable, plan.roles.wanted, observed):
        return ConditionValue("False", Reason.STABLE_FORGOTTEN, how_to_go_on(resource.owner, stable, routed))
    if plan.roles.stable is not None and is_restored(resource, observed):
        words = f"the resource was restored from a backup; pods of its stable revision {routed} start"
        return ConditionValue("False", Reason.RESTORED, words)
    return ConditionValue(
        "False",
        Reason.NO_READY_ENDPOINTS,
        f"Service {resource.owner.name} has no ready pod of revision {routed}",
    )


def _is_moving(plan: Plan, now: datetime) -> bool:
    """Whether the stable revision has just taken over."""
    promoted_at = plan.roles.promoted_at
    return promoted_at is not None and now - promoted_at < ENDPOINT_PROPAGATION


def _is_served_by_any(resource: Resource, observed: Observed) -> bool:
    """Whether the Service leads to a ready pod of any revision."""
    pods = {
        pod["metadata"]["name"] for pod in observed.of(ObjectKind.POD) if revision_of_object(pod) is not None
    }
    return bool(pods & observed.ready_pods_behind(resource.owner.name))


def _leads_to(revision: str, resource: Resource, observed: Observed) -> bool:
    """Whether a ready pod of a revision stands behind the Service, or behind the routers behind it."""
    service = observed.find(ObjectKind.SERVICE, resource.owner.name)
    selector = service["spec"].get("selector") if service is not None else None
    behind = observed.ready_pods_behind(resource.owner.name)
    if routed_group(service) is not None:
        traffic = observed.traffic
        return (
            bool(behind)
            and traffic is not None
            and revision in traffic.receiving
            and any(is_ready(pod) for pod in observed.pods(revision))
        )
    one = naming.pod_selector(resource.owner.name, revision)
    if selector not in (one, naming.pod_selector(resource.owner.name)):
        return False
    return bool(behind & {pod["metadata"]["name"] for pod in observed.pods(revision)})


def traffic_synced(
    resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed
) -> dict[ConditionType, ConditionValue]:
    """Whether every router does what it was told; there only where there is a router to be told."""
    traffic = observed.traffic
    if traffic is None or plan.roles.stable is None:
        return {}
    if traffic.approximate:
        return {ConditionType.TRAFFIC_SYNCED: _approximate(resource.owner, plan, observed, traffic)}
    if spec.traffic.gatewayAPI is not None:
        return {ConditionType.TRAFFIC_SYNCED: _by_gateways(plan, traffic)}
    if plan.router_port is None:
        return {}
    rollout = plan.roles.rollout
    synced = traffic.complete and traffic.arrived
    if synced and rollout is not None and rollout.mismatch:
        return {
            ConditionType.TRAFFIC_SYNCED: ConditionValue("False", Reason.SPLIT_MISMATCH, rollout.mismatch)
        }
    if synced:
        weight = max(traffic.weights, default=0)
        to = f"{weight}% to the canary" if plan.roles.candidate else f"all to revision {plan.roles.stable}"
        return {
            ConditionType.TRAFFIC_SYNCED: ConditionValue("True", Reason.ROUTED, f"every router sends {to}")
        }
    if traffic.fault is not None:
        fault = traffic.fault
        if fault.reason not in (Reason.ROUTER_FULL, Reason.ROUTES_FROM_ANOTHER_VERSION):
            fault = Fault(Reason.ROUTER_UNAVAILABLE, f"no router is ready: {fault.reason}: {fault.message}")
        return {ConditionType.TRAFFIC_SYNCED: failed(fault)}
    if rollout is None and not traffic.synced_routers:
        words = (
            f"routers are starting; meanwhile the Service leads to revision {plan.roles.stable} without them"
        )
        return {ConditionType.TRAFFIC_SYNCED: ConditionValue("Unknown", Reason.STARTING, words)}
    words = f"{traffic.synced_routers} of {traffic.routers} routers do what they were told"
    if traffic.complete:
        words = "the routers that it moves to are starting; those that it has do what they were told"
    return {ConditionType.TRAFFIC_SYNCED: ConditionValue("False", Reason.ROLLING_OUT, words)}


def _by_gateways(plan: Plan, traffic: ObservedTraffic) -> ConditionValue:
    """What the HTTPRoute's own status says."""
    if traffic.fault is not None:
        return ConditionValue("False", traffic.fault.reason, traffic.fault.message)
    if not traffic.complete:
        words = f"{traffic.synced_routers} of {traffic.routers} Gateways have taken up the newest HTTPRoute"
        return ConditionValue("False", Reason.ROLLING_OUT, words)
    weight = max(traffic.weights, default=0)
    to = f"{weight}% to the canary" if plan.roles.candidate else f"all to revision {plan.roles.stable}"
    return ConditionValue("True", Reason.ROUTED, f"the HTTPRoute that every Gateway accepted sends {to}")


def _approximate(owner: Owner, plan: Plan, observed: Observed, traffic: ObservedTraffic) -> ConditionValue:
    """The share that ready pods make, beside the one that was asked for."""
    if not traffic.complete:
        return ConditionValue("False", Reason.ROLLING_OUT, "the endpoints of the Service follow its selector")
    rollout = plan.roles.rollout
    if rollout is None or plan.roles.candidate is None:
        return ConditionValue(
            "True", Reason.APPROXIMATE, f"all connections are for revision {plan.roles.stable}"
        )
    share = max(traffic.weights, default=0)
    behind = len(observed.ready_pods_behind(owner.name))
    words = f"about {share}% of new connections are for the canary, by its pods among {behind}"
    return ConditionValue("True", Reason.APPROXIMATE, f"{words}; {rollout.weight}% are asked for")
