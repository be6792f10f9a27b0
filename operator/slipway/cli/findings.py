"""What an installation does not hold, told from what could be read of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from slipway.cli.cluster import Manifest
from slipway.cli.facts import Facts, Unseen
from slipway.core import naming

#: Names that one finding gives.
_SHOWN = 5
#: Kubernetes has ValidatingAdmissionPolicy from this version on.
_POLICIES_FROM = (1, 30)
_APPROVALS = ("approvals", "protected", "signers", "signed")
#: By the chart's value, the policies that it makes, and what is open without them.
_POLICIES = (
    ("policies.approvals", _APPROVALS, "whoever may edit a ModelDeployment approves it"),
    ("policies.borrowing", ("secrets", "pods"), "a spec has any Secret and image of its namespace"),
    ("policies.operator.enabled", ("operator",), "a stolen token of the operator creates any pod"),
)
_IMAGES = {
    "SLIPWAY_SERVER_IMAGE": "server.image.digest",
    "SLIPWAY_CUDA_IMAGE": "server.cudaImage.digest",
    "SLIPWAY_AUDIT_IMAGE": "audit.image.digest",
    "SLIPWAY_ROUTER_IMAGE": "router.image.digest",
}


class Level(StrEnum):
    """What a finding means."""

    MISSING = "Missing"
    UNSEEN = "Unseen"
    NOTE = "Note"
    HOLDS = "Holds"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: names it, for programs.
        level: whether it holds.
        message: the fact and, unless it holds, the next step.
    """

    check: str
    level: Level
    message: str


def findings(facts: Facts) -> list[Finding]:
    """Everything that was looked at, in the order in which it is best fixed."""
    return [
        *_crd(facts),
        *_operators(facts),
        *_policies(facts),
        *_access(facts),
        *_network(facts),
        *_pod_security(facts),
        *_prometheus(facts),
        *_metrics(facts),
        *_rest(facts),
    ]


def _crd(facts: Facts) -> Iterator[Finding]:
    lacks = facts.crd_lacks
    if isinstance(lacks, Unseen):
        yield _unseen("CRD", lacks)
    elif lacks is None:
        yield _missing("CRD", "the cluster knows no ModelDeployments; install the chart with crds.enabled")
    elif lacks:
        older = (
            f"the CRD is older than this command: it lacks {_some(lacks)}; upgrade the chart, or apply crds/"
        )
        yield _missing("CRD", older)
    else:
        yield _holds("CRD", "the CRD has every field of this version")


def _operators(facts: Facts) -> Iterator[Finding]:
    found = facts.operators
    if isinstance(found, Unseen):
        yield _unseen("Operator", found)
        return
    if not found:
        yield _missing("Operator", "no operator is installed; install the chart")
    for one in found:
        name = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        ready, wanted = (one.get("status") or {}).get("readyReplicas", 0), one["spec"].get("replicas", 1)
        if not ready:
            why = f"kubectl describe deployment -n {one['metadata']['namespace']} says why"
            yield _missing("Operator", f"{name} has no ready pod; {why}")
        else:
            yield _holds("Operator", f"{name} has {ready} of {wanted} pods ready")
        yield from _of_operator(name, one)


