"""Traffic split by the weights of an HTTPRoute of the Gateway API, whoever carries it out.

Source: https://gateway-api.sigs.k8s.io/reference/spec/ (v1). One HTTPRoute holds a rule for gRPC and one for
REST: a listener must not accept an HTTPRoute and a GRPCRoute for the same host name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from slipway.api.reasons import Reason
from slipway.api.traffic import GatewayAPI, ParentRef
from slipway.api.types import ModelDeploymentSpec
from slipway.contract import GRPC_PORT, HTTP_PORT
from slipway.core import naming
from slipway.core.objects.diff import contains
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.observed import Fault, Manifest, ObjectKind, Observed, ObservedTraffic
from slipway.core.traffic.split import Split

GROUP = "gateway.networking.k8s.io"
#: gRPC services of a model server.
_GRPC_PATHS = (
    "/inference.GRPCInferenceService",
    "/grpc.health.v1.Health",
    "/grpc.reflection.v1.ServerReflection",
)
_MATCHES: Mapping[int, list[dict[str, Any]]] = {
    GRPC_PORT: [{"path": {"type": "PathPrefix", "value": path}} for path in _GRPC_PATHS],
    HTTP_PORT: [{"path": {"type": "PathPrefix", "value": "/"}}],
}
_MIRROR = "RequestMirror"


def http_route(
    owner: Owner, spec: ModelDeploymentSpec, gateway: GatewayAPI, split: Split, observed: Observed
) -> dict[str, Any]:
    """The HTTPRoute for a split.

    Rules and backends that others put into the route stay there: its rules are one list to the API server, so
    that whoever writes it writes all of it.

    Args:
        owner: the ModelDeployment.
        spec: its spec.
        gateway: the Gateways.
        split: which revision is to have what share.
        observed: its children; a canary without a ready endpoint is left out, since its share would be lost.
    """
    live = observed.find(ObjectKind.HTTP_ROUTE, owner.name)
    rules = list((live or {}).get("spec", {}).get("rules") or ())
    ours = [_own_rule(rules, port) for port in _MATCHES]
    others = [rule for rule in rules if not any(rule is found for found in ours)]
    # The pod answers 503 first, with the reason.
    seconds = math.ceil((spec.runtime.requestTimeoutMilliseconds + 1000) / 1000)
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": ObjectKind.HTTP_ROUTE.value,
        "metadata": metadata(owner, owner.name, naming.labels(owner.name, "route")),
        "spec": {
            "parentRefs": [
                parent.model_dump(exclude_none=True) | {"group": GROUP, "kind": "Gateway"}
                for parent in gateway.parentRefs
            ],
            "hostnames": list(gateway.hostnames),
            "rules": [
                *(
                    _rule(owner, port, found, _safe(owner, split, observed), seconds)
                    for port, found in zip(_MATCHES, ours, strict=True)
                ),
                *others,
            ],
        },
    }


def traffic(
    owner: Owner, gateway: GatewayAPI, split: Split, observed: Observed, settled: bool
) -> ObservedTraffic:
    """What the Gateways do, as the route's own status says.

    Args:
        owner: of the route.
        gateway: the Gateways that it has to be accepted by.
        split: that was asked for last.
        observed: the children.
        settled: whether the newest state of the route was accepted long enough ago to have reached every
            proxy: a status tells when a controller has taken it up, not when the last proxy has.
    """
    live = observed.find(ObjectKind.HTTP_ROUTE, owner.name)
    canary = naming.revision_object(owner.name, split.canary) if split.canary else ""
    endpoints = len(observed.ready_pods_behind(canary)) if canary else 0
    faults = [_fault(owner, parent, live) for parent in gateway.parentRefs]
    fault = next((found for found in faults if found is not None), None)
    weights = _weights(owner, live)
    done = live is not None and weights == _wanted(_safe(owner, split, observed))
    mirrored = _mirrored(owner, live)
    accepted = sum(_is_accepted(owner, parent, live) for parent in gateway.parentRefs)
    receiving = frozenset(revision for revision, weight in weights.items() if weight)
    return ObservedTraffic(
        routers=len(gateway.parentRefs),
        synced_routers=accepted if done and settled and mirrored == _wanted_copies(split, endpoints) else 0,
        weights=frozenset({weights.get(split.canary or "", 0)}),
        receiving=receiving | frozenset(mirrored),
        canary_pods=endpoints,
        fault=fault,
        obstacle=fault.message if fault is not None else None,
    )


def reachable_gateways(spec: ModelDeploymentSpec, observed: Observed) -> GatewayAPI | None:
    """The Gateways that are to lead to the model, where the cluster knows of routes to them, and that may."""
    if observed.traffic is None:
        return None
    fault = observed.traffic.fault
    without = fault is not None and fault.reason in (Reason.GATEWAY_API_MISSING, Reason.GATEWAY_NOT_ALLOWED)
    return None if without else spec.traffic.gatewayAPI


def has_route(spec: ModelDeploymentSpec, observed: Observed) -> bool:
    """Whether a route that is there may stay: a spec asks for it, and the installation allows it."""
    fault = observed.traffic.fault if observed.traffic is not None else None
    allowed = fault is None or fault.reason is not Reason.GATEWAY_NOT_ALLOWED
    return spec.traffic.gatewayAPI is not None and allowed


def is_accepted(owner: Owner, gateway: GatewayAPI, observed: Observed) -> bool:
    """Whether every Gateway has taken up the newest state of the route."""
    live = observed.find(ObjectKind.HTTP_ROUTE, owner.name)
    return all(_is_accepted(owner, parent, live) for parent in gateway.parentRefs)


def _own_rule(rules: list[Manifest], port: int) -> Manifest | None:
    return next((rule for rule in rules if contains(rule.get("matches"), _MATCHES[port])), None)


def _rule(owner: Owner, port: int, live: Manifest | None, split: Split, seconds: int) -> dict[str, Any]:
    foreign = [ref for ref in (live or {}).get("backendRefs") or () if not _revision(owner, ref)]
    filters = [found for found in (live or {}).get("filters") or () if not _copies(owner, found)]
    if split.canary is not None and split.mirror_percent:
        share = {} if split.mirror_percent == 100 else {"percent": split.mirror_percent}
        copy = {"backendRef": _backend(owner, split.canary, port), **share}
        filters.append({"type": _MIRROR, "requestMirror": copy})
    backends = [
        {**_backend(owner, revision, port), "weight": weight} for revision, weight in _wanted(split).items()
    ]
    return {
        **(live or {}),
        "matches": _MATCHES[port],
        "timeouts": {"request": f"{seconds}s"},
        "filters": filters,
        "backendRefs": [*backends, *foreign],
    }


def _backend(owner: Owner, revision: str, port: int) -> dict[str, Any]:
    return {"name": naming.revision_object(owner.name, revision), "port": port}


def _wanted(split: Split) -> dict[str, int]:
    found = {split.stable: 100 - split.weight}
    return found | {split.canary: split.weight} if split.canary is not None and split.weight else found


def _wanted_copies(split: Split, endpoints: int) -> dict[str, int]:
    copies = split.canary is not None and split.mirror_percent and endpoints
    return {split.canary or "": split.mirror_percent} if copies else {}


def _safe(owner: Owner, split: Split, observed: Observed) -> Split:
    """The split without a canary that has nothing to answer with, while the stable revision has."""
    service = naming.revision_object(owner.name, split.canary) if split.canary else ""
    lost = not service or observed.find(ObjectKind.SERVICE, service) is None
    if lost or not observed.ready_pods_behind(service):
        return Split(split.stable)
    return split


def _revision(owner: Owner, ref: Manifest) -> str | None:
    """The revision that a backend is, or None for one of somebody else's."""
    found = re.fullmatch(rf"{re.escape(owner.name)}-([0-9a-f]{{10}})", str(ref.get("name")))
    return found[1] if found and ref.get("kind", "Service") == "Service" else None


