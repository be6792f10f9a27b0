"""What the installed operator may do, what it did, and what Prometheus sees of it and of its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from kubernetes import config
from kubernetes.client import (
    AuthorizationV1Api,
    V1ResourceAttributes,
    V1SubjectAccessReview,
    V1SubjectAccessReviewSpec,
)

from e2e import services
from e2e.cluster.settings import Settings
from e2e.kube import Kube, Object
from e2e.prometheus import Prometheus
from e2e.tests import figures, models
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import RELEASE, SYSTEM_NAMESPACE, Installation, temporary_namespace
from e2e.tests.registry import Registry
from slipway.api import rbac
from slipway.contract import Metric

NAME = "scraped"
#: Where the operator takes calls of registries.
WEBHOOK_PORT = 8083
REQUESTS = 25
#: Prometheus scrapes every few seconds.
SCRAPED_SECONDS = 45.0


@pytest.fixture(scope="module")
def prometheus(settings: Settings, kube: Kube) -> Iterator[Prometheus]:
    services.start(["prometheus"], settings)
    with (
        kube.port_forward("service/prometheus", "monitoring", 9090) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield Prometheus(client)


@pytest.fixture(scope="module")
def served(installed: Installation, mlflow: Registry, token: str) -> Iterator[str]:
    """The namespace of a model that has answered `REQUESTS` requests."""
    kube, model = installed.kube, f"{NAME}-{token}"
    version = mlflow.register(model, models.identity())
    with temporary_namespace(kube, "install") as namespace:
        kube.apply(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {"model": {"uri": f"mlflow://{model}/{version}"}, "scaling": {"maxReplicas": 1}},
            }
        )
        wait_until_ready(kube, NAME, namespace)
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
        with kube.port_forward(f"service/{NAME}", namespace, 80) as url:
            for _ in range(REQUESTS):
                answer = httpx.post(f"{url}/v2/models/{NAME}/infer", json={"inputs": [tensor]})
                assert answer.json()["outputs"][0]["data"] == tensor["data"], answer.text
        yield namespace


@pytest.fixture(scope="module")
def account(installed: Installation, settings: Settings) -> Account:
    """The operator's ServiceAccount, as the release names it."""
    found = installed.kube.get("deployment", RELEASE, SYSTEM_NAMESPACE)
    assert found is not None
    name = found["spec"]["template"]["spec"]["serviceAccountName"]
    client = config.new_client_from_config(str(settings.kubeconfig))  # type: ignore[no-untyped-call]
    return Account(f"system:serviceaccount:{SYSTEM_NAMESPACE}:{name}", AuthorizationV1Api(client))


@dataclass(frozen=True)
class Account:
    """A ServiceAccount, and the API server to ask what it may."""

    user: str
    api: AuthorizationV1Api

    def may(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        plural, _, subresource = resource.partition("/")
        attributes = V1ResourceAttributes(
            verb=verb, group=group, resource=plural, subresource=subresource, namespace=namespace, name=name
        )
        spec = V1SubjectAccessReviewSpec(user=self.user, resource_attributes=attributes)
        answer = self.api.create_subject_access_review(V1SubjectAccessReview(spec=spec))
        assert answer.status is not None
        return bool(answer.status.allowed)


def test_the_operator_may_do_everything_in_its_table(account: Account) -> None:
    tables = ((rbac.WATCHED, "default"), (rbac.OWN_NAMESPACE, SYSTEM_NAMESPACE))
    asked = {
        (verb, permission.group, resource, namespace, name)
        for table, namespace in tables
        for permission in table
        for resource in permission.resources
        for verb in permission.verbs
        for name in permission.names or ("",)
    }
    assert len(asked) > 40
    assert not {question for question in asked if not account.may(*question)}


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace"),
    [
        ("get", "", "secrets", "default"),
        ("list", "", "secrets", SYSTEM_NAMESPACE),
        ("create", "", "namespaces", ""),
        ("list", "", "namespaces", ""),
        ("list", "", "nodes", ""),
        ("create", "", "pods/exec", "default"),
        ("create", "", "serviceaccounts/token", "default"),
        ("patch", "slipway.dev", "modeldeployments", "default"),
        ("delete", "slipway.dev", "modeldeployments", "default"),
        ("deletecollection", "apps", "deployments", "default"),
        ("update", "coordination.k8s.io", "leases", "default"),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "default"),
        ("escalate", "rbac.authorization.k8s.io", "clusterroles", ""),
        ("list", "apiextensions.k8s.io", "customresourcedefinitions", ""),
    ],
)
def test_the_operator_may_not(account: Account, verb: str, group: str, resource: str, namespace: str) -> None:
    assert not account.may(verb, group, resource, namespace)