def _of_operator(name: str, one: Manifest) -> Iterator[Finding]:
    container = one["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each for each in container.get("env") or ()}
    values = {key: str(each.get("value") or "") for key, each in variables.items()}
    images = {"image.digest": str(container["image"])}
    images |= {said: values[key] for key, said in _IMAGES.items() if values.get(key)}
    by_tag = [said for said, image in images.items() if "@sha256:" not in image]
    if by_tag:
        words = (
            f"{name} runs images by tag, which whoever writes the registry can move; set {', '.join(by_tag)}"
        )
        yield _missing("Images", words)
    else:
        yield _holds("Images", f"{name} pins its images by digest")
    if values.get("SLIPWAY_ACCESS_REQUIRED") != "true":
        words = f"{name} takes models that answer everybody; set access.required once each has spec.access"
        yield _missing("AccessRequired", words)
    else:
        yield _holds("AccessRequired", f"{name} takes no model without spec.access")
    if not values.get("SLIPWAY_WATCH_NAMESPACES"):
        words = f"{name} has its rights in all namespaces; list those with models in watchNamespaces"
        yield _missing("WatchNamespaces", words)
    else:
        yield _holds("WatchNamespaces", f"{name} has rights in the namespaces of watchNamespaces alone")
    token = variables.get("SLIPWAY_WEBHOOK_TOKEN")
    if token is None:
        words = "has no webhook, so that moved names of models are found by polling alone"
        yield Finding("Webhook", Level.NOTE, f"{name} {words}; webhook.tokenSecret gives it one")
    elif token.get("value"):
        words = "has the token of its webhook in the clear in its Deployment; put it into webhook.tokenSecret"
        yield _missing("Webhook", f"{name} {words}")
    else:
        yield _holds("Webhook", f"{name} takes calls of its webhook with a token from a Secret")


def _policies(facts: Facts) -> Iterator[Finding]:
    version, bindings = facts.kubernetes, facts.bindings
    if version < _POLICIES_FROM:
        words = "before 1.30, has no policies that hold approvals, borrowing and the operator's token"
        yield _missing(
            "Policies", f"Kubernetes {version[0]}.{version[1]}, as any {words}; upgrade the cluster"
        )
        return
    if isinstance(bindings, Unseen):
        yield _unseen("Policies", bindings)
        return
    denied = {
        str(one["metadata"]["name"]).rpartition("-")[2]
        for one in bindings or ()
        if "Deny" in (one["spec"].get("validationActions") or ())
    }
    for value, names, without in _POLICIES:
        check = {"policies.approvals": "Approvals", "policies.borrowing": "Borrowing"}.get(
            value, "OperatorToken"
        )
        if denied.issuperset(names):
            yield _holds(check, f"{value} is set")
        else:
            yield _missing(check, f"{without}; set {value}")
    if "approvals" in denied:
        seen = [labels for labels in facts.namespaces.values() if not isinstance(labels, Unseen)]
        for label in ("slipway.dev/four-eyes", "slipway.dev/protected"):
            if seen and not any(labels.get(label, "false") != "false" for labels in seen):
                yield Finding("Approvals", Level.NOTE, f"no namespace with models has the label {label}")


def _access(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.models, Unseen):
        yield _unseen("Access", facts.models)
        return
    if facts.models_elsewhere is not None:
        yield _unseen("Access", facts.models_elsewhere)
    opened = [_name(one) for one in facts.models if not (one.get("spec") or {}).get("access")]
    pending = [
        _name(one)
        for one in facts.models
        if (one.get("spec") or {}).get("access") and _status(one, "AccessControlled") != "True"
    ]
    if opened:
        yield _missing("Access", f"{_some(opened)} answer everybody (AccessOpen); give them spec.access")
    if pending:
        words = "have spec.access that not all of their pods hold yet; kubectl slipway status says why"
        yield _missing("Access", f"{_some(pending)} {words}")
    if facts.models and not opened and not pending:
        words = "1 model answers" if len(facts.models) == 1 else f"{len(facts.models)} models answer"
        yield _holds("Access", f"{words} only callers that have a key, a token or a certificate")


def _network(facts: Facts) -> Iterator[Finding]:
    for name, policies in facts.network_policies.items():
        if isinstance(policies, Unseen):
            yield _unseen("NetworkPolicies", policies)
            continue
        models = [one for one in _models(facts) if one["metadata"]["namespace"] == name]
        opened = [
            _name(one)
            for one in models
            if not any(_holds_pods(policy, str(one["metadata"]["name"])) for policy in policies)
        ]
        if opened:
            words = "no NetworkPolicy narrows who reaches the pods of"
            value = f"add {name} to modelServers.networkPolicy.namespaces"
            yield _missing("NetworkPolicies", f"{words} {_some(opened)}; {value}")
        else:
            words = (
                "has NetworkPolicies for its models; whether the network plugin enforces them cannot be seen"
            )
            yield _holds("NetworkPolicies", f"{name} {words}")


def _holds_pods(policy: Manifest, model: str) -> bool:
    """Whether a policy narrows what reaches the pods of a model."""
    spec = policy.get("spec") or {}
    labels = {naming.MANAGED_BY_LABEL: naming.MANAGED_BY, **naming.pod_selector(model)}
    return "Ingress" in spec.get("policyTypes", ["Ingress"]) and _matches(
        spec.get("podSelector") or {}, labels
    )


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_fits(each, labels) for each in selector.get("matchExpressions") or ())


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case _:
            return found is None


