"""What is not signed as it is served never runs, says why, and leaves what serves alone."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from e2e.cluster.command import run
from e2e.kube import Kube
from e2e.tests.conditions import (
    condition,
    explain,
    wait_for,
    wait_for_condition,
    wait_for_event,
    wait_until_ready,
)
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout, again, tensor

VERIFY = {"signature": {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}}
#: What is wrong with a version, the reason, and words of its message.
BAD = {
    "unsigned": ("SignatureMissing", "there is no"),
    "another-key": ("SignatureInvalid", "none of the keys"),
    "flipped-byte": ("SignatureInvalid", "it is for another model.onnx"),
}


def test_only_what_a_trusted_key_signed_ever_runs_and_what_serves_goes_on(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str, tmp_path: Path
) -> None:
    kube, place, model = installed.kube, restricted_namespace, f"signed-{token}"
    ours, theirs = new_key(tmp_path / "ours.key"), new_key(tmp_path / "theirs.key")
    kube.kubectl("create", "configmap", "signers", f"--from-file=keys.pem={ours[1]}", f"--namespace={place}")

    def version(factor: int, key: Path | None, *, flipped: bool = False) -> str:
        folder = tmp_path / f"of-{factor}"
        mlflow.save(again(factor, "as it was signed"), folder)
        if key is not None:
            words = ["sign", str(folder), "--key", str(key)]
            run([sys.executable, "-m", "slipway.cli.main", *words], timeout=60)
        if flipped:
            file = folder / "model.onnx"
            file.write_bytes(file.read_bytes().replace(b"as it was", b"as it wap"))
        return mlflow.register_files(model, folder)

    first, second = version(2, ours[0]), version(6, ours[0])
    bad = {
        "unsigned": version(3, None),
        "another-key": version(4, theirs[0]),
        "flipped-byte": version(5, ours[0], flipped=True),
    }
    mlflow.set_alias(model, "champion", first)
    for name, number in {**bad, "served": "champion"}.items():
        uri = f"mlflow://{model}@champion" if name == "served" else f"mlflow://{model}/{number}"
        wanted = {"uri": uri, "refreshSeconds": 5, "verify": VERIFY}
        Rollout(kube, place, name).apply(uri, {}, model=wanted)
    served = Rollout(kube, place, "served")
    wait_until_ready(kube, "served", place)
    assert served.status()["model"]["signedBy"].startswith("sha256:")

    # By a version, and by an alias: nothing but what was signed ever gets a pod.
    for name, (reason, words) in BAD.items():
        refused(kube, place, name, reason, words)
        assert words in wait_for_event(kube, name, reason, namespace=place)["message"]
        assert nothing_runs(kube, place, name)
        served.change(f"mlflow://{model}/{bad[name]}")
        refused(kube, place, "served", reason, words)
        goes_on(served, first, 2)
    served.change(f"mlflow://{model}@champion")
    wait_for_condition(kube, "served", "ModelResolved", "True", namespace=place)
    mlflow.set_alias(model, "champion", bad["unsigned"])
    refused(kube, place, "served", "RefreshFailed", BAD["unsigned"][0])
    goes_on(served, first, 2)
    mlflow.set_alias(model, "champion", second)
    served.wait_for_stable(second)
    wait_until_ready(kube, "served", place)
    goes_on(served, second, 6)
    for name in BAD:
        assert nothing_runs(kube, place, name)


def new_key(path: Path) -> tuple[Path, Path]:
    """The files of a new private key and of its public key."""
    key = ec.generate_private_key(ec.SECP256R1())
    none = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path, public


def refused(kube: Kube, namespace: str, name: str, reason: str, words: str) -> None:
    """The condition has the reason and its words, of the present spec."""

    def told() -> bool:
        found = kube.get("modeldeployment", name, namespace) or {}
        seen = condition(found, "ModelResolved")
        is_of_spec = seen.get("observedGeneration") == found["metadata"]["generation"]
        return is_of_spec and seen["reason"] == reason and words in seen["message"]

    wait_for(told, 90, lambda: f"{name} is not refused\n{explain(kube, name, namespace)}\n")


def nothing_runs(kube: Kube, namespace: str, name: str) -> bool:
    """Whether a ModelDeployment has neither pods of a model server nor a Deployment, nor had a revision."""
    selector = f"slipway.dev/modeldeployment={name}"
    pods = kube.items("pods", namespace, f"{selector},app.kubernetes.io/component=model-server")
    status = (kube.get("modeldeployment", name, namespace) or {})["status"]
    return not pods and not kube.items("deployments", namespace, selector) and not status.get("stable")


def goes_on(served: Rollout, version: str, factor: int) -> None:
    """A version is the one that serves, alone, and answers."""
    assert (served.stable(), served.canary()) == (version, "")
    assert served.says("Ready") == "True"
    with served.kube.port_forward(f"service/{served.name}", served.namespace, 80) as url:
        asked = {"inputs": [tensor("x", [1.0, 2.0, 3.0])]}
        answer = httpx.post(f"{url}/v2/models/{served.name}/infer", json=asked, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [1.0 * factor, 2.0 * factor, 3.0 * factor]
