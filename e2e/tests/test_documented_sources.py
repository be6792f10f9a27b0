"""Where models come from: an alias that moves, the webhook that says so, private stores, and the examples."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
import yaml

from e2e import credit
from e2e.kube import Kube
from e2e.tests import models
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import (
    MLFLOW_ADDRESS,
    RELEASE,
    SYSTEM_NAMESPACE,
    WEBHOOK_TOKEN,
    Installation,
    temporary_namespace,
)
from e2e.tests.pods import READER, Web
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout, again
from e2e.tests.stage import SMALL

EXAMPLES = Path(__file__).parents[2] / "examples"
WEBHOOK_PORT = 8083


@pytest.fixture(scope="module")
def place(installed: Installation) -> Iterator[str]:
    with temporary_namespace(installed.kube, "sources") as namespace:
        yield namespace


def test_an_alias_that_moves_is_followed_by_itself_and_at_once_where_the_webhook_says_so(
    installed: Installation, mlflow: Registry, place: str, token: str
) -> None:
    kube, model = installed.kube, f"moving-{token}"
    one = mlflow.register(model, again(2, "1"), "champion")
    looking, told = Rollout(kube, place, "looking"), Rollout(kube, place, "told")
    uri = f"mlflow://{model}@champion"
    looking.apply(uri, {}, model={"uri": uri, "refreshSeconds": 5})
    told.apply(uri, {}, model={"uri": uri, "refreshSeconds": 0})
    for each in (looking, told):
        wait_until_ready(kube, each.name, place)
    two = mlflow.register(model, again(3, "2"), "champion")
    looking.wait_for_stable(two)
    assert told.stable() == one

    with (
        kube.port_forward(f"service/{RELEASE}-webhook", SYSTEM_NAMESPACE, WEBHOOK_PORT) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        path = f"/refresh/{place}/told"
        assert client.post(path).status_code == 401
        assert client.post(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        client.headers["authorization"] = f"Bearer {WEBHOOK_TOKEN}"
        assert client.post(f"/refresh/{place}/nobody").status_code == 404
        assert told.stable() == one
        assert client.post(path).status_code == 202
    told.wait_for_stable(two)
    assert "refreshRequestedAt" in told.status()


def test_private_stores_are_entered_by_the_keys_of_a_secret_and_trusted_by_their_own_authority(
    installed: Installation, mlflow: Registry, place: str, token: str
) -> None:
    kube, model = installed.kube, f"private-{token}"
    mlflow.register(model, models.iris(), "champion")
    web = Web.deploy(kube, place, "store", installed.server_image, MLFLOW_ADDRESS)
    user, password = READER
    entries = {
        "https": {"HTTP_USERNAME": user, "HTTP_PASSWORD": password},
        "mlflow": {
            "MLFLOW_TRACKING_URI": web.url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password,
        },
    }
    with web.control() as shelf:
        file = shelf.put("/private/model.onnx", models.iris().SerializeToString())
    uris = {"https": file, "mlflow": f"mlflow://{model}@champion"}
    for name, keys in entries.items():
        secret = {"metadata": {"name": name, "namespace": place}, "stringData": {**keys}}
        kube.apply({"apiVersion": "v1", "kind": "Secret", **secret})
        kube.apply(private(name, place, uris[name]))
    for name, keys in entries.items():
        # Nobody vouches for the store yet.
        found = wait_for_condition(
            kube, name, "ModelResolved", "False", "RegistryUnreachable", namespace=place
        )
        assert "CA_CERT" in condition(found, "ModelResolved")["message"]
        secret = {"metadata": {"name": name, "namespace": place}, "stringData": {**keys}}
        secret["stringData"]["CA_CERT"] = web.authority
        kube.apply({"apiVersion": "v1", "kind": "Secret", **secret})
    for name in entries:
        wait_until_ready(kube, name, place, within=240)


def private(name: str, namespace: str, uri: str) -> dict[str, object]:
    """A ModelDeployment whose store is entered with the Secret of its own name."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": uri, "credentials": {"secretRef": {"name": name}}},
            "runtime": SMALL,
            "scaling": {"maxReplicas": 1},
        },
    }