def _pod_security(facts: Facts) -> Iterator[Finding]:
    label = "pod-security.kubernetes.io/enforce"
    for name, labels in facts.namespaces.items():
        if isinstance(labels, Unseen):
            yield _unseen("PodSecurity", labels)
        elif labels.get(label) != "restricted":
            yield _missing(
                "PodSecurity", f"kubectl label namespace {name} {label}=restricted: all of Slipway's pods fit"
            )
        else:
            yield _holds("PodSecurity", f"{name} takes restricted pods alone")


def _prometheus(facts: Facts) -> Iterator[Finding]:
    allowed = None if isinstance(facts.operators, Unseen) else _allowed_addresses(facts.operators)
    refused: dict[str, list[str]] = {}
    for one in _models(facts):
        address = _at(one, "spec", "rollout", "analysis", "prometheus", "address")
        said = any(each.get("reason") == "PrometheusNotAllowed" for each in _conditions(one))
        if said or (address and allowed is not None and address not in allowed):
            refused.setdefault(str(address), []).append(_name(one))
    for address, names in refused.items():
        words = f"rollouts of {_some(names)} take their figures from {address}, which is not allowed"
        yield _missing("Prometheus", f"{words}; add it to rollouts.prometheus.addresses, letter by letter")


def _allowed_addresses(operators: list[Manifest]) -> set[str]:
    found: set[str] = set()
    for one in operators:
        for each in one["spec"]["template"]["spec"]["containers"][0].get("env") or ():
            if each["name"] == "SLIPWAY_PROMETHEUS_ADDRESSES" and each.get("value"):
                found |= set(json.loads(each["value"]))
    return found


def _metrics(facts: Facts) -> Iterator[Finding]:
    if isinstance(facts.metrics, Unseen):
        yield _unseen("MetricsAPI", facts.metrics)
    elif not facts.metrics:
        words = "the metrics API does not answer, so that models keep scaling.minReplicas"
        yield _missing("MetricsAPI", f"{words}; install metrics-server")
    else:
        yield _holds("MetricsAPI", "the metrics API answers")


def _rest(facts: Facts) -> Iterator[Finding]:
    if facts.not_examined:
        words = f"{facts.not_examined} more namespaces with models were not looked at"
        yield Finding("Namespaces", Level.UNSEEN, f"{words}; run it for each with -n")


def _models(facts: Facts) -> list[Manifest]:
    return [] if isinstance(facts.models, Unseen) else facts.models


def _conditions(one: Manifest) -> list[dict[str, Any]]:
    return list((one.get("status") or {}).get("conditions") or ())


def _status(one: Manifest, type_: str) -> str:
    return next((str(each["status"]) for each in _conditions(one) if each["type"] == type_), "Unknown")


def _at(found: Any, *path: str) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _name(one: Manifest) -> str:
    return f"{one['metadata']['namespace']}/{one['metadata']['name']}"


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _missing(check: str, message: str) -> Finding:
    return Finding(check, Level.MISSING, message)


def _holds(check: str, message: str) -> Finding:
    return Finding(check, Level.HOLDS, message)


def _unseen(check: str, unseen: Unseen) -> Finding:
    return Finding(check, Level.UNSEEN, unseen.why)
