"""The chart as Helm renders it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, Tools
from slipway import contract
from slipway.api.pods import PodOptions
from slipway.api.rbac import APPROVE, EDIT, OWN_NAMESPACE, VIEW, WATCHED, Permission
from slipway.core import naming
from slipway.core.allowed import Allowed, GatewayRule
from slipway.core.naming import labels
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT
from slipway.core.traffic.routed import FIRST_PORT, MOST_PORTS
from slipway.environment import Environment, allowed

CHART = Path(__file__).parents[2] / "charts/slipway"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
#: The default tag of the images.
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
DIGEST = "sha256:" + "0123456789abcdef" * 4
Manifest = dict[str, Any]


@functools.cache
def helm_program() -> str:
    """Helm from the cache or PATH; built into the cache where there is none."""
    tools = Tools(read_settings().cache)
    found = shutil.which("helm", path=f"{tools.bin}{os.pathsep}{os.environ['PATH']}")
    return found or str(tools.install(HELM))


#: What the API server says where the Prometheus operator's CRDs are installed.
PROMETHEUS_OPERATOR = "--api-versions=monitoring.coreos.com/v1"


def helm(*words: str, values: Any = None) -> subprocess.CompletedProcess[str]:
    command = [helm_program(), words[0], *words[1:], "--values=-", "--kube-version=v1.34.4"]
    return subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, check=False
    )


@functools.cache
def _rendered(values: str, *more: str) -> str:
    words = ("template", "slipway", str(CHART), "--namespace=slipway-system", *more)
    done = helm(*words, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _manifests(text: str) -> list[Manifest]:
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


def render(**values: Any) -> list[Manifest]:
    return _manifests(_rendered(json.dumps(values)))


def render_beside_prometheus(**values: Any) -> list[Manifest]:
    return _manifests(_rendered(json.dumps(values), PROMETHEUS_OPERATOR))


def find(manifests: list[Manifest], kind: str, name: str = "slipway") -> Manifest:
    [found] = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def kinds(manifests: list[Manifest]) -> set[str]:
    return {found["kind"] for found in manifests}


def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = find(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def environment(manifests: list[Manifest]) -> dict[str, Any]:
    [container] = pod(manifests)["containers"]
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def rules(table: tuple[Permission, ...]) -> list[Manifest]:
    return [permission.rule for permission in table]


def test_an_installation_is_these_objects() -> None:
    found = sorted((one["kind"], one["metadata"]["name"]) for one in render())
    assert found == [
        ("ClusterRole", "slipway"),
        ("ClusterRole", "slipway-edit"),
        ("ClusterRole", "slipway-view"),
        ("ClusterRoleBinding", "slipway"),
        ("ConfigMap", "slipway-dashboard-fleet"),
        ("ConfigMap", "slipway-dashboard-model"),
        ("ConfigMap", "slipway-dashboard-rollout"),
        ("ConfigMap", "slipway-rules"),
        ("CustomResourceDefinition", "modeldeployments.slipway.dev"),
        ("Deployment", "slipway"),
        ("NetworkPolicy", "slipway"),
        ("PodDisruptionBudget", "slipway"),
        ("Role", "slipway-leader"),
        ("RoleBinding", "slipway-leader"),
        ("Service", "slipway-metrics"),
        ("ServiceAccount", "slipway"),
    ]


def test_every_object_carries_the_recommended_labels_and_its_namespace() -> None:
    cluster_wide = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for found in render(watchNamespaces=["payments"]) + render():
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "slipway"
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert ("namespace" in found["metadata"]) == (found["kind"] not in cluster_wide)


def test_operator_pods_are_restricted_and_small() -> None:
    spec = pod(render())
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "192Mi"},
        "limits": {"memory": "512Mi"},
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    assert spec["terminationGracePeriodSeconds"] == 30


def test_two_replicas_are_replaced_one_by_one_and_spread_where_they_can() -> None:
    manifests = render()
    deployment = find(manifests, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    labels = deployment["template"]["metadata"]["labels"]
    for spread in pod(manifests)["topologySpreadConstraints"]:
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
        assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


def test_everything_that_selects_operator_pods_selects_them() -> None:
    manifests = render_beside_prometheus()
    labels = find(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service = find(manifests, "Service", "slipway-metrics")
    selectors = [
        find(manifests, "Deployment")["spec"]["selector"]["matchLabels"],
        find(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        service["spec"]["selector"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    monitor = find(manifests, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_probes_and_metrics_are_on_the_port_that_the_operator_serves() -> None:
    manifests = render()
    [container] = pod(manifests)["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": 8082}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/healthz", "port": "metrics"},
        "liveness": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    annotations = find(manifests, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8082"
    assert find(manifests, "Service", "slipway-metrics")["spec"]["ports"][0]["port"] == 8082


def test_the_operator_is_told_what_the_values_say() -> None:
    assert environment(
        render(
            mlflow={"trackingURI": "http://mlflow.mlflow:5000"},
            watchNamespaces=["payments", "search"],
            workers=8,
            rollouts={"maxConcurrentUpgrades": 3},
            logLevel="DEBUG",
            server={"image": {"pullPolicy": "Never"}},
            imagePullSecrets=[{"name": "pull"}, {"name": "mirror"}],
            env=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        )
    ) == {
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "POD_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "SLIPWAY_SERVER_IMAGE": f"slipway.dev/server:{VERSION}",
        "SLIPWAY_SERVER_IMAGE_PULL_POLICY": "Never",
        "SLIPWAY_CUDA_IMAGE": "",
        "SLIPWAY_AUDIT_IMAGE": f"slipway.dev/audit:{VERSION}",
        "SLIPWAY_AUDIT_IMAGE_PULL_POLICY": "IfNotPresent",
        "SLIPWAY_ROUTER_IMAGE": f"slipway.dev/router:{VERSION}",
        "SLIPWAY_ROUTER_IMAGE_PULL_POLICY": "IfNotPresent",
        "SLIPWAY_ROUTER_LEAST_REPLICAS": "2",
        "SLIPWAY_ROUTER_MOST_REPLICAS": "10",
        "SLIPWAY_ROUTER_RESOURCES": '{"limits":{"memory":"512Mi"},"requests":{"cpu":"100m","memory":"96Mi"}}',
        "SLIPWAY_DOWNLOAD_RESOURCES": '{"limits":{"memory":"256Mi"},"requests":{"cpu":"5m","memory":"32Mi"}}',
        "SLIPWAY_IMAGE_PULL_SECRETS": "pull,mirror",
        "SLIPWAY_MODEL_PODS": "{}",
        "SLIPWAY_MLFLOW_TRACKING_URI": "http://mlflow.mlflow:5000",
        "SLIPWAY_MAX_CONCURRENT_UPGRADES": "3",
        "SLIPWAY_PROMETHEUS_ADDRESSES": "[]",
        "SLIPWAY_GATEWAYS": "[]",
        "SLIPWAY_ACCESS_REQUIRED": "false",
        "SLIPWAY_ISSUERS": "[]",
        "SLIPWAY_WATCH_NAMESPACES": "payments,search",
        "SLIPWAY_WORKERS": "8",
        "SLIPWAY_LOG_LEVEL": "DEBUG",
        "HTTPS_PROXY": "http://proxy:3128",
    }


def test_the_operator_reads_what_the_values_say_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {
        "imagePullSecrets": [{"name": "models"}, {"name": "pull"}],
        "serviceAccountName": "reader",
        "labels": {"team": "risk"},
        "annotations": {"example.com/why": 'it\'s "quoted"'},
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
        "topologySpread": [{"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2}],
    }
    for name, value in environment(render(modelPods=pods, imagePullSecrets=[{"name": "pull"}])).items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    found = Environment.read()
    assert found.settings.image_pull_secrets == found.routers.image_pull_secrets == ("pull", "models")
    assert found.settings.pods == found.routers.pods
    # Those come by ServiceAccounts.
    assert found.settings.pods == PodOptions.model_validate({**pods, "imagePullSecrets": []})


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"repository": "a/cuda"}, f"a/cuda:{VERSION}"),
        ({"repository": "a/cuda", "tag": "1"}, "a/cuda:1"),
        ({"repository": "a/cuda", "digest": DIGEST}, f"a/cuda@{DIGEST}"),
        ({"tag": "1", "digest": DIGEST}, ""),
        (None, ""),
    ],
)
def test_the_operator_has_an_image_for_cuda_where_the_values_name_one(
    image: dict[str, str] | None, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(render(server={"cudaImage": image})).items():
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    found = Environment.read().settings
    assert (found.cuda_image, found.server_image) == (reference, f"slipway.dev/server:{VERSION}")


@pytest.mark.parametrize(
    "pods",
    [
        {"labels": {"slipway.dev/revision": "a"}},
        {"labels": {"app.kubernetes.io/component": "a"}},
        {"labels": {"pod-template-hash": "a"}},
        {"labels": {"a b": "a"}},
        {"labels": {"a": "b c"}},
        {"labels": {f"k{number}": "" for number in range(33)}},
        {"annotations": {"prometheus.io/port": "1"}},
        {"annotations": {"eks.amazonaws.com/skip-containers": ""}},
        {"annotations": {"a": "b" * 4097}},
        {"serviceAccountName": "Reader"},
        {"imagePullSecrets": ["pull"]},
        {"topologySpread": [{"maxSkew": 1}]},
        {"topologySpread": [{"topologyKey": "a", "labelSelector": {}}]},
        {"volumes": []},
    ],
    ids=str,
)
def test_what_pods_cannot_have_is_refused_by_the_chart(pods: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="modelPods"):
        render(modelPods=pods)


def test_what_the_operator_cannot_read_of_pods_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SERVER_IMAGE", "slipway.dev/server:1")
    monkeypatch.setenv("SLIPWAY_ROUTER_IMAGE", "slipway.dev/router:1")
    monkeypatch.setenv("SLIPWAY_MODEL_PODS", '{"labels": {"a": 1}}')
    with pytest.raises(SystemExit, match=r"SLIPWAY_MODEL_PODS: labels\.a: "):
        Environment.read()


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"slipway.dev/server:{VERSION}"),
        ({"tag": "1.2"}, "slipway.dev/server:1.2"),
        ({"digest": DIGEST}, f"slipway.dev/server@{DIGEST}"),
        ({"tag": "1.2", "digest": DIGEST}, f"slipway.dev/server:1.2@{DIGEST}"),
        ({"repository": "localhost:5000/a/b"}, f"localhost:5000/a/b:{VERSION}"),
    ],
)
def test_an_image_is_named_by_tag_digest_or_both(image: dict[str, str], reference: str) -> None:
    assert environment(render(server={"image": image}))["SLIPWAY_SERVER_IMAGE"] == reference
    [container] = pod(render(image=image))["containers"]
    assert container["image"] == reference.replace("slipway.dev/server", "slipway.dev/operator")


def test_the_cluster_wide_role_is_the_table() -> None:
    manifests = render()
    assert find(manifests, "ClusterRole")["rules"] == rules(WATCHED)
    binding = find(manifests, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "slipway"
    subject = {"kind": "ServiceAccount", "name": "slipway", "namespace": "slipway-system"}
    assert binding["subjects"] == [subject]


def test_with_a_list_of_namespaces_the_same_rights_hold_in_these_only() -> None:
    manifests = render(watchNamespaces=["payments", "search"], rbac={"aggregate": False})
    assert kinds(manifests).isdisjoint({"ClusterRole", "ClusterRoleBinding"})
    found = {
        (one["kind"], one["metadata"]["namespace"]): one
        for one in manifests
        if one["kind"] in ("Role", "RoleBinding") and one["metadata"]["name"] == "slipway"
    }
    assert set(found) == {(kind, name) for kind in ("Role", "RoleBinding") for name in ("payments", "search")}
    for name in ("payments", "search"):
        assert found["Role", name]["rules"] == rules(WATCHED)
        assert found["RoleBinding", name]["subjects"][0]["namespace"] == "slipway-system"


POLICIES = ("approvals", "protected", "signers", "signed", "secrets", "pods", "operator")
ALL_POLICIES = {"approvals": True, "borrowing": True, "operator": {"enabled": True}}


def test_policies_are_there_where_they_are_asked_for_and_each_is_bound() -> None:
    kind = "ValidatingAdmissionPolicy"
    assert kind not in kinds(render())
    found = render(policies=ALL_POLICIES)
    names = {one["metadata"]["name"] for one in found if one["kind"] == kind}
    assert names == {f"slipway-{name}" for name in POLICIES}
    bound = {one["spec"]["policyName"] for one in found if one["kind"] == f"{kind}Binding"}
    assert bound == names
    assert find(found, "ClusterRole", "slipway-approve")["rules"] == rules(APPROVE)


def test_policies_hold_where_the_operator_watches_and_its_own_everywhere() -> None:
    found = render(policies=ALL_POLICIES, watchNamespaces=["payments"])
    for name in POLICIES:
        spec = find(found, "ValidatingAdmissionPolicyBinding", f"slipway-{name}")["spec"]
        selected = spec.get("matchResources", {}).get("namespaceSelector", {}).get("matchExpressions", [])
        listed = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["payments"]}
        assert (listed in selected) == (name != "operator")


@pytest.mark.parametrize("part", [{"approvals": True}, {"borrowing": True}, {"operator": {"enabled": True}}])
def test_policies_that_kubernetes_does_not_have_are_refused_with_what_to_do(part: dict[str, Any]) -> None:
    words = ["template", "slipway", str(CHART), "--values=-", "--kube-version=v1.29.9"]
    told = subprocess.run(
        [helm_program(), *words],
        input=json.dumps({"policies": part}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode != 0
    assert "which Kubernetes has from 1.30 on; this is v1.29.9: upgrade the cluster" in told.stderr


def test_leases_are_in_the_operators_own_namespace() -> None:
    for manifests in (render(), render(watchNamespaces=["payments"])):
        role = find(manifests, "Role", "slipway-leader")
        assert (role["metadata"]["namespace"], role["rules"]) == ("slipway-system", rules(OWN_NAMESPACE))


def test_people_get_their_rights_by_the_clusters_own_roles() -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    for name, table, roles in (("edit", EDIT, {"edit", "admin"}), ("view", VIEW, {"view"})):
        found = find(render(), "ClusterRole", f"slipway-{name}")
        assert found["rules"] == rules(table)
        labels = found["metadata"]["labels"]
        assert {label.removeprefix(prefix) for label in labels if label.startswith(prefix)} == roles


def test_the_crd_can_be_left_out_or_be_deleted_with_the_release() -> None:
    kept = find(render(), "CustomResourceDefinition", "modeldeployments.slipway.dev")
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    loose = find(render(crds={"keep": False}), "CustomResourceDefinition", "modeldeployments.slipway.dev")
    assert "annotations" not in loose["metadata"]
    assert loose["spec"] == kept["spec"]
    assert "CustomResourceDefinition" not in kinds(render(crds={"enabled": False}))


def test_prometheus_and_its_operator_get_the_generated_rules() -> None:
    rules = (CHART / "rules/slipway.yaml").read_text()
    plain = find(render(), "ConfigMap", "slipway-rules")
    assert yaml.safe_load(plain["data"]["slipway.yaml"]) == yaml.safe_load(rules)
    beside = render_beside_prometheus(metrics={"rules": {"labels": {"release": "kube-prometheus"}}})
    operated = find(beside, "PrometheusRule")
    assert operated["spec"] == yaml.safe_load(rules)
    assert operated["metadata"]["labels"]["release"] == "kube-prometheus"
    assert not [one for one in beside if one["metadata"]["name"] == "slipway-rules"]
    kinds_of_prometheus = {"PrometheusRule", "ServiceMonitor", "PodMonitor"}
    assert kinds(beside) >= kinds_of_prometheus
    assert kinds(render()).isdisjoint(kinds_of_prometheus)


def test_grafanas_sidecar_finds_every_dashboard() -> None:
    found = [one for one in render() if "dashboard" in one["metadata"]["name"]]
    files = {path.name: path.read_text() for path in (CHART / "dashboards").iterdir()}
    assert {name: text for one in found for name, text in one["data"].items()} == files
    assert all(one["metadata"]["labels"]["grafana_dashboard"] == "1" for one in found)


def test_routers_are_scraped_with_the_labels_that_counts_need() -> None:
    monitor = find(render_beside_prometheus(), "PodMonitor", "slipway-routers")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= naming.router_labels().items()
    assert monitor["podMetricsEndpoints"][0]["path"] == "/stats/prometheus"


def test_model_servers_are_scraped_where_they_are_watched() -> None:
    monitor = find(render_beside_prometheus(), "PodMonitor", "slipway-models")["spec"]
    assert monitor["namespaceSelector"] == {"any": True}
    assert monitor["selector"]["matchLabels"].items() <= labels("fraud", "model-server").items()
    some = render_beside_prometheus(watchNamespaces=["payments"])
    narrow = find(some, "PodMonitor", "slipway-models")["spec"]
    assert narrow["namespaceSelector"] == {"matchNames": ["payments"]}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"podDisruptionBudget": {"enabled": False}}, "PodDisruptionBudget"),
        ({"networkPolicy": {"enabled": False}}, "NetworkPolicy"),
        ({"serviceAccount": {"create": False}}, "ServiceAccount"),
        ({"rbac": {"create": False}}, "ClusterRoleBinding"),
    ],
)
def test_a_part_can_be_left_out(values: dict[str, Any], kind: str) -> None:
    assert kinds(render()) - kinds(render(**values)) >= {kind}


def test_the_network_policy_lets_in_metrics_and_out_dns_and_the_api_server() -> None:
    policy = find(render(), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": 8082, "protocol": "TCP"}]}]
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert ports == [[53, 53], [9902], [8081], [443, 6443]]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    values = {"metricsFrom": [peer], "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [6443]}}
    narrow = find(render(networkPolicy=values), "NetworkPolicy")["spec"]
    assert narrow["ingress"][0]["from"] == [peer]
    assert narrow["egress"][3] == {
        "ports": [{"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
    }


def test_the_network_policy_lets_the_operator_ask_a_prometheus_that_rollouts_name() -> None:
    addresses = [
        "http://prometheus.monitoring:9090",
        "https://metrics.example.com/team",
        "http://[fd00::1]:9091",
    ]
    values = {"rollouts": {"prometheus": {"addresses": addresses}}}
    policy = find(render(networkPolicy={"prometheusPorts": [9093, 9090]}, **values), "NetworkPolicy")["spec"]
    ports = [{"port": port, "protocol": "TCP"} for port in (9093, 9090, 443, 9091)]
    assert {"ports": ports} in policy["egress"]


def test_the_operator_reaches_issuers_that_are_allowed_and_is_told_which() -> None:
    issuers = ["https://sso.example.com/jwks.json", "https://sso.example.com:8443/a?b=c"]
    found = render(access={"issuers": issuers}, networkPolicy={"enabled": True})
    ports = [{"port": port, "protocol": "TCP"} for port in (443, 8443)]
    assert {"ports": ports} in find(found, "NetworkPolicy")["spec"]["egress"]
    assert json.loads(str(environment(found)["SLIPWAY_ISSUERS"])) == issuers


def test_the_operator_is_told_what_the_installation_allows() -> None:
    rules = [{"namespaces": ["payments"], "gateways": ["gateways/public"], "hostnames": ["*.example.com"]}]
    address = "http://prometheus.monitoring:9090"
    for values, expected in (
        ({}, Allowed()),
        (
            {"gatewayAPI": {"allow": rules}, "rollouts": {"prometheus": {"addresses": [address]}}},
            Allowed(
                frozenset({address}),
                (GatewayRule(frozenset({"payments"}), frozenset({"gateways/public"}), ("*.example.com",)),),
            ),
        ),
    ):
        (container,) = find(render(**values), "Deployment")["spec"]["template"]["spec"]["containers"]
        env = {one["name"]: one.get("value", "") for one in container["env"]}
        assert allowed(env["SLIPWAY_PROMETHEUS_ADDRESSES"], env["SLIPWAY_GATEWAYS"]) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"rollouts": {"prometheus": {"addresses": ["http://a:b@prometheus.monitoring:9090"]}}},
        {"rollouts": {"prometheus": {"addresses": ["prometheus.monitoring:9090"]}}},
        {"gatewayAPI": {"allow": [{"namespaces": ["a"], "gateways": ["public"], "hostnames": ["*"]}]}},
        {"gatewayAPI": {"allow": [{"namespaces": ["a"], "gateways": ["b/c"]}]}},
        {"gatewayAPI": {"allow": [{"namespaces": ["a"], "gateways": ["b/c"], "hostnames": ["a.*.com"]}]}},
    ],
)
def test_lists_of_what_is_allowed_that_allow_nothing_are_refused(values: Any) -> None:
    assert helm("template", "slipway", str(CHART), values=values).returncode != 0


def test_the_routers_network_policy_lets_in_requests_and_reads_of_counters_alone() -> None:
    assert [one["metadata"]["name"] for one in render() if one["kind"] == "NetworkPolicy"] == ["slipway"]
    wide = router_policies(router={"networkPolicy": {"namespaces": ["a", "b"]}})
    assert [one["metadata"]["namespace"] for one in wide] == ["a", "b"]
    spec = wide[0]["spec"]
    assert (spec["policyTypes"], len(spec["ingress"])) == (["Ingress"], 2)
    listeners, counters = (rule["ports"] for rule in spec["ingress"])
    ports = {"port": FIRST_PORT, "endPort": FIRST_PORT + MOST_PORTS - 1, "protocol": "TCP"}
    assert listeners == [ports]
    assert counters == [{"port": ROUTER_ADMIN_PORT, "protocol": "TCP"}]
    assert all("from" not in rule for rule in spec["ingress"])
    # It holds for pods of both groups, as the operator labels them.
    for group in ("", "fraud"):
        assert spec["podSelector"]["matchLabels"].items() <= naming.router_labels(group).items()


def test_the_routers_network_policy_can_be_narrowed_and_never_shuts_the_operator_out() -> None:
    values = render()
    operator = find(values, "Deployment")["spec"]["template"]["metadata"]["labels"]
    client, scraper = {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}
    (policy,) = router_policies(
        router={"networkPolicy": {"namespaces": ["a"], "clientsFrom": [client]}},
        networkPolicy={"metricsFrom": [scraper]},
    )
    listeners, counters = policy["spec"]["ingress"]
    assert listeners["from"] == [client]
    own, other = counters["from"]
    assert other == scraper
    assert own["podSelector"]["matchLabels"].items() <= operator.items()
    where = own["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert where == find(values, "Deployment")["metadata"]["namespace"]


def test_the_model_servers_network_policy_lets_in_requests_and_reads_of_counters_alone() -> None:
    wide = policies("slipway-model-servers", modelServers={"networkPolicy": {"namespaces": ["a", "b"]}})
    assert [one["metadata"]["namespace"] for one in wide] == ["a", "b"]
    spec = wide[0]["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    requests, counters = ([port["port"] for port in rule["ports"]] for rule in spec["ingress"])
    assert (requests, counters) == ([contract.HTTP_PORT, contract.GRPC_PORT], [contract.ADMIN_PORT])
    assert all("from" not in rule for rule in spec["ingress"])
    chosen = spec["podSelector"]["matchLabels"].items()
    assert chosen <= naming.labels("fraud", "model-server", "abc").items()
    assert not chosen <= naming.labels("fraud", "resolver").items()


def test_the_model_servers_network_policy_never_shuts_out_routers_or_the_operator() -> None:
    client, scraper = {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}
    (policy,) = policies(
        "slipway-model-servers",
        modelServers={"networkPolicy": {"namespaces": ["a"], "clientsFrom": [client]}},
        networkPolicy={"metricsFrom": [scraper]},
    )
    requests, counters = policy["spec"]["ingress"]
    routers, other = requests["from"]
    assert other == client
    assert set(routers) == {"podSelector"}, "of the pods' own namespace"
    for group in ("", "fraud"):
        assert routers["podSelector"]["matchLabels"].items() <= naming.router_labels(group).items()
    own, other = counters["from"]
    assert other == scraper
    operator = find(render(), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert own["podSelector"]["matchLabels"].items() <= operator.items()


def router_policies(**values: Any) -> list[dict[str, Any]]:
    return policies("slipway-routers", **values)


def policies(name: str, **values: Any) -> list[dict[str, Any]]:
    return [
        one for one in render(**values) if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == name
    ]


def test_the_network_policy_lets_the_operator_ask_mlflow_where_it_is_told_of_one() -> None:
    for uri, port in (
        ("http://mlflow.mlflow:5000", 5000),
        ("http://mlflow.mlflow", 80),
        ("https://mlflow.example.com/team", 443),
    ):
        policy = find(render(mlflow={"trackingURI": uri}), "NetworkPolicy")["spec"]
        assert {"ports": [{"port": port, "protocol": "TCP"}]} in policy["egress"]


def test_the_webhook_takes_its_token_from_the_secret_that_is_named() -> None:
    assert "SLIPWAY_WEBHOOK_TOKEN" not in environment(render())
    found = environment(render(webhook={"tokenSecret": {"name": "hook", "key": "word"}}))
    assert found["SLIPWAY_WEBHOOK_TOKEN"] == {"secretKeyRef": {"name": "hook", "key": "word"}}


def test_the_webhook_has_a_port_of_its_own_only_where_it_has_a_token() -> None:
    def ports(found: list[Manifest]) -> tuple[list[int], list[int], list[list[int]]]:
        (container,) = find(found, "Deployment")["spec"]["template"]["spec"]["containers"]
        services = [one for one in found if one["kind"] == "Service"]
        policy = find(found, "NetworkPolicy")["spec"]["ingress"]
        return (
            [port["containerPort"] for port in container["ports"]],
            [port["port"] for one in services for port in one["spec"]["ports"]],
            [[port["port"] for port in rule["ports"]] for rule in policy],
        )

    assert ports(render()) == ([8082], [8082], [[8082]])
    scraper, caller = {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}
    values = {"tokenSecret": {"name": "hook"}, "from": [caller]}
    with_token = render(webhook=values, networkPolicy={"metricsFrom": [scraper]})
    assert ports(with_token) == ([8082, 8083], [8082, 8083], [[8082], [8083]])
    metrics, webhook = find(with_token, "NetworkPolicy")["spec"]["ingress"]
    assert (metrics["from"], webhook["from"]) == ([scraper], [caller])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
        ({"workers": "8"}, "at '/workers': got string, want integer"),
        (
            {"rollouts": {"maxConcurrentUpgrades": 0}},
            "at '/rollouts/maxConcurrentUpgrades': minimum: got 0, want 1",
        ),
        ({"replica": 2}, "at '': additional properties 'replica' not allowed"),
        ({"image": {"tags": "1"}}, "at '/image': additional properties 'tags' not allowed"),
        ({"image": {"repository": ""}}, "at '/image/repository': '' does not match pattern"),
        (
            {"server": {"image": {"digest": "latest"}}},
            "at '/server/image/digest': 'latest' does not match pattern",
        ),
        (
            {"mlflow": {"trackingURI": "mlflow:5000"}},
            "at '/mlflow/trackingURI': 'mlflow:5000' does not match",
        ),
        ({"watchNamespaces": "payments"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
        ({"logLevel": "debug"}, "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ({"crds": {"keep": "yes"}}, "at '/crds/keep': got string, want boolean"),
        ({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, "at '/networkPolicy/apiServer/cidrs/0':"),
        ({"access": {"issuers": ["http://sso.example.com/a"]}}, "at '/access/issuers/0':"),
        ({"access": {"issuers": ["https://me@sso.example.com/"]}}, "at '/access/issuers/0':"),
        (
            {"router": {"networkPolicy": {"namespaces": ["A"]}}},
            "at '/router/networkPolicy/namespaces/0': 'A' does not match pattern",
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_path(values: dict[str, Any], says: str) -> None:
    done = helm("template", "slipway", str(CHART), values=values)
    assert done.returncode != 0
    assert says in done.stderr


def test_lint_has_nothing_to_say() -> None:
    done = helm("lint", str(CHART), "--strict", "--quiet")
    assert (done.returncode, done.stdout.strip()) == (0, "")


def leaves(values: Any, path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and name != "resources":
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


#: For every value another one, and more that must be set for it to count.
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "replicas": (3, {}),
    "image.repository": ("a/b", {}),
    "image.tag": ("1", {}),
    "image.digest": (DIGEST, {}),
    "image.pullPolicy": ("Always", {}),
    "server.image.repository": ("a/b", {}),
    "server.image.tag": ("1", {}),
    "server.image.digest": (DIGEST, {}),
    "server.image.pullPolicy": ("Always", {}),
    "server.cudaImage.repository": ("a/b", {}),
    "server.cudaImage.tag": ("1", {"server": {"cudaImage": {"repository": "a/b"}}}),
    "server.cudaImage.digest": (DIGEST, {"server": {"cudaImage": {"repository": "a/b"}}}),
    "audit.image.repository": ("a/b", {}),
    "audit.image.tag": ("1", {}),
    "audit.image.digest": (DIGEST, {}),
    "audit.image.pullPolicy": ("Always", {}),
    "router.image.repository": ("a/b", {}),
    "router.image.tag": ("1", {}),
    "router.image.digest": (DIGEST, {}),
    "router.image.pullPolicy": ("Always", {}),
    "router.minReplicas": (1, {}),
    "router.maxReplicas": (3, {}),
    "router.resources": ({"limits": {"cpu": "1"}}, {}),
    "downloads.resources": ({"limits": {"cpu": "1"}}, {}),
    "modelServers.networkPolicy.namespaces": (["a"], {}),
    "modelServers.networkPolicy.clientsFrom": (
        [{"podSelector": {}}],
        {"modelServers": {"networkPolicy": {"namespaces": ["a"]}}},
    ),
    "router.networkPolicy.namespaces": (["a"], {}),
    "router.networkPolicy.clientsFrom": (
        [{"podSelector": {}}],
        {"router": {"networkPolicy": {"namespaces": ["a"]}}},
    ),
    "webhook.tokenSecret.name": ("webhook", {}),
    "webhook.from": ([{"podSelector": {}}], {"webhook": {"tokenSecret": {"name": "webhook"}}}),
    "webhook.tokenSecret.key": ("other", {"webhook": {"tokenSecret": {"name": "webhook"}}}),
    "imagePullSecrets": ([{"name": "pull"}], {}),
    "modelPods.imagePullSecrets": ([{"name": "pull"}], {}),
    "modelPods.serviceAccountName": ("reader", {}),
    "modelPods.labels": ({"team": "risk"}, {}),
    "modelPods.annotations": ({"a": "b"}, {}),
    "modelPods.priorityClassName": ("high", {}),
    "modelPods.runtimeClassName": ("gvisor", {}),
    "modelPods.topologySpread": ([{"topologyKey": "topology.kubernetes.io/zone"}], {}),
    "mlflow.trackingURI": ("http://mlflow:5000", {}),
    "access.required": (True, {}),
    "access.issuers": (["https://sso.example.com/jwks.json"], {}),
    "policies.approvals": (True, {}),
    "policies.borrowing": (True, {}),
    "policies.operator.enabled": (True, {}),
    "policies.operator.serviceAccountNames": (["reader"], {"policies": {"operator": {"enabled": True}}}),
    "policies.operator.tokenAudiences": (["mine"], {"policies": {"operator": {"enabled": True}}}),
    "gatewayAPI.allow": ([{"namespaces": ["a"], "gateways": ["b/c"], "hostnames": ["*"]}], {}),
    "rollouts.maxConcurrentUpgrades": (1, {}),
    "rollouts.prometheus.addresses": (["http://prometheus:9090"], {}),
    "watchNamespaces": (["a"], {}),
    "workers": (1, {}),
    "logLevel": ("DEBUG", {}),
    "crds.enabled": (False, {}),
    "crds.keep": (False, {}),
    "rbac.create": (False, {}),
    "rbac.aggregate": (False, {}),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("other", {}),
    "serviceAccount.annotations": ({"a": "b"}, {}),
    "resources": ({"limits": {"memory": "768Mi"}}, {}),
    "env": ([{"name": "A", "value": "b"}], {}),
    "podAnnotations": ({"a": "b"}, {}),
    "podLabels": ({"a": "b"}, {}),
    "priorityClassName": ("system-cluster-critical", {}),
    "nodeSelector": ({"a": "b"}, {}),
    "tolerations": ([{"operator": "Exists"}], {}),
    "affinity": ({"nodeAffinity": {}}, {}),
    "podDisruptionBudget.enabled": (False, {}),
    "networkPolicy.enabled": (False, {}),
    "networkPolicy.metricsFrom": ([{"podSelector": {}}], {}),
    "networkPolicy.apiServer.cidrs": (["10.0.0.1/32"], {}),
    "networkPolicy.apiServer.ports": ([6443], {}),
    "networkPolicy.prometheusPorts": ([9090], {}),
    "metrics.scrapeAnnotations": (False, {}),
    "metrics.serviceMonitor.enabled": (False, {}),
    "metrics.serviceMonitor.interval": ("1m", {}),
    "metrics.serviceMonitor.labels": ({"a": "b"}, {}),
    "metrics.rules.enabled": (False, {}),
    "metrics.rules.labels": ({"a": "b"}, {}),
    "metrics.dashboards.enabled": (False, {}),
    "metrics.dashboards.labels": ({"a": "b"}, {}),
    "metrics.dashboards.annotations": ({"a": "b"}, {}),
    "nameOverride": ("other", {}),
    "fullnameOverride": ("other", {}),
}


def test_every_value_has_its_case() -> None:
    assert set(OTHERS) == set(leaves(VALUES))


@pytest.mark.parametrize("path", OTHERS)
def test_no_value_is_accepted_and_ignored(path: str) -> None:
    value, more = OTHERS[path]
    changed = json.loads(json.dumps(more))
    node = changed
    *parents, last = path.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    assert render_beside_prometheus(**changed) != render_beside_prometheus(**more)


def test_helm_show_values_explains_every_value_as_the_schema_does() -> None:
    """By the comment above it, which `python -m slipway.api.docs` writes."""
    readme = (CHART / "README.md").read_text().splitlines()
    meanings = {
        line.split("`")[1]: line.split(" | ")[2].removesuffix(" |") for line in readme if "| `" in line
    }
    told: dict[str, str] = {}
    parents: list[str] = []
    comment: list[str] = []
    for line in helm_show_values().splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.strip(" #"))
        elif ":" in line:
            depth = (len(line) - len(line.lstrip())) // 2
            parents[depth:] = [line.strip().partition(":")[0]]
            told[".".join(parents)] = " ".join(comment)
        if not line.lstrip().startswith("#"):
            comment = []
    assert {path: told[path] for path in leaves(VALUES)} == {path: meanings[path] for path in leaves(VALUES)}


def helm_show_values() -> str:
    command = [helm_program(), "show", "values", str(CHART)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_value_is_described_in_the_schema() -> None:
    readme = (CHART / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} == set(leaves(VALUES))
    assert all(row.split(" | ")[2].strip(" |") for row in rows)
