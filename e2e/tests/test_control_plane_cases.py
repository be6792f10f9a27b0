"""What people met who operate such systems, each case in a namespace of its own, on the real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from e2e.kube import Kube, Object
from e2e.tests import models
from e2e.tests.conditions import condition, events, explain, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import Installation, temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.stage import SMALL

NAME = "fraud"
LABEL = "slipway.dev/revision"
PAUSE = {"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {"untilApproved": True}}]}


class Case:
    """One ModelDeployment in a namespace, and what a person does with it."""

    def __init__(self, kube: Kube, namespace: str, uris: list[str]) -> None:
        self.kube = kube
        self.namespace = namespace
        self.uris = uris

    def apply(self, version: int, rollout: Object | None = None, **more: Any) -> None:
        """A ModelDeployment of a version, from 0 on."""
        self.kube.apply(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": NAME, "namespace": self.namespace},
                "spec": {
                    "model": {"uri": self.uris[version]},
                    "runtime": SMALL,
                    "rollout": rollout or {},
                    **more,
                },
            }
        )

    def ready(self) -> Object:
        return wait_until_ready(self.kube, NAME, self.namespace)

    def paused(self, **rollout: Any) -> Object:
        """Version 0 serves, and version 1 waits for approval at half of the traffic."""
        self.apply(0, {**PAUSE, **rollout})
        self.ready()
        self.apply(1, {**PAUSE, **rollout})
        self.until(lambda found: found.get("rollout", {}).get("phase") == "Paused", 120, "it does not pause")
        return self.status()

    def status(self) -> Object:
        found: Object = (self.kube.get("modeldeployment", NAME, self.namespace) or {}).get("status") or {}
        return found

    def says(self, type_: str) -> Object:
        return condition(self.kube.get("modeldeployment", NAME, self.namespace) or {}, type_)

    def until(self, check: Any, within: float, otherwise: str) -> None:
        wait_for(
            lambda: check(self.status()),
            within,
            lambda: f"{otherwise}\n{explain(self.kube, NAME, self.namespace)}",
        )

    def pods(self, role: str) -> list[Object]:
        found = self.kube.items("pods", self.namespace, f"{LABEL}={self.status()[role]['revision']}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def child(self, role: str) -> str:
        return f"{NAME}-{self.status()[role]['revision']}"

    def do(self, *words: str) -> None:
        self.kube.kubectl(*words, f"--namespace={self.namespace}")

    def told(self, reason: str, type_: str = "Warning") -> list[Object]:
        found = events(self.kube, NAME, self.namespace)
        return [event for event in found if (event["reason"], event["type"]) == (reason, type_)]


@pytest.fixture(scope="module")
def registered(mlflow: Registry, token: str) -> str:
    """A model in MLflow of three versions."""
    name = f"cases-{token}"
    for regularization in (1.0, 0.5, 0.25):
        mlflow.register(name, models.iris(regularization))
    return name


@pytest.fixture
def case(installed: Installation, registered: str) -> Iterator[Case]:
    uris = [f"mlflow://{registered}/{version}" for version in (1, 2, 3)]
    with temporary_namespace(installed.kube, "e2e-case") as namespace:
        yield Case(installed.kube, namespace, uris)


def test_7_what_served_before_takes_over_from_a_revision_that_cannot_come_back(
    case: Case, mlflow: Registry, token: str
) -> None:
    gone = f"gone-{token}"
    version = mlflow.register(gone, models.iris(0.1))
    case.uris[1] = f"mlflow://{gone}/{version}"
    case.apply(0, {"strategy": "Canary", "steps": [{"setWeight": 50}], "scaleDownDelaySeconds": 10})
    case.ready()
    first = case.status()["stable"]["revision"]
    case.apply(1, {"strategy": "Canary", "steps": [{"setWeight": 50}], "scaleDownDelaySeconds": 10})
    case.until(
        lambda found: found["stable"]["revision"] != first and "canary" not in found, 120, "no promotion"
    )
    MlflowClient(mlflow.url).delete_model_version(gone, version)
    case.do("delete", "pods", f"--selector={LABEL}={case.status()['stable']['revision']}", "--wait=false")
    wait_for_condition(case.kube, NAME, "Ready", "False", namespace=case.namespace)
    case.until(lambda _: "set spec.model" in case.says("Ready")["message"], 60, "no way out is said")
    case.apply(0, PAUSE)
    case.until(lambda found: found["stable"]["revision"] == first, 90, "it does not take over")
    wait_for_condition(case.kube, NAME, "Ready", "True", namespace=case.namespace)


def test_7_a_canary_that_waits_for_approval_takes_over_from_a_dead_stable_revision(case: Case) -> None:
    case.paused()
    # No pod of the stable revision starts any more.
    quota = {"apiVersion": "v1", "kind": "ResourceQuota"}
    where = {"name": "full", "namespace": case.namespace}
    case.kube.apply({**quota, "metadata": where, "spec": {"hard": {"pods": "0"}}})
    case.do("delete", "pods", f"--selector={LABEL}={case.status()['stable']['revision']}", "--wait=false")
    wait_for_condition(case.kube, NAME, "Ready", "False", namespace=case.namespace)
    wait_for(lambda: "promote-full" in case.says("Ready").get("message", ""), 30, "no way out is said")
    case.until(lambda found: found["stable"]["version"] == "2", 120, "it does not take over")
    wait_for_condition(case.kube, NAME, "Ready", "True", namespace=case.namespace)


def test_8_a_canary_whose_pod_the_cluster_ends_goes_on_with_its_new_one(case: Case) -> None:
    case.paused()
    (pod,) = case.pods("canary")
    patch = json.dumps({"spec": {"activeDeadlineSeconds": 1}})
    case.do("patch", "pod", pod["metadata"]["name"], f"--patch={patch}")

    def replaced(_: Object) -> bool:
        return any(
            found["metadata"]["uid"] != pod["metadata"]["uid"] and found["status"].get("phase") == "Running"
            for found in case.pods("canary")
        )

    case.until(replaced, 60, "no other pod comes")
    case.until(
        lambda found: found["rollout"]["weight"] == 50 and found["rollout"]["phase"] == "Paused",
        120,
        "it does not go on",
    )
    assert not case.status().get("rejected")


def test_3_a_canary_without_room_ends_at_its_deadline_with_its_cause(case: Case) -> None:
    rollout = {**PAUSE, "progressDeadlineSeconds": 30}
    where = {"name": "memory", "namespace": case.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": where}
    case.kube.apply({**quota, "spec": {"hard": {"requests.memory": "1Ti"}}})
    case.apply(0, rollout)
    case.ready()
    large = {"requests": {"cpu": "10m", "memory": "2Ti"}, "limits": {"memory": "2Ti"}}
    case.apply(1, rollout, runtime={"resources": large})
    case.until(lambda found: bool(found.get("rejected")), 90, "it does not end")
    (rejection,) = case.status()["rejected"]
    assert rejection["message"].startswith("not ready within 30 s: QuotaExceeded: "), rejection
    assert case.says("Ready")["status"] == "True"


def test_19_a_child_that_was_scaled_to_0_gets_its_pods_back(case: Case) -> None:
    case.apply(0, {}, scaling={"minReplicas": 2})
    case.ready()
    case.do("scale", "deployment", case.child("stable"), "--replicas=0")
    wait_for(lambda: len(case.pods("stable")) == 2, 60, "its pods do not come back")
    case.ready()


def test_32_and_2_routers_that_a_limit_range_refuses_are_told_and_the_deadline_counts(case: Case) -> None:
    case.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "tight", "namespace": case.namespace},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "300Mi"}}]},
        }
    )
    small = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "300Mi"}}}
    rollout = {**PAUSE, "progressDeadlineSeconds": 60}
    case.apply(0, rollout, runtime=small)
    wait_for_condition(
        case.kube, NAME, "TrafficSynced", "False", "RouterUnavailable", namespace=case.namespace
    )
    said = case.says("TrafficSynced")["message"]
    assert "maximum memory usage per Container is 300Mi" in said
    assert "router.resources" in said
    assert len(case.told("RouterUnavailable")) == 1
    wait_for_condition(case.kube, NAME, "Ready", "True", namespace=case.namespace)
    case.apply(1, rollout, runtime=small)
    case.until(lambda found: bool(found.get("rejected")), 120, "it does not end")
    assert "maximum memory usage" in case.status()["rejected"][0]["message"]


def test_2_a_quota_on_limits_of_the_cpu_is_met_by_every_container_of_the_pods(case: Case) -> None:
    where = {"name": "cpu", "namespace": case.namespace}
    hard = {"limits.cpu": "4", "limits.memory": "4Gi"}
    case.kube.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": where, "spec": {"hard": hard}})
    limited = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
    case.apply(0, {}, runtime={"resources": limited})
    case.ready()


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
def test_29_a_paused_rollout_is_held(case: Case, strategy: str) -> None:
    case.apply(0, {"strategy": strategy, "paused": True})
    case.ready()
    case.apply(1, {"strategy": strategy, "paused": True})
    wait_for_condition(case.kube, NAME, "Suspended", "True", "Suspended", namespace=case.namespace)
    with pytest.raises(AssertionError):
        wait_for(lambda: case.status()["stable"]["version"] == "2", 20, "held")
    case.apply(1, {"strategy": strategy, "paused": False})
    wait_for_condition(case.kube, NAME, "RolloutComplete", "True", namespace=case.namespace, within=120)
    assert case.status()["stable"]["version"] == "2"


def test_9_another_autoscaler_of_the_same_pods_is_told(case: Case) -> None:
    case.apply(0)
    case.ready()
    target = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "name": NAME}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    case.kube.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "keda-hpa", "namespace": case.namespace},
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": 1,
                "maxReplicas": 4,
                "metrics": [{"type": "Resource", "resource": cpu}],
            },
        }
    )
    wait_for_condition(
        case.kube, NAME, "ScalingActive", "False", "ScalingInactive", namespace=case.namespace, within=120
    )
    assert "AmbiguousSelector" in case.says("ScalingActive")["message"]
    case.do("delete", "hpa", "keda-hpa")
    wait_for(lambda: not case.says("ScalingActive"), 180, "it does not scale again")


def test_11_what_a_deletion_left_behind_is_adopted_without_a_restart(case: Case) -> None:
    case.apply(0)
    case.ready()
    before = {pod["metadata"]["uid"] for pod in case.pods("stable")}
    case.do("delete", "modeldeployment", NAME, "--cascade=orphan")
    case.apply(0)
    case.ready()
    assert {pod["metadata"]["uid"] for pod in case.pods("stable")} == before
    assert not case.told("NameTaken")


def test_14_an_alias_that_is_gone_is_told_once(case: Case, mlflow: Registry, token: str) -> None:
    name = f"alias-{token}"
    mlflow.register(name, models.iris(0.3), "champion")
    case.uris[0] = f"mlflow://{name}@champion"
    case.apply(0, model={"uri": case.uris[0], "refreshSeconds": 5})
    case.ready()
    MlflowClient(mlflow.url).delete_registered_model_alias(name, "champion")
    found = wait_for_condition(
        case.kube, NAME, "ModelResolved", "True", "RefreshFailed", namespace=case.namespace, within=60
    )
    assert found["status"]["refreshFailingSince"] in case.says("ModelResolved")["message"]
    assert case.says("Ready")["status"] == "True"
    wait_for(lambda: len(case.told("RefreshFailed")) == 1, 10, "no Event")
    mlflow.set_alias(name, "champion", "1")
    wait_for_condition(
        case.kube, NAME, "ModelResolved", "True", "Resolved", namespace=case.namespace, within=60
    )


def test_21_a_variable_and_a_sidecar_on_a_child_are_taken_back(case: Case) -> None:
    case.apply(0)
    case.ready()
    child = case.child("stable")
    before = case.kube.get("deployment", child, case.namespace)
    assert before is not None
    template = before["spec"]["template"]["spec"]
    case.do("set", "env", f"deployment/{child}", "DEBUG=1")
    sidecar = {"name": "debug", "image": template["containers"][0]["image"], "command": ["sleep", "9"]}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [sidecar]}}}})
    case.do("patch", "deployment", child, f"--patch={patch}")

    def is_as_before() -> bool:
        found = case.kube.get("deployment", child, case.namespace)
        return found is not None and found["spec"]["template"]["spec"] == template

    wait_for(is_as_before, 60, "it stays")
    wait_for(lambda: bool(case.told("ForeignChange")), 10, "no Event")


def test_15_a_pipeline_waits_for_the_wanted_revision_to_be_stable(case: Case) -> None:
    case.apply(0)
    case.ready()
    case.apply(1)
    words = ("wait", f"modeldeployment/{NAME}", "--for=condition=RolloutComplete", "--timeout=180s")
    case.kube.kubectl(*words, f"--namespace={case.namespace}", seconds=200)
    assert case.status()["stable"]["version"] == "2"


def test_gitops_a_wait_for_a_person_is_suspended_and_no_reconciling(case: Case) -> None:
    case.paused()
    assert case.says("Suspended")["status"] == "True"
    assert not case.says("Reconciling")
    assert case.says("RolloutComplete")["reason"] == "Suspended"


def test_small_a_deleted_controller_revision_of_the_stable_revision_comes_back(case: Case) -> None:
    case.paused()
    child = case.child("stable")
    before = case.kube.get("controllerrevision", child, case.namespace)
    case.do("delete", "controllerrevision", child)

    def is_back() -> bool:
        found = case.kube.get("controllerrevision", child, case.namespace)
        return found is not None and before is not None and found["data"] == before["data"]

    wait_for(is_back, 30, "it does not come back")
