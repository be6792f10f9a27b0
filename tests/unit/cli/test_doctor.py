"""``kubectl slipway doctor``: what is missing, what holds, and what could not be seen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.facts import Facts, Unseen
from slipway.cli.findings import _POLICIES, Finding, Level, findings
from slipway.core import naming
from tests.unit.cli.conftest import Run
from tests.unit.cli.serving import Served
from tests.unit.world import NAME, NAMESPACE

DIGEST = "@sha256:" + "1" * 64
ADDRESS = "http://prometheus.monitoring:9090"
POLICIES = ("approvals", "protected", "signers", "signed", "secrets", "pods", "operator")


def operator(**env: Any) -> dict[str, Any]:
    values = {
        "SLIPWAY_SERVER_IMAGE": f"example.com/server{DIGEST}",
        "SLIPWAY_AUDIT_IMAGE": f"example.com/audit{DIGEST}",
        "SLIPWAY_ROUTER_IMAGE": f"example.com/router{DIGEST}",
        "SLIPWAY_ACCESS_REQUIRED": "true",
        "SLIPWAY_WATCH_NAMESPACES": "payments",
        "SLIPWAY_PROMETHEUS_ADDRESSES": json.dumps([ADDRESS]),
        **env,
    }
    variables: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items()]
    if "SLIPWAY_WEBHOOK_TOKEN" not in env:
        variables.append({"name": "SLIPWAY_WEBHOOK_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hook"}}})
    container = {"image": f"example.com/operator{DIGEST}", "env": variables}
    return {
        "metadata": {"namespace": "slipway-system", "name": "slipway"},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}},
        "status": {"readyReplicas": 2},
    }


def binding(name: str, *actions: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"slipway-{name}"},
        "spec": {"policyName": f"slipway-{name}", "validationActions": list(actions or ("Deny",))},
    }


def policy(selector: dict[str, Any], *types: str) -> dict[str, Any]:
    return {"spec": {"podSelector": selector, "policyTypes": list(types or ("Ingress",))}}


def model(name: str = "fraud", *, controlled: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "payments"},
        "spec": {"access": {"serviceAccounts": {}}, **spec},
        "status": {"conditions": [{"type": "AccessControlled", "status": controlled, "reason": "Why"}]},
    }


OF_MODELS = {
    "matchLabels": {
        "app.kubernetes.io/managed-by": "slipway",
        "app.kubernetes.io/component": "model-server",
    }
}
#: An installation that holds everything.
WHOLE = Facts(
    kubernetes=(1, 33),
    crd_lacks=(),
    operators=[operator()],
    bindings=[binding(name) for name in POLICIES],
    metrics=True,
    models=[model()],
    models_elsewhere=None,
    namespaces={
        "payments": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "slipway.dev/four-eyes": "true",
            "slipway.dev/protected": "true",
        }
    },
    network_policies={"payments": [policy(OF_MODELS)]},
)


def bad(found: Facts) -> dict[str, Finding]:
    """What does not hold, by its check."""
    return {each.check: each for each in findings(found) if each.level is not Level.HOLDS}


def test_an_installation_that_holds_everything_has_nothing_to_fix() -> None:
    assert bad(WHOLE) == {}


@pytest.mark.parametrize(
    ("check", "words", "changed"),
    [
        ("CRD", "it lacks spec.access, spec.card", {"crd_lacks": ("spec.access", "spec.card")}),
        ("CRD", "crds.enabled", {"crd_lacks": None}),
        ("Operator", "install the chart", {"operators": []}),
        ("Operator", "no ready pod", {"operators": [{**operator(), "status": {}}]}),
        ("Images", "server.image.digest", {"operators": [operator(SLIPWAY_SERVER_IMAGE="a/server:1")]}),
        ("Images", "server.cudaImage.digest", {"operators": [operator(SLIPWAY_CUDA_IMAGE="a/cuda:1")]}),
        ("Images", "audit.image.digest", {"operators": [operator(SLIPWAY_AUDIT_IMAGE="a/audit:1")]}),
        ("Images", "router.image.digest", {"operators": [operator(SLIPWAY_ROUTER_IMAGE="a/router")]}),
        ("AccessRequired", "access.required", {"operators": [operator(SLIPWAY_ACCESS_REQUIRED="false")]}),
        ("WatchNamespaces", "watchNamespaces", {"operators": [operator(SLIPWAY_WATCH_NAMESPACES="")]}),
        ("Webhook", "in the clear", {"operators": [operator(SLIPWAY_WEBHOOK_TOKEN="s3cret")]}),
        ("Policies", "Kubernetes 1.29", {"kubernetes": (1, 29), "bindings": None}),
        ("Approvals", "policies.approvals", {"bindings": [binding(name) for name in POLICIES[2:]]}),
        ("Approvals", "policies.approvals", {"bindings": [binding(name, "Audit") for name in POLICIES]}),
        ("Borrowing", "policies.borrowing", {"bindings": [binding(POLICIES[2])]}),
        ("OperatorToken", "policies.operator.enabled", {"bindings": []}),
        ("Access", "payments/open answer everybody", {"models": [model(), model("open", access=None)]}),
        ("Access", "not all of their pods hold", {"models": [model(controlled="False")]}),
        ("NetworkPolicies", "payments/fraud", {"network_policies": {"payments": []}}),
        (
            "NetworkPolicies",
            "payments/fraud",
            {"network_policies": {"payments": [policy(OF_MODELS, "Egress")]}},
        ),
        (
            "NetworkPolicies",
            "payments/fraud",
            {"network_policies": {"payments": [policy({"matchLabels": {naming.MODEL_LABEL: "credit"}})]}},
        ),
        ("PodSecurity", "=restricted", {"namespaces": {"payments": {}}}),
        ("MetricsAPI", "install metrics-server", {"metrics": False}),
        (
            "Prometheus",
            "rollouts.prometheus.addresses",
            {"models": [model(rollout={"analysis": {"prometheus": {"address": "http://other:9090"}}})]},
        ),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(check: str, words: str, changed: dict[str, Any]) -> None:
    found = bad(replace(WHOLE, **changed))
    assert found[check].level is Level.MISSING
    assert words in found[check].message
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchExpressions": [{"key": naming.MODEL_LABEL, "operator": "Exists"}]},
        {"matchExpressions": [{"key": naming.MODEL_LABEL, "operator": "In", "values": ["fraud"]}]},
        {"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]},
    ],
)
def test_a_policy_that_somebody_else_wrote_holds_the_pods_too(selector: dict[str, Any]) -> None:
    assert bad(replace(WHOLE, network_policies={"payments": [policy(selector)]})) == {}


def test_what_may_not_be_read_is_unseen_and_not_missing() -> None:
    why = Unseen("pods is forbidden")
    blind = Facts(
        kubernetes=(1, 33),
        crd_lacks=why,
        operators=why,
        bindings=why,
        metrics=why,
        models=why,
        models_elsewhere=why,
        namespaces={"payments": why},
        network_policies={"payments": why},
    )
    found = findings(blind)
    assert {each.level for each in found} == {Level.UNSEEN}
    assert {each.check for each in found} == {
        *("CRD", "Operator", "Policies", "Access", "NetworkPolicies", "PodSecurity", "MetricsAPI")
    }


def test_namespaces_that_nobody_asked_to_watch_over_are_a_note() -> None:
    plain = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = bad(replace(WHOLE, namespaces={"payments": plain}))
    assert found["Approvals"].level is Level.NOTE


def _answers(cluster: Served, **more: tuple[int, Any]) -> None:
    answers: dict[str, tuple[int, Any]] = {
        "/version": (200, {"major": "1", "minor": "33+"}),
        "/apis/apps/v1/deployments": (200, {"metadata": {}, "items": [operator()]}),
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": (
            200,
            {"metadata": {}, "items": [binding(name) for name in POLICIES]},
        ),
        f"/api/v1/namespaces/{NAMESPACE}": (200, {"metadata": {"labels": WHOLE.namespaces["payments"]}}),
        f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies": (
            200,
            {"metadata": {}, "items": [policy(OF_MODELS)]},
        ),
        **more,
    }

    def answer(_: str, path: str) -> tuple[int, str, bytes] | None:
        found = answers.get(path)
        return (found[0], "application/json", json.dumps(found[1]).encode()) if found else None

    cluster.answer = answer


def test_it_reads_a_cluster_writes_nothing_and_tells_programs(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    _answers(cluster)
    assert run("doctor", "-o", "json") == 3
    found = {each["check"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert {check for check, each in found.items() if each["level"] == "Missing"} == {"Access"}
    assert f"{NAMESPACE}/{NAME} answer everybody" in found["Access"]["message"]
    assert {method for method, _ in cluster.asked} == {"GET"}


def test_a_user_with_few_rights_is_told_what_it_could_not_see(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    forbidden = (403, {"kind": "Status", "reason": "Forbidden", "message": "you may not"})
    everywhere = "/apis/slipway.dev/v1alpha1/modeldeployments"
    _answers(
        cluster,
        **{
            "/apis/apps/v1/deployments": forbidden,
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": forbidden,
            everywhere: forbidden,
            f"/apis/slipway.dev/v1alpha1/namespaces/{NAMESPACE}/modeldeployments": (
                200,
                {"metadata": {}, "items": [model()]},
            ),
        },
    )
    assert run("doctor", "--no-headers") == 4
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines if line.startswith("Unseen")} == {
        "Operator",
        "Policies",
        "Access",
    }
    assert all("you may not" in line for line in lines if line.startswith("Unseen"))
    assert any(line.startswith("Holds") and "PodSecurity" in line for line in lines)


def test_it_knows_the_policies_and_the_settings_by_the_names_that_the_chart_gives_them() -> None:
    templates = Path("charts/slipway/templates")
    text = "".join(path.read_text() for path in templates.glob("policy-*.yaml"))
    made = set(re.findall(r'"slipway[.]policy[.]head" \(list [.$] "([a-z]+)"', text))
    assert made == set(POLICIES) == {name for _, names, _ in _POLICIES for name in names}
    deployment = (templates / "deployment.yaml").read_text()
    named = {each["name"] for each in operator()["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert named <= set(re.findall(r"- name: (SLIPWAY_[A-Z_]+)", deployment))


def test_a_cluster_that_does_not_answer_is_an_error_and_no_finding(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    _answers(cluster, **{"/version": (500, {"kind": "Status", "message": "oh"})})
    assert run("doctor") == 1
    found = capsys.readouterr()
    assert (found.out, "oh" in found.err) == ("", True)
