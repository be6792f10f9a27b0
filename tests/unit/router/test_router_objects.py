"""The Kubernetes objects of a namespace's routers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from slipway.core import naming
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT, ROUTER_DIR
from slipway.core.traffic.envoy.objects import RouterSettings, listeners_map, router_objects, routes_map, told
from slipway.core.traffic.envoy.routes import Arm, Route

SETTINGS = RouterSettings("docker.io/envoyproxy/envoy@sha256:" + "0" * 64)
A = Arm("aaaaaaaaaa", "fraud-aaaaaaaaaa.payments.svc", 8080)
B = Arm("bbbbbbbbbb", "fraud-bbbbbbbbbb.payments.svc", 8080)
FRAUD = Route("fraud", 10000, A, B, weight=10)
OWNERS: list[dict[str, Any]] = [
    {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud", "uid": "u"}
]
#: What etcd and the API server take of a ConfigMap, less what metadata may need.
CONFIG_MAP_BYTES = 1024 * 1024 - 32 * 1024


def built(*routes: Route, settings: RouterSettings = SETTINGS) -> list[dict[str, Any]]:
    return router_objects("payments", routes, settings, OWNERS)


def find(objects: list[dict[str, Any]], kind: str, name: str = "slipway-router") -> dict[str, Any]:
    return next(found for found in objects if (found["kind"], found["metadata"]["name"]) == (kind, name))


def test_a_change_of_weights_is_one_write() -> None:
    before, after = built(FRAUD), built(replace(FRAUD, weight=50))
    changed = [one["metadata"]["name"] for one, other in zip(before, after, strict=True) if one != other]
    assert changed == [routes_map()]


def test_models_come_and_go_without_a_new_pod() -> None:
    assert find(built(), "Deployment") == find(built(FRAUD, Route("other", 10001, A)), "Deployment")


def test_another_bootstrap_is_taken_up_by_new_pods() -> None:
    other = built(FRAUD, settings=replace(SETTINGS, drain_seconds=45))
    assert find(other, "Deployment") != find(built(FRAUD), "Deployment")
    template = find(other, "Deployment")["spec"]["template"]["spec"]
    bootstrap = json.loads(find(other, "ConfigMap", listeners_map())["data"]["bootstrap.yaml"])
    assert '"fixed_delay": "45s"' in json.dumps(bootstrap)
    assert template["terminationGracePeriodSeconds"] > 45


def test_clusters_are_written_before_routes_and_those_before_listeners() -> None:
    kinds = [(one["kind"], one["metadata"]["name"].removeprefix("slipway-router")) for one in built(FRAUD)]
    assert kinds == [
        ("ServiceAccount", ""),
        ("ConfigMap", "-clusters"),
        ("ConfigMap", "-routes"),
        ("ConfigMap", "-listeners"),
        ("Deployment", ""),
        ("HorizontalPodAutoscaler", ""),
        ("PodDisruptionBudget", ""),
    ]


def test_what_routers_were_told_is_remembered() -> None:
    routes = (
        replace(FRAUD, affinity_header="x-user", stable=replace(A, grpc_port=9000)),
        Route("b", 10001, A),
    )
    assert set(told(find(built(*routes), "ConfigMap", routes_map()))) == set(routes)
    with pytest.raises(ValueError, match=r"no routes in routes\.json"):
        told({"data": {}})
    with pytest.raises(ValueError, match="Expecting"):
        told({"data": {"routes.json": "{"}})


def test_a_refused_route_is_not_remembered_as_told() -> None:
    objects = built(FRAUD, Route("bad", 80, A))
    assert told(find(objects, "ConfigMap", routes_map())) == (FRAUD,)


def test_no_config_map_gets_full() -> None:
    # Longest names: what a namespace of 63 letters and a model of 63 letters make.
    routes = [
        Route(
            f"{number:04}" + "m" * 59,
            10000 + number,
            Arm("r" * 10, f"{'m' * 63}-{'r' * 10}.{'n' * 63}.svc.cluster.local", 8080, 9000),
            Arm("s" * 10, f"{'m' * 63}-{'s' * 10}.{'n' * 63}.svc.cluster.local", 8080, 9000),
            weight=50,
            mirror_percent=50,
            affinity_header="x" * 256,
        )
        for number in range(200)
    ]
    objects = built(*routes)
    # As Kubernetes counts: the values alone, not as JSON has to escape them.
    sizes = [
        sum(len(text.encode()) for text in one["data"].values())
        for one in objects
        if one["kind"] == "ConfigMap"
    ]
    assert max(sizes) < CONFIG_MAP_BYTES
    assert len(told(find(objects, "ConfigMap", routes_map()))) >= 60


def test_pods_meet_the_restricted_standard() -> None:
    spec = find(built(FRAUD), "Deployment")["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["image"] == SETTINGS.image
    assert container["resources"]["requests"]["cpu"]
    assert container["resources"]["limits"]["memory"]


def test_any_envoy_image_will_do() -> None:
    """No script, shell or Python: the command, and a file that it reads."""
    spec = find(built(FRAUD), "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["command"] == ["envoy"]
    assert container["args"][:2] == ["-c", f"{ROUTER_DIR}/bootstrap.yaml"]
    assert set(container["lifecycle"]["preStop"]) == {"httpGet"}


def test_the_pods_are_found_by_their_labels_and_scraped() -> None:
    deployment = find(built(FRAUD), "Deployment")["spec"]
    assert (
        deployment["selector"]["matchLabels"]
        == naming.router_labels()
        == deployment["template"]["metadata"]["labels"]
    )
    assert (
        find(built(FRAUD), "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == naming.router_labels()
    )
    annotations = deployment["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ROUTER_ADMIN_PORT)
    assert find(built(FRAUD), "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2


def test_a_drain_is_over_before_liveness_would_end_it() -> None:
    spec = find(built(FRAUD, settings=replace(SETTINGS, drain_seconds=120)), "Deployment")
    (container,) = spec["spec"]["template"]["spec"]["containers"]
    probe = container["livenessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > 120


def test_everything_goes_with_the_last_model_deployment() -> None:
    for one in built(FRAUD):
        assert one["metadata"]["ownerReferences"] == OWNERS
        assert one["metadata"]["namespace"] == "payments"
