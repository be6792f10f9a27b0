"""What goes wrong around the model: pods, quotas, names and what else a namespace holds.

One function a case: break it, see it told, fix it, see it serve.
"""

from __future__ import annotations

import json

from e2e.cluster.errors import ClusterError
from e2e.tests import models
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.pods import READER
from e2e.tests.stage import GOOD, Case, Stage, collecting

CASES: list[Case] = []
case = collecting(CASES)

CRD = "customresourcedefinition/modeldeployments.slipway.dev"


@case
def a_probe_that_fails(stage: Stage) -> None:
    uri = stage.shelf.put("/endless.onnx", models.endless().SerializeToString())
    secret = stage.trusting("endless-store")
    limited = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
    stage.create("endless", uri, secret=secret, runtime={"resources": limited})
    stage.fails("endless", "ModelResolved", "ModelHazard", "node 'y' (Loop) may run 1000000000000 times")
    stage.patch("endless", {"model": {"verify": {"hazards": {"onFinding": "Report"}}}})
    stage.fails("endless", "RevisionReady", "ProbeFailing", "does not answer its readiness probe")
    stage.patch("endless", {"model": {"uri": stage.shelf.put("/finite.onnx", GOOD)}})
    stage.recovers("endless")


@case
def a_quota_that_leaves_no_room_for_model_pods(stage: Stage) -> None:
    namespace = stage.own_namespace("e2e-quota")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": namespace},
    }
    # Enough for the pod that resolves, which asks for 64 Mi.
    stage.kube.apply(quota | {"spec": {"hard": {"requests.memory": "100Mi"}}})
    stage.create("rich", stage.good_uri, namespace=namespace, runtime={"resources": {}})
    stage.fails("rich", "RevisionReady", "QuotaExceeded", "exceeded quota: small", namespace=namespace)
    stage.kube.apply(quota | {"spec": {"hard": {"requests.memory": "10Gi"}}})
    stage.recovers("rich", namespace)


@case
def a_quota_that_leaves_no_room_for_the_resolver(stage: Stage) -> None:
    namespace = stage.own_namespace("e2e-quota")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
    }
    stage.kube.apply(quota | {"spec": {"hard": {"pods": "0"}}})
    stage.create("poor", stage.good_uri, namespace=namespace)
    stage.fails("poor", "ModelResolved", "QuotaExceeded", "exceeded quota: none", namespace=namespace)
    stage.kube.apply(quota | {"spec": {"hard": {"pods": "10"}}})
    stage.recovers("poor", namespace)


@case
def a_limit_range_that_refuses_the_resolver(stage: Stage) -> None:
    namespace = stage.own_namespace("e2e-range")
    stage.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "tight", "namespace": namespace},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
        }
    )
    stage.create("tight", stage.good_uri, namespace=namespace)
    says = "maximum memory usage per Container is 128Mi"
    stage.fails("tight", "ModelResolved", "PodRefused", says, namespace=namespace)
    stage.kube.kubectl("delete", "limitrange", "tight", f"--namespace={namespace}")
    stage.recovers("tight", namespace)


@case
def an_image_that_cannot_be_pulled(stage: Stage) -> None:
    image = "registry.invalid/nothing:1"
    stage.create("pull", stage.good_uri, runtime={"image": image})
    stage.fails("pull", "RevisionReady", "ImagePullFailed", image)
    stage.patch("pull", {"runtime": {"image": ""}})
    stage.recovers("pull")


@case
def a_node_that_is_not_there(stage: Stage) -> None:
    label = f"slipway.test/{stage.token}"
    stage.create("homeless", stage.good_uri, runtime={"nodeSelector": {label: "yes"}})
    stage.fails("homeless", "ModelResolved", "Unschedulable", "node affinity/selector")
    node = stage.kube.items("nodes")[0]["metadata"]["name"]
    stage.leaving.callback(stage.kube.kubectl, "label", "node", node, f"{label}-")
    stage.kube.kubectl("label", "node", node, f"{label}=yes")
    stage.recovers("homeless")


@case
def a_pod_that_no_node_can_hold(stage: Stage) -> None:
    stage.create("giant", stage.good_uri, runtime={"resources": {"requests": {"cpu": "1000"}}})
    stage.fails("giant", "RevisionReady", "Unschedulable", "Insufficient cpu")
    stage.patch("giant", {"runtime": {"resources": {"requests": {"cpu": "10m"}}}})
    stage.recovers("giant")


@case
def a_device_that_no_node_offers(stage: Stage) -> None:
    """Devices are what the node's status has, where a vendor's plugin writes it by way of the kubelet."""
    device = f"slipway.test/gpu-{stage.token}"
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "extended": {device: 1}}
    stage.create("device", stage.good_uri, runtime={"resources": resources})
    says = f"Nodes offer {device} where its device plugin runs"
    stage.fails("device", "RevisionReady", "Unschedulable", says)
    _offer(stage, device)
    stage.recovers("device")


@case
def a_gpu_that_cuda_does_not_start_on(stage: Stage) -> None:
    """The installation has no image for CUDA; its own server has none either, and there is no driver."""
    device = f"slipway.test/cuda-{stage.token}"
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "extended": {device: 1}}
    stage.create("cuda", stage.good_uri, runtime={"device": "CUDA", "resources": resources})
    stage.fails("cuda", "Ready", "CUDAImageMissing", "have the chart's value server.cudaImage set")
    _offer(stage, device)
    stage.patch("cuda", {"runtime": {"image": stage.server_image}})
    says = "of this image has no CUDA: leave spec.runtime.image out"
    found = stage.fails("cuda", "RevisionReady", "DeviceUnavailable", says)
    assert found["status"]["canary"]["device"] == "CUDA"
    stage.patch("cuda", {"runtime": {"image": None, "device": "CPU"}})
    stage.recovers("cuda")


