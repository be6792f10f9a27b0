"""Every sentence of ``kubectl slipway doctor``, whole: what holds, and what each lack changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.cli.facts import Facts, Unseen
from slipway.cli.findings import findings
from tests.unit.cli.test_doctor import ADDRESS, WHOLE, binding, model, operator

NAME = "slipway-system/slipway"
HOLDS = [
    "CRD Holds: the CRD has every field of this version",
    f"Operator Holds: {NAME} has 2 of 2 pods ready",
    f"Images Holds: {NAME} pins its images by digest",
    f"AccessRequired Holds: {NAME} takes no model without spec.access",
    f"WatchNamespaces Holds: {NAME} has rights in the namespaces of watchNamespaces alone",
    f"Webhook Holds: {NAME} takes calls of its webhook with a token from a Secret",
    "Approvals Holds: policies.approvals is set",
    "Borrowing Holds: policies.borrowing is set",
    "OperatorToken Holds: policies.operator.enabled is set",
    "Access Holds: 1 model answers only callers that have a key, a token or a certificate",
    "NetworkPolicies Holds: payments has NetworkPolicies for its models; whether the network plugin enforces "
    "them cannot be seen",
    "PodSecurity Holds: payments takes restricted pods alone",
    "MetricsAPI Holds: the metrics API answers",
]
NO_POLICIES = [
    "Approvals Missing: whoever may edit a ModelDeployment approves it; set policies.approvals",
    "Borrowing Missing: a spec has any Secret and image of its namespace; set policies.borrowing",
    "OperatorToken Missing: a stolen token of the operator creates any pod; set policies.operator.enabled",
]


def judged(*names: str, address: str) -> list[dict[str, Any]]:
    analysis = {"analysis": {"prometheus": {"address": address}}}
    return [model(name, rollout=analysis) for name in names]


def without_webhook() -> dict[str, Any]:
    found = operator()
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [each for each in container["env"] if each["name"] != "SLIPWAY_WEBHOOK_TOKEN"]
    return found


def by_tag() -> dict[str, Any]:
    found = operator(SLIPWAY_SERVER_IMAGE="example.com/server:1")
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/operator:1"
    return found


def said(facts: Facts) -> list[str]:
    return [f"{each.check} {each.level}: {each.message}" for each in findings(facts)]


def test_what_holds_is_said_in_the_order_in_which_it_is_best_fixed() -> None:
    assert said(WHOLE) == HOLDS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"crd_lacks": ("spec.access", "spec.card")},
            [
                "CRD Missing: the CRD is older than this command: it lacks spec.access, spec.card; upgrade "
                "the chart, or apply crds/"
            ],
        ),
        (
            {"crd_lacks": None},
            ["CRD Missing: the cluster knows no ModelDeployments; install the chart with crds.enabled"],
        ),
        ({"operators": []}, ["Operator Missing: no operator is installed; install the chart"]),
        (
            {"operators": [{**operator(), "status": {}}]},
            [
                f"Operator Missing: {NAME} has no ready pod; kubectl describe deployment -n slipway-system "
                "says why"
            ],
        ),
        (
            {"operators": [by_tag()]},
            [
                f"Images Missing: {NAME} runs images by tag, which whoever writes the registry can move; set "
                "image.digest, server.image.digest"
            ],
        ),
        (
            {"operators": [operator(SLIPWAY_ACCESS_REQUIRED="false")]},
            [
                f"AccessRequired Missing: {NAME} takes models that answer everybody; set access.required "
                "once each has spec.access"
            ],
        ),
        (
            {"operators": [operator(SLIPWAY_WATCH_NAMESPACES="")]},
            [
                f"WatchNamespaces Missing: {NAME} has its rights in all namespaces; list those with models "
                "in watchNamespaces"
            ],
        ),
        (
            {"operators": [operator(SLIPWAY_WEBHOOK_TOKEN="s3cret")]},
            [
                f"Webhook Missing: {NAME} has the token of its webhook in the clear in its Deployment; put "
                "it into webhook.tokenSecret"
            ],
        ),
        (
            {"operators": [without_webhook()]},
            [
                f"Webhook Note: {NAME} has no webhook, so that moved names of models are found by polling "
                "alone; webhook.tokenSecret gives it one"
            ],
        ),
        (
            {"kubernetes": (1, 29)},
            [
                "Policies Missing: Kubernetes 1.29, as any before 1.30, has no policies that hold approvals, "
                "borrowing and the operator's token; upgrade the cluster"
            ],
        ),
        ({"kubernetes": (1, 30)}, []),
        ({"bindings": None}, NO_POLICIES),
        ({"bindings": [binding("approvals")]}, NO_POLICIES),
        (
            {"namespaces": {"payments": {}}},
            [
                "Approvals Note: no namespace with models has the label slipway.dev/four-eyes",
                "Approvals Note: no namespace with models has the label slipway.dev/protected",
                "PodSecurity Missing: kubectl label namespace payments "
                "pod-security.kubernetes.io/enforce=restricted: all of Slipway's pods fit",
            ],
        ),
        (
            {"models": [model(f"m{number}", access=None) for number in range(5)]},
            [
                "Access Missing: payments/m0, payments/m1, payments/m2, payments/m3, payments/m4 answer "
                "everybody (AccessOpen); give them spec.access",
            ],
        ),
        (
            {"models": [model(f"m{number}", access=None) for number in range(7)]},
            [
                "Access Missing: payments/m0, payments/m1, payments/m2, payments/m3, payments/m4 and 2 more "
                "answer everybody (AccessOpen); give them spec.access",
            ],
        ),
        (
            {"models": [model(controlled="False"), model("credit")]},
            [
                "Access Missing: payments/fraud have spec.access that not all of their pods hold yet; "
                "kubectl slipway status says why"
            ],
        ),
        ({"models": []}, []),
        (
            {"models": [model(), model("credit")]},
            ["Access Holds: 2 models answer only callers that have a key, a token or a certificate"],
        ),
        (
            {"models_elsewhere": Unseen("models is forbidden")},
            ["Access Unseen: models is forbidden"],
        ),
        (
            {"network_policies": {"payments": []}},
            [
                "NetworkPolicies Missing: no NetworkPolicy narrows who reaches the pods of payments/fraud; "
                "add payments to modelServers.networkPolicy.namespaces"
            ],
        ),
        (
            {"metrics": False},
            [
                "MetricsAPI Missing: the metrics API does not answer, so that models keep "
                "scaling.minReplicas; install metrics-server"
            ],
        ),
        (
            {"models": judged("fraud", "credit", address="http://other:9090")},
            [
                "Access Holds: 2 models answer only callers that have a key, a token or a certificate",
                "Prometheus Missing: rollouts of payments/fraud, payments/credit take their figures from "
                "http://other:9090, which is not allowed; add it to rollouts.prometheus.addresses, letter by "
                "letter",
            ],
        ),
        ({"models": judged("fraud", address=ADDRESS)}, []),
        (
            {"not_examined": 3},
            ["Namespaces Unseen: 3 more namespaces with models were not looked at; run it for each with -n"],
        ),
    ],
)
def test_a_lack_is_told_in_full_and_changes_nothing_else(changed: dict[str, Any], words: list[str]) -> None:
    found = said(replace(WHOLE, **changed))
    assert [each for each in found if each not in HOLDS] == words