@pytest.mark.usefixtures("served")
def test_the_operator_is_never_denied_what_it_asks_for(installed: Installation) -> None:
    """RBAC's refusals stand in its log, word for word; those of a quota or a namespace read otherwise."""
    logs = {
        pod["metadata"]["name"]: installed.kube.kubectl(
            "logs", pod["metadata"]["name"], f"--namespace={SYSTEM_NAMESPACE}"
        )
        for pod in figures.operator_pods(installed.kube)
    }
    made = [line for line in logs[figures.leader(installed.kube)].splitlines() if '"creating"' in line]
    for kind in ("Deployment", "Service", "HorizontalPodAutoscaler", "ServiceAccount", "Pod"):
        assert any(f"{kind} " in line.partition('"objects"')[2] for line in made), kind
    assert not [line for log in logs.values() for line in log.splitlines() if "is forbidden: User" in line]


def test_prometheus_scrapes_both_replicas_of_the_operator(
    installed: Installation, served: str, prometheus: Prometheus
) -> None:
    pods = {pod["metadata"]["name"] for pod in figures.operator_pods(installed.kube)}
    assert len(pods) == 2

    def scraped(metric: str) -> dict[str, float]:
        return {one.labels["pod"]: one.last for one in prometheus.query(metric)}

    reconciled = 'sum by (pod) (controller_runtime_reconcile_total{namespace="slipway-system"})'
    wait_for(lambda: pods <= set(scraped(reconciled)), SCRAPED_SECONDS, "not both replicas are scraped")
    leader = figures.leader(installed.kube)
    wait_for(lambda: scraped(reconciled)[leader] > 0, SCRAPED_SECONDS, "the leader's work is not seen")
    leading = 'leader_election_master_status{namespace="slipway-system"}'
    assert {pod: scraped(leading)[pod] for pod in pods} == {pod: float(pod == leader) for pod in pods}

    # Both watch, and name the model's namespace, not their own.
    ready = f'slipway_modeldeployment_ready{{namespace="{served}",name="{NAME}"}}'
    wait_for(
        lambda: {one.labels["pod"] for one in prometheus.query(ready) if one.last == 1} >= pods,
        SCRAPED_SECONDS,
        "not both replicas say that the model is ready",
    )


def test_prometheus_counts_every_request_to_the_model(served: str, prometheus: Prometheus) -> None:
    text = f'sum by (code) ({Metric.REQUESTS.value}{{namespace="{served}"}}) > 0'

    def counted() -> dict[str, float]:
        return {one.labels["code"]: one.last for one in prometheus.query(text)}

    wait_for(
        lambda: sum(counted().values()) >= REQUESTS, SCRAPED_SECONDS, "the model's requests are not seen"
    )
    assert counted() == {"200": REQUESTS}


def test_the_network_policy_selects_the_operators_pods_and_opens_two_ports(installed: Installation) -> None:
    kube = installed.kube
    found = kube.get("networkpolicy", RELEASE, SYSTEM_NAMESPACE)
    assert found is not None
    selector = found["spec"]["podSelector"]["matchLabels"]
    guarded = kube.items(
        "pods", SYSTEM_NAMESPACE, ",".join(f"{key}={value}" for key, value in selector.items())
    )
    names = {pod["metadata"]["name"] for pod in figures.operator_pods(kube)}
    assert names <= {pod["metadata"]["name"] for pod in guarded}
    assert set(found["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert ports(found["spec"]["ingress"]) == {figures.METRICS_PORT, WEBHOOK_PORT}


def test_the_installed_crd_says_that_it_outlives_its_release(installed: Installation) -> None:
    """Helm keeps what says so; removing it would take every ModelDeployment along."""

    def policy(manifest: Object) -> str | None:
        found = manifest["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        return None if found is None else str(found)

    crd = installed.kube.get("crd", "modeldeployments.slipway.dev")
    assert crd is not None
    assert policy(crd) == "keep"


def ports(rules: list[Any]) -> set[int]:
    """The ports that the rules of a NetworkPolicy open."""
    return {port["port"] for rule in rules for port in rule["ports"]}