def _copies(owner: Owner, found: Manifest) -> str | None:
    """The revision that a filter copies requests to, or None where it is none of ours."""
    mirror = found.get("requestMirror") if found.get("type") == _MIRROR else None
    return _revision(owner, mirror.get("backendRef") or {}) if mirror else None


def _own_rules(live: Manifest | None) -> Iterator[Manifest]:
    rules = list((live or {}).get("spec", {}).get("rules") or ())
    return (rule for port in _MATCHES if (rule := _own_rule(rules, port)) is not None)


def _weights(owner: Owner, live: Manifest | None) -> dict[str, int]:
    """Weight of each revision in both of our rules; of two that differ, the larger."""
    found: dict[str, int] = {}
    for rule in _own_rules(live):
        for ref in rule.get("backendRefs") or ():
            revision = _revision(owner, ref)
            if revision is not None:
                found[revision] = max(found.get(revision, 0), int(ref.get("weight", 1)))
    return found


def _mirrored(owner: Owner, live: Manifest | None) -> dict[str, int]:
    """Percent of requests that are copied to each revision."""
    return {
        revision: int(found["requestMirror"].get("percent", 100))
        for rule in _own_rules(live)
        for found in rule.get("filters") or ()
        if (revision := _copies(owner, found)) is not None
    }


def _answers(owner: Owner, parent: ParentRef, live: Manifest | None) -> list[Manifest]:
    """What controllers say for one Gateway."""
    wanted = (parent.name, parent.namespace or owner.namespace, parent.sectionName)
    return [
        found
        for found in (live or {}).get("status", {}).get("parents") or ()
        if (ref := found["parentRef"])
        and (ref["name"], ref.get("namespace") or owner.namespace, ref.get("sectionName")) == wanted
    ]


def _conditions(answer: Manifest) -> dict[str, Manifest]:
    return {found["type"]: found for found in answer.get("conditions") or ()}


def _is_accepted(owner: Owner, parent: ParentRef, live: Manifest | None) -> bool:
    answers = [_conditions(answer) for answer in _answers(owner, parent, live)]
    generation = int((live or {}).get("metadata", {}).get("generation", 0))
    return bool(answers) and all(
        found.get(type_, {}).get("status") == "True"
        and int(found[type_].get("observedGeneration", 0)) >= generation
        for found in answers
        for type_ in ("Accepted", "ResolvedRefs")
    )


def _fault(owner: Owner, parent: ParentRef, live: Manifest | None) -> Fault | None:
    place = f"Gateway {parent.namespace or owner.namespace}/{parent.name}"
    answers = _answers(owner, parent, live)
    if not answers:
        return Fault(Reason.WAITING_FOR_GATEWAY, f"{place} has not answered for HTTPRoute {owner.name} yet")
    for answer in answers:
        for type_ in ("Accepted", "ResolvedRefs"):
            found = _conditions(answer).get(type_)
            if found is not None and found["status"] == "False":
                words = f"{place}: {type_} is False: {found['reason']}: {found.get('message', '')}"
                return Fault(Reason.ROUTE_REFUSED, words)
    return None
