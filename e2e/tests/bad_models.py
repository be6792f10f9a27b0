"""What goes wrong with the model: where it is kept, on its way, and when it is loaded.

One function a case: break it, see it told, fix it, see it serve.
"""

from __future__ import annotations

import hashlib

from e2e.tests import models
from e2e.tests.conditions import wait_until_ready
from e2e.tests.installation import MLFLOW_ADDRESS
from e2e.tests.pods import INTERN, READER, Web
from e2e.tests.stage import GOOD, Case, Stage, collecting

CASES: list[Case] = []
case = collecting(CASES)

OTHER = models.iris(0.5).SerializeToString()


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
def an_operator_that_no_runtime_knows(stage: Stage) -> None:
    uri = stage.shelf.put("/guess.onnx", models.unheard_of().SerializeToString())
    stage.create("guess", uri, secret=stage.trusting("guess-store"))
    stage.fails("guess", "ModelResolved", "ModelHazard", "of the domain 'org.example'")
    stage.patch("guess", {"model": {"verify": {"hazards": {"allowedOperatorDomains": ["org.example"]}}}})
    stage.fails("guess", "RevisionReady", "ModelLoadFailed", "org.example:Guess")
    stage.patch("guess", {"model": {"uri": stage.shelf.put("/known.onnx", GOOD)}})
    stage.recovers("guess")


@case
def a_certificate_that_nobody_vouches_for(stage: Stage) -> None:
    stage.create("untrusted", stage.shelf.put("/untrusted.onnx", GOOD))
    stage.fails("untrusted", "ModelResolved", "RegistryUnreachable", "is not trusted")
    secret = stage.trusting("untrusted-store")
    stage.patch("untrusted", {"model": {"credentials": {"secretRef": {"name": secret}}}})
    stage.recovers("untrusted")


@case
def an_update_that_cannot_be_found(stage: Stage) -> None:
    stage.create("lost", stage.good_uri)
    wait_until_ready(stage.kube, "lost", stage.namespace)
    stage.patch("lost", {"model": {"uri": f"mlflow://{stage.registered}@nobody"}})
    stage.fails("lost", "ModelResolved", "ModelNotFound", "no alias 'nobody'", serving=True)
    stage.patch("lost", {"model": {"uri": stage.good_uri}})
    stage.recovers("lost")


@case
def an_update_that_cannot_be_loaded(stage: Stage) -> None:
    stage.create("update", stage.shelf.put("/before.onnx", GOOD), secret=stage.trusting("update-store"))
    before = wait_until_ready(stage.kube, "update", stage.namespace)["status"]["stable"]
    uri = stage.shelf.put("/after.onnx", models.identity(opset=999).SerializeToString())
    stage.patch("update", {"model": {"uri": uri}})
    found = stage.fails("update", "RevisionReady", "UnsupportedOpset", "needs opset 999", serving=True)
    assert found["status"]["stable"] == before
    assert found["status"]["canary"]["readyReplicas"] == 0
    stage.patch("update", {"model": {"uri": stage.shelf.put("/fixed.onnx", OTHER)}})
    stage.recovers("update")


def account(who: tuple[str, str]) -> dict[str, str]:
    """Keys of a Secret that enter MLflow."""
    return {"MLFLOW_TRACKING_USERNAME": who[0], "MLFLOW_TRACKING_PASSWORD": who[1]}


def digest_of(content: bytes) -> str:
    """The digest of a model of one file."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