def _offer(stage: Stage, device: str) -> None:
    """Have a node offer two of a device, until the end."""
    node = stage.kube.items("nodes")[0]["metadata"]["name"]
    of_node = ["patch", "node", node, "--subresource=status", "--type=json"]
    path = f"/status/capacity/{device.replace('/', '~1')}"
    removal, offer = {"op": "remove", "path": path}, {"op": "add", "path": path, "value": "2"}
    stage.leaving.callback(stage.kube.kubectl, *of_node, f"--patch={json.dumps([removal])}")
    stage.kube.kubectl(*of_node, f"--patch={json.dumps([offer])}")


@case
def memory_that_does_not_hold_the_model(stage: Stage) -> None:
    uri = stage.shelf.put("/growing.onnx", models.growing(mebibytes=400).SerializeToString())
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    stage.create("growing", uri, secret=stage.trusting("growing-store"), runtime={"resources": resources})
    stage.fails("growing", "RevisionReady", "OutOfMemory", "raise spec.runtime.resources.limits.memory")
    stage.patch("growing", {"runtime": {"resources": {"limits": {"memory": "2Gi"}}}})
    stage.recovers("growing")


@case
def an_image_without_a_model_server(stage: Stage) -> None:
    stage.create("serverless", stage.good_uri, runtime={"image": "slipway.test/busybox:1"})
    stage.fails("serverless", "RevisionReady", "ContainerCrashing", "slipway-server")
    stage.patch("serverless", {"runtime": {"image": ""}})
    stage.recovers("serverless")


@case
def a_service_of_somebody_else(stage: Stage) -> None:
    ports = [{"port": 80}]
    where = {"name": "taken", "namespace": stage.namespace}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": {"ports": ports}}
    stage.kube.apply(theirs)
    before = stage.kube.get("service", "taken", stage.namespace)
    stage.create("taken", stage.good_uri)
    stage.fails("taken", "RouteReady", "NameTaken", "Service taken exists and is not Slipway's")
    assert stage.kube.get("service", "taken", stage.namespace) == before
    stage.kube.kubectl("delete", "service", "taken", f"--namespace={stage.namespace}")
    stage.recovers("taken")


@case
def a_deployment_of_somebody_else(stage: Stage) -> None:
    # The same spec makes the same revision, and that is part of the Deployment's name.
    stage.create("first", stage.good_uri)
    revision = wait_until_ready(stage.kube, "first", stage.namespace)["status"]["stable"]["revision"]
    name = f"second-{revision}"
    pod = {"containers": [{"name": "main", "image": "slipway.test/busybox:1"}]}
    stage.kube.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": stage.namespace},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "theirs"}},
                "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": pod},
            },
        }
    )
    stage.create("second", stage.good_uri)
    stage.fails("second", "RevisionReady", "NameTaken", f"Deployment {name} exists and is not Slipway's")
    theirs = stage.kube.get("deployment", name, stage.namespace) or {}
    assert theirs["metadata"]["generation"] == 1
    assert "ownerReferences" not in theirs["metadata"]
    stage.kube.kubectl("delete", "deployment", name, f"--namespace={stage.namespace}")
    stage.recovers("second")
    stage.recovers("first")


@case
def a_secret_that_is_missing(stage: Stage) -> None:
    uri = stage.shelf.put("/private/secret.onnx", GOOD)
    stage.create("secretless", uri, secret="no-such-secret")
    stage.fails("secretless", "ModelResolved", "SecretNotFound", '"no-such-secret" not found')
    keys = {"HTTP_USERNAME": READER[0], "HTTP_PASSWORD": READER[1]}
    stage.secret("no-such-secret", {"ca.crt": stage.web.authority, **keys})
    stage.recovers("secretless")


@case
def a_claim_that_is_missing(stage: Stage) -> None:
    stage.create("claimless", "pvc://claimless/model.onnx")
    stage.fails("claimless", "ModelResolved", "VolumeNotFound", 'persistentvolumeclaim "claimless" not found')
    (stage.folder("claimless") / "model.onnx").write_bytes(GOOD)
    stage.claim("claimless")
    stage.recovers("claimless")


@case
def a_resource_that_slipped_past_the_schema(stage: Stage) -> None:
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/runtime/properties/threads"
    patch_crd(stage, "replace", f"{schema}/maximum", 9999)
    try:
        # The API server serves the new schema a moment later.
        wait_for(lambda: accepts_threads(stage, "slipped", 1000), 30, "the CRD is not relaxed")
    finally:
        patch_crd(stage, "replace", f"{schema}/maximum", 256)
    found = wait_for_condition(
        stage.kube, "slipped", "Ready", "False", "InvalidResource", namespace=stage.namespace
    )
    assert "spec.runtime.threads" in condition(found, "Ready")["message"]
    stage.fails("slipped", "Ready", "InvalidResource", "fix the field")
    stage.patch("slipped", {"runtime": {"threads": 1}})
    stage.recovers("slipped")


def patch_crd(stage: Stage, verb: str, path: str, value: int) -> None:
    patch = json.dumps([{"op": verb, "path": path, "value": value}])
    stage.kube.kubectl("patch", CRD, "--type=json", f"--patch={patch}")


def accepts_threads(stage: Stage, name: str, threads: int) -> bool:
    try:
        stage.create(name, stage.good_uri, runtime={"threads": threads})
    except ClusterError:
        return False
    return True