def made_of(certificate: dict[str, Any]) -> dict[str, Any]:
    """The Secret that cert-manager, which is not there, makes of a Certificate."""
    authority, spec = trustme.CA(), certificate["spec"]
    leaf = authority.issue_cert(*spec["dnsNames"])
    data = {
        "tls.crt": b"".join(blob.bytes() for blob in leaf.cert_chain_pems).decode(),
        "tls.key": leaf.private_key_pem.bytes().decode(),
        "ca.crt": authority.cert_pem.bytes().decode(),
    }
    meta = {"name": spec["secretName"], "namespace": certificate["metadata"]["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": meta,
        "stringData": data,
    }


def held_out(kube: Kube, namespace: str, folder: Path) -> str:
    """Make the ConfigMaps of the example that is audited, as it says; returns the digest of the first one."""
    people = credit.applicants(20_000, seed=77)
    ages = np.array(["under-30", "30-to-60", "over-60"])[np.digitize(people.rows[:, 2], [30, 60])]
    lines = [",".join([*credit.FEATURES, credit.ATTRIBUTE, "age_group", "repaid"])]
    for row, sex, age, paid in zip(people.rows, people.groups, ages, people.paid_back, strict=True):
        lines.append(",".join([*(f"{value:g}" for value in row), sex, age, str(paid)]))
    table = "\n".join(lines).encode()
    files = {
        "credit-held-out": (folder / "rows.csv", table),
        "credit-recent": (folder / "rows.csv.gz", gzip.compress(table)),
    }
    for name, (path, content) in files.items():
        path.write_bytes(content)
        kube.kubectl("create", "configmap", name, f"--from-file={path}", f"--namespace={namespace}")
    return f"sha256:{hashlib.sha256(table).hexdigest()}"


@pytest.mark.usefixtures("installed")
def test_the_examples_serve_as_they_are(
    kube: Kube, mlflow: Registry, restricted_namespace: str, tmp_path: Path
) -> None:
    """All but Alertmanager's, which the cluster's own runs, buckets', which tests/models reads, those of
    servers of one's own, which test_external_servers.py runs, and that of a GPU, which the cluster has not.

    An image of a registry that is not there is left to the installation's.
    """
    namespace = restricted_namespace
    files = {path.name: list(yaml.safe_load_all(path.read_text())) for path in EXAMPLES.glob("*.yaml")}
    deployments = {
        name: one
        for name, documents in files.items()
        for one in documents
        if one.get("kind") == "ModelDeployment"
    }
    assert files.keys() - deployments.keys() == {"alertmanager.yaml"}
    for name, one in list(deployments.items()):
        runtime = one["spec"].get("runtime", {})
        is_elsewhere = runtime.get("server") == "External" or runtime.get("device") == "CUDA"
        if is_elsewhere or not one["spec"]["model"]["uri"].startswith("mlflow://"):
            kube.kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / name), f"--namespace={namespace}")
            del deployments[name]
    named = {one["spec"]["model"]["uri"].removeprefix("mlflow://") for one in deployments.values()}
    for name in (uri.removesuffix("@champion") for uri in named):
        if mlflow.has(name, "champion"):
            continue
        if name == credit.NAME:
            mlflow.set_alias(name, "champion", credit.register(name, mlflow.url))
        else:
            mlflow.register(name, models.identity(), "champion")
    kube.apply(credit.feedback_keys(namespace, "credit-feedback"))
    groups, _ = deployments["audited.yaml"]["spec"]["rollout"]["audits"]
    groups["data"]["digest"] = held_out(kube, namespace, tmp_path)
    # One after the other, and the one that is watched at last: together they leave other tests no room.
    for name, one in sorted(deployments.items(), key=lambda found: found[1]["metadata"]["name"] == "credit"):
        image = one["spec"].get("runtime", {}).pop("image", "registry.example.com/")
        assert image.startswith("registry.example.com/")
        for each in files[name]:
            each["metadata"]["namespace"] = namespace
        kube.apply(*(made_of(each) if each["kind"] == "Certificate" else each for each in files[name]))
        served = one["metadata"]["name"]
        wait_until_ready(kube, served, namespace, within=240)
        scheme = "https" if "tls" in one["spec"].get("access", {}) else "http"
        with kube.port_forward(f"service/{served}", namespace, 80) as url:
            there = f"{scheme}{url.removeprefix('http')}/v2/health/ready"
            answer = httpx.get(there, timeout=60, trust_env=False, verify=False)
            assert answer.status_code == 200
        if served == "robust-credit":
            found = Rollout(kube, namespace, served).status()["audits"]
            values = {each["metric"]: float(each["value"]) for one in found for each in one["figures"]}
            assert {one["name"]: one["verdict"] for one in found} == {"noise": "Pass", "attack": "Pass"}
            # An attack finds points; noise proves less than no attack can undo.
            assert 0.2 < values["CertifiedAccuracy"] < values["RobustAccuracy"] + 0.2 < 1.2
            assert 0.0 < values["MedianDistance"] < 5.0
        if served != "credit":
            kube.kubectl("delete", "modeldeployment", served, f"--namespace={namespace}")
    watched = Rollout(kube, namespace, "credit")
    wait_for(lambda: watched.says("Drift") != "", 120, "the watched example is not judged")
    watched.wait_until_synced()
