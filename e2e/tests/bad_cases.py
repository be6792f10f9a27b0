"""What goes wrong, one function a case: break it, see it told, mend it, see it serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from e2e.cluster.errors import ClusterError
from e2e.tests import models
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import MLFLOW_ADDRESS
from e2e.tests.pods import INTERN, READER, Web
from e2e.tests.stage import Stage

Case = Callable[[Stage], None]
CASES: list[Case] = []

CRD = "customresourcedefinition/modeldeployments.slipway.dev"
GOOD = models.iris().SerializeToString()
OTHER = models.iris(0.5).SerializeToString()


def case(function: Case) -> Case:
    """Have it run with the others; those that take longest come first."""
    CASES.append(function)
    return function


@case
def a_probe_that_fails(stage: Stage) -> None:
    uri = stage.shelf.put("/endless.onnx", models.endless().SerializeToString())
    secret = stage.trusting("endless-store")
    limited = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
    stage.create("endless", uri, secret=secret, runtime={"resources": limited})
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
    stage.fails("tight", "ModelResolved", "RefusedByAPIServer", says, namespace=namespace)
    stage.kube.kubectl("delete", "limitrange", "tight", f"--namespace={namespace}")
    stage.recovers("tight", namespace)


@case
def a_registry_whose_address_nobody_has(stage: Stage) -> None:
    # By the name that this Service would have, were it there.
    address = f"http://mlflow.{stage.namespace}.svc:5000"
    secret = stage.secret("nowhere", {"MLFLOW_TRACKING_URI": address})
    stage.create("nowhere", stage.good_uri, secret=secret)
    stage.fails("nowhere", "ModelResolved", "RegistryUnreachable", f"{address}/api")
    stage.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mlflow", "namespace": stage.namespace},
            "spec": {"type": "ExternalName", "externalName": "mlflow.mlflow.svc.cluster.local"},
        }
    )
    stage.recovers("nowhere")


@case
def a_registry_that_is_down(stage: Stage) -> None:
    web = Web.deploy(stage.kube, stage.namespace, "late", stage.server_image, MLFLOW_ADDRESS, replicas=0)
    secret = stage.secret("down", {"MLFLOW_TRACKING_URI": web.plain_url, **account(READER)})
    stage.create("down", stage.good_uri, secret=secret)
    stage.fails("down", "ModelResolved", "RegistryUnreachable", f"{web.plain_url}/api")
    stage.kube.kubectl("scale", "deployment/late", f"--namespace={stage.namespace}", "--replicas=1")
    stage.recovers("down")


@case
def bytes_that_changed_under_a_uri(stage: Stage) -> None:
    uri = stage.shelf.put("/changed.onnx", GOOD)
    stage.create("changed", uri, secret=stage.trusting("changed-store"))
    wait_until_ready(stage.kube, "changed", stage.namespace)
    stage.shelf.put("/changed.onnx", OTHER)
    stage.patch("changed", {"scaling": {"minReplicas": 2}})
    # The first pod has the right bytes and goes on serving; the second must not start.
    stage.fails("changed", "RevisionReady", "DigestMismatch", digest_of(OTHER), serving=True)
    stage.shelf.put("/changed.onnx", GOOD)
    stage.recovers("changed")


@case
def bytes_that_changed_on_a_volume(stage: Stage) -> None:
    file = stage.claim("shifting") / "model.onnx"
    file.write_bytes(GOOD)
    stage.create("shifting", "pvc://shifting/model.onnx")
    wait_until_ready(stage.kube, "shifting", stage.namespace)
    file.write_bytes(OTHER)
    selector = "--selector=slipway.dev/modeldeployment=shifting"
    stage.kube.kubectl("delete", "pod", selector, f"--namespace={stage.namespace}", "--wait=false")
    stage.fails("shifting", "RevisionReady", "DigestMismatch", digest_of(OTHER))
    file.write_bytes(GOOD)
    stage.recovers("shifting")


@case
def a_wrong_digest(stage: Stage) -> None:
    uri, secret = stage.shelf.put("/wrong.onnx", GOOD), stage.trusting("wrong-store")
    stage.create("wrong", uri, secret=secret, digest=digest_of(OTHER))
    stage.fails("wrong", "ModelResolved", "DigestMismatch", digest_of(GOOD))
    stage.patch("wrong", {"model": {"digest": digest_of(GOOD)}})
    stage.recovers("wrong")


@case
def an_unknown_name(stage: Stage) -> None:
    name = f"nobody-{stage.token}"
    stage.create("unknown-name", f"mlflow://{name}@champion")
    stage.fails("unknown-name", "ModelResolved", "ModelNotFound", f"no registered model '{name}'")
    stage.mlflow.register(name, models.iris(), "champion")
    stage.recovers("unknown-name")


@case
def an_unknown_alias(stage: Stage) -> None:
    stage.create("unknown-alias", f"mlflow://{stage.registered}@challenger")
    stage.fails("unknown-alias", "ModelResolved", "ModelNotFound", "no alias 'challenger'; it has: champion")
    stage.mlflow.set_alias(stage.registered, "challenger", "1")
    stage.recovers("unknown-alias")


@case
def an_unknown_version(stage: Stage) -> None:
    stage.create("unknown-version", f"mlflow://{stage.registered}/7")
    stage.fails("unknown-version", "ModelResolved", "ModelNotFound", "no version 7; it has: 1")
    stage.patch("unknown-version", {"model": {"uri": f"mlflow://{stage.registered}/1"}})
    stage.recovers("unknown-version")


@case
def an_unknown_file(stage: Stage) -> None:
    stage.create("unknown-file", f"{stage.web.url}/unknown.onnx", secret=stage.trusting("unknown-store"))
    stage.fails("unknown-file", "ModelResolved", "ModelNotFound", "HTTP 404")
    stage.shelf.put("/unknown.onnx", GOOD)
    stage.recovers("unknown-file")


@case
def a_wrong_password(stage: Stage) -> None:
    uri = stage.shelf.put("/private/model.onnx", GOOD)
    keys = {"ca.crt": stage.web.authority, "HTTP_USERNAME": READER[0]}
    secret = stage.secret("forgotten", keys | {"HTTP_PASSWORD": "not-that"})
    stage.create("forgotten", uri, secret=secret)
    stage.fails("forgotten", "ModelResolved", "ModelAccessDenied", "HTTP 401")
    stage.secret("forgotten", keys | {"HTTP_PASSWORD": READER[1]})
    stage.recovers("forgotten")


@case
def an_account_that_may_not(stage: Stage) -> None:
    keys = {"ca.crt": stage.web.authority, "MLFLOW_TRACKING_URI": stage.web.url}
    intern = stage.secret("intern", keys | account(INTERN))
    stage.create("secretive", stage.good_uri, secret=intern)
    stage.fails("secretive", "ModelResolved", "ModelAccessDenied", "HTTP 403")
    reader = stage.secret("reader", keys | account(READER))
    stage.patch("secretive", {"model": {"credentials": {"secretRef": {"name": reader}}}})
    stage.recovers("secretive")


@case
def a_transfer_that_ends_early(stage: Stage) -> None:
    uri = stage.shelf.put("/short.onnx", GOOD[:200], announced=len(GOOD))
    stage.create("short", uri, secret=stage.trusting("short-store"))
    stage.fails("short", "ModelResolved", "ModelTruncated", f"after 200 bytes of the {len(GOOD)}")
    stage.shelf.put("/short.onnx", GOOD)
    stage.recovers("short")


@case
def a_file_that_ends_early(stage: Stage) -> None:
    file = stage.claim("halved") / "model.onnx"
    file.write_bytes(GOOD[: len(GOOD) // 2])
    stage.create("halved", "pvc://halved/model.onnx")
    stage.fails("halved", "ModelResolved", "ModelTruncated", "pvc://halved/model.onnx")
    file.write_bytes(GOOD)
    stage.recovers("halved")


@case
def a_file_that_is_no_onnx_model(stage: Stage) -> None:
    uri = stage.shelf.put("/essay.onnx", b"An essay on man, in four epistles.\n" * 20)
    stage.create("essay", uri, secret=stage.trusting("essay-store"))
    stage.fails("essay", "ModelResolved", "NotAnOnnxModel", "/essay.onnx")
    stage.shelf.put("/essay.onnx", GOOD)
    stage.recovers("essay")


@case
def an_opset_of_the_future(stage: Stage) -> None:
    uri = stage.shelf.put("/opset.onnx", models.identity(opset=999).SerializeToString())
    stage.create("opset", uri, secret=stage.trusting("opset-store"))
    stage.fails("opset", "RevisionReady", "UnsupportedOpset", "needs opset 999")
    stage.patch("opset", {"model": {"uri": stage.shelf.put("/opset17.onnx", GOOD)}})
    stage.recovers("opset")


@case
def an_ir_version_of_the_future(stage: Stage) -> None:
    uri = stage.shelf.put("/ir.onnx", models.identity(ir=99).SerializeToString())
    stage.create("ir", uri, secret=stage.trusting("ir-store"))
    stage.fails("ir", "RevisionReady", "UnsupportedOpset", "ONNX IR version 99")
    stage.patch("ir", {"model": {"uri": stage.shelf.put("/ir8.onnx", GOOD)}})
    stage.recovers("ir")


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
def memory_that_does_not_hold_the_model(stage: Stage) -> None:
    uri = stage.shelf.put("/growing.onnx", models.growing(mebibytes=400).SerializeToString())
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    stage.create("growing", uri, secret=stage.trusting("growing-store"), runtime={"resources": resources})
    stage.fails("growing", "RevisionReady", "OutOfMemory", "raise spec.runtime.resources.limits.memory")
    stage.patch("growing", {"runtime": {"resources": {"limits": {"memory": "2Gi"}}}})
    stage.recovers("growing")


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
    stage.fails("slipped", "Ready", "InvalidResource", "mend the field")
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


def account(who: tuple[str, str]) -> dict[str, str]:
    """Keys of a Secret that enter MLflow."""
    return {"MLFLOW_TRACKING_USERNAME": who[0], "MLFLOW_TRACKING_PASSWORD": who[1]}


def digest_of(content: bytes) -> str:
    """The digest of a model of one file."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
