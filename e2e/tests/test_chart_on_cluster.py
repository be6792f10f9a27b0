"""The chart on a real cluster: what the API server takes, what the operator may do, how it comes and goes.

The releases here watch one namespace of their own, so that they leave alone whatever else is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.settings import Settings
from e2e.helm import IMAGES, Helm, image_values
from e2e.images.archives import build, load
from e2e.images.catalog import find_image
from e2e.kube import Kube
from e2e.tests.conditions import wait_for
from e2e.tests.installation import Installation

NAMESPACE = "slipway-chart-test"
RELEASE = "charttest"
NAME = f"{RELEASE}-slipway"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:{NAME}"


@pytest.fixture(scope="module")
def helm(settings: Settings) -> Helm:
    return Helm.of(settings)


@pytest.fixture(scope="module")
def values(settings: Settings) -> dict[str, Any]:
    """Values that run the images of this checkout in the release's own namespace only."""
    references = load(build(map(find_image, IMAGES), settings.cache), settings)
    return image_values(references, watchNamespaces=[NAMESPACE], crds={"enabled": False})


@pytest.fixture(scope="module")
def release(installed: Installation, helm: Helm, values: dict[str, Any]) -> Iterator[None]:
    """A second release; the CRD is the first one's."""
    kube = installed.kube
    kube.ensure_namespace(NAMESPACE)
    helm.upgrade(RELEASE, NAMESPACE, values)
    yield
    helm.uninstall(RELEASE, NAMESPACE)
    kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"crds": {"keep": False}, "rbac": {"aggregate": False}, "metrics": {"scrapeAnnotations": False}},
        {
            "watchNamespaces": ["default", "kube-public"],
            "replicas": 1,
            "image": {"tag": "1.0", "digest": "sha256:" + "0" * 64},
            "imagePullSecrets": [{"name": "pull"}],
            "serviceAccount": {"name": "other", "annotations": {"a": "b"}},
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"a": "b"},
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "networkPolicy": {
                "metricsFrom": [{"namespaceSelector": {}}],
                "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"], "ports": [443]},
            },
            "fullnameOverride": "other",
        },
    ],
    ids=["defaults", "loose", "everything"],
)
def test_the_api_server_takes_what_the_chart_renders(kube: Kube, helm: Helm, values: dict[str, Any]) -> None:
    words = ("template", "dry", "charts/slipway", "--namespace=default", "--kube-version=v1.34.4")
    manifests = helm.helm(*words, values=values)
    said = kube.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=manifests)
    assert len(said.splitlines()) == sum(line.startswith("kind: ") for line in manifests.splitlines())
    assert all("(server dry run)" in line for line in said.splitlines())


@pytest.mark.usefixtures("release")
def test_both_replicas_are_ready_under_the_restricted_standard_and_one_leads(kube: Kube) -> None:
    deployment = kube.get("deployment", NAME, NAMESPACE)
    assert deployment is not None
    assert deployment["status"]["readyReplicas"] == 2
    pods = [pod["metadata"]["name"] for pod in kube.items("pods", NAMESPACE)]
    assert _leader(kube) in pods


@pytest.mark.usefixtures("release")
def test_metrics_are_behind_the_service(kube: Kube) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{NAME}-metrics:metrics/proxy/metrics"
    assert "controller_runtime_active_workers" in kube.kubectl("get", "--raw", path)


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(
    ("verb", "resource", "namespace", "allowed"),
    [
        ("watch", "modeldeployments.slipway.dev", NAMESPACE, True),
        ("patch", "modeldeployments.slipway.dev/status", NAMESPACE, True),
        ("create", "deployments.apps", NAMESPACE, True),
        ("delete", "pods", NAMESPACE, True),
        ("create", "events.events.k8s.io", NAMESPACE, True),
        ("update", "leases.coordination.k8s.io", NAMESPACE, True),
        ("patch", "modeldeployments.slipway.dev", NAMESPACE, False),
        ("get", "secrets", NAMESPACE, False),
        ("list", "configmaps", NAMESPACE, True),
        ("create", "rolebindings.rbac.authorization.k8s.io", NAMESPACE, False),
        ("list", "modeldeployments.slipway.dev", "default", False),
        ("create", "pods", "default", False),
        ("get", "leases.coordination.k8s.io", "kube-system", False),
    ],
)
def test_the_operator_may_do_this_and_not_that(
    kube: Kube, verb: str, resource: str, namespace: str, allowed: bool
) -> None:
    whole, _, subresource = resource.partition("/")
    plural, _, group = whole.partition(".")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": plural}
    attributes |= {"subresource": subresource} if subresource else {}
    assert _may(kube, OPERATOR, attributes) == allowed


@pytest.mark.usefixtures("release")
def test_people_get_their_rights_through_the_clusters_own_roles(kube: Kube) -> None:
    def verbs(role: str, resource: str) -> set[str]:
        rules = (kube.get("clusterrole", role) or {})["rules"]
        return {
            verb
            for rule in rules
            if "slipway.dev" in rule.get("apiGroups", ()) and resource in rule["resources"]
            for verb in rule["verbs"]
        }

    # The controller that adds them up takes a moment.
    wait_for(lambda: "create" in verbs("admin", "modeldeployments"), 20, "the roles are not added up")
    for role in ("admin", "edit"):
        assert verbs(role, "modeldeployments") >= {"create", "delete", "patch", "list"}
        assert verbs(role, "modeldeployments/scale") >= {"get", "update"}
        assert verbs(role, "modeldeployments/status") == {"get"}
    assert verbs("view", "modeldeployments") == {"get", "list", "watch"}


@pytest.mark.usefixtures("release")
def test_an_upgrade_replaces_the_replicas_and_another_leads(
    kube: Kube, helm: Helm, values: dict[str, Any]
) -> None:
    before = {pod["metadata"]["name"] for pod in kube.items("pods", NAMESPACE)}
    helm.upgrade(RELEASE, NAMESPACE, values | {"workers": 4})
    wait_for(lambda: _leader(kube) not in before | {""}, 30, "nobody took the lease over")


def test_a_release_leaves_nothing_but_its_lease(kube: Kube, helm: Helm, release: None) -> None:  # noqa: ARG001
    helm.uninstall(RELEASE, NAMESPACE)
    kinds = "deployments,services,networkpolicies,poddisruptionbudgets,roles,rolebindings"
    assert kube.items(kinds, NAMESPACE) == []
    assert kube.get("serviceaccount", NAME, NAMESPACE) is None
    assert kube.get("clusterrole", f"{NAME}-edit") is None
    assert kube.get("crd", "modeldeployments.slipway.dev") is not None


def _leader(kube: Kube) -> str:
    lease = kube.get("lease", "slipway-operator", NAMESPACE)
    return str((lease or {"spec": {}})["spec"].get("holderIdentity", ""))


def _may(kube: Kube, user: str, attributes: dict[str, str]) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = kube.kubectl("create", "--filename=-", "--output=json", stdin=json.dumps(review))
    return bool(json.loads(answer)["status"]["allowed"])
