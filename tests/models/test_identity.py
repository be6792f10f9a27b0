"""Stores that are entered by the identity of a ServiceAccount, and by no Secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from slipway.contract import STORE_IDENTITY_ENV, ModelFault
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.identities import Issuer, Seen, exchange, issuer, made_key, roles
from tests.models.servers import Reply, web_server
from tests.models.stores import S3, Azure, seaweedfs

MODEL = onnx_classifier().SerializeToString()
URI = "s3://models/identity/model.onnx"
TENANT = "22222222-2222-2222-2222-222222222222"
ACCOUNT = {STORE_IDENTITY_ENV: "reader"}


@pytest.fixture(scope="module")
def cluster(authority: trustme.CA) -> Iterator[Issuer]:
    with issuer(authority) as made:
        yield made


@pytest.fixture(scope="module")
def federated(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA, cluster: Issuer
) -> Iterator[S3]:
    """S3 with an STS that verifies tokens of the cluster."""
    folder = tmp_path_factory.mktemp("federated")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with seaweedfs(folder, authority, roles(cluster, str(folder / "ca.pem"))) as store:
        store.put("models", "identity/model.onnx", MODEL)
        store.put("private", "model.onnx", MODEL)
        yield store


def irsa(store: S3, token: Path, text: str, role: str = "reader") -> dict[str, str]:
    """What the webhook of EKS puts into a container, and where this store is."""
    token.write_text(text)
    return {
        **ACCOUNT,
        "AWS_ROLE_ARN": f"arn:aws:iam::role/{role}",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ENDPOINT_URL_STS": store.url,
        "SLIPWAY_CREDENTIAL_CA_CERT": store.authority,
    }


def test_a_token_of_the_service_account_opens_s3(
    slipway_model: SlipwayModel, federated: S3, cluster: Issuer, tmp_path: Path
) -> None:
    keys = irsa(federated, tmp_path / "token", cluster.token())
    found = slipway_model.resolved(URI, **keys)
    assert found.bytes == len(MODEL)
    slipway_model.fetched(found.uri, found.digest, **keys)
    assert (slipway_model.model_dir / "model.onnx").read_bytes() == MODEL


@pytest.mark.parametrize("kind", ["forged", "of another", "for another", "no right", "no role"])
def test_another_token_opens_nothing_and_it_says_whose_it_is(
    slipway_model: SlipwayModel, federated: S3, cluster: Issuer, tmp_path: Path, kind: str
) -> None:
    token = {
        "forged": cluster.token(key=made_key()),
        "of another": cluster.token("system:serviceaccount:payments:other"),
        "for another": cluster.token(audience="vault"),
    }.get(kind, cluster.token())
    keys = irsa(federated, tmp_path / "token", token, "nobody" if kind == "no role" else "reader")
    uri = "s3://private/model.onnx" if kind == "no right" else URI
    failure = slipway_model.not_resolved(uri, **keys)
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED, failure
    assert "ServiceAccount 'reader'" in failure.message
    assert "Secret" not in failure.message
    assert token not in failure.message


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        (URI, ("AWS_ROLE_ARN", "eks.amazonaws.com/role-arn")),
        ("az://slipwaytests/models/m.onnx", ("AZURE_CLIENT_ID", "azure.workload.identity/use")),
    ],
)
def test_a_service_account_without_an_identity_is_told_what_it_lacks(
    slipway_model: SlipwayModel, uri: str, named: tuple[str, ...]
) -> None:
    failure = slipway_model.not_resolved(uri, **ACCOUNT)
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED
    assert all(word in failure.message for word in (*named, "ServiceAccount 'reader'"))


def test_a_token_that_cannot_be_read_is_named(slipway_model: SlipwayModel, s3: S3, tmp_path: Path) -> None:
    keys = irsa(s3, tmp_path / "token", "x")
    (tmp_path / "token").unlink()
    failure = slipway_model.not_resolved(URI, **keys)
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED
    assert f"AWS_WEB_IDENTITY_TOKEN_FILE of the ServiceAccount 'reader' names {tmp_path}" in failure.message


def test_an_identity_that_nobody_asked_for_is_not_used(
    slipway_model: SlipwayModel, federated: S3, cluster: Issuer, tmp_path: Path
) -> None:
    """A node's or a pod's identity is somebody else's unless spec.model.credentials names it."""
    keys = irsa(federated, tmp_path / "token", cluster.token())
    del keys[STORE_IDENTITY_ENV]
    keys["SLIPWAY_CREDENTIAL_AWS_ENDPOINT_URL"] = federated.url
    failure = slipway_model.not_resolved(URI, **keys)
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED
    assert "none were sent" in failure.message


def test_the_agent_of_eks_pod_identity_opens_s3(
    slipway_model: SlipwayModel, s3: S3, authority: trustme.CA, tmp_path: Path
) -> None:
    s3.put("models", "identity/model.onnx", MODEL)
    (tmp_path / "token").write_text("of the pod")
    ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {"AccessKeyId": "reader", "SecretAccessKey": "reader-secret", "Token": "", "Expiration": ends}
    with exchange(authority, lambda _: (200, json.dumps(answer).encode())) as agent:
        keys = {
            **ACCOUNT,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{agent.url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL": s3.url,
            "SLIPWAY_CREDENTIAL_CA_CERT": s3.authority,
        }
        assert slipway_model.resolved(URI, **keys).bytes == len(MODEL)
    assert {seen.headers["authorization"] for seen in agent.seen} == {"of the pod"}


def test_a_federated_token_opens_azure(
    slipway_model: SlipwayModel, azure: Azure, cluster: Issuer, authority: trustme.CA, tmp_path: Path
) -> None:
    azure.put("identity/m.onnx", MODEL)
    (tmp_path / "token").write_text(cluster.token(audience="api://AzureADTokenExchange"))

    def answer(_: Seen) -> tuple[int, bytes]:
        mine = cluster.token(
            audience="https://storage.azure.com", issued_by=f"https://sts.windows.net/{TENANT}/"
        )
        return 200, json.dumps({"access_token": mine, "expires_in": 3600, "token_type": "Bearer"}).encode()

    with exchange(authority, answer) as entra_id:
        keys = {
            **ACCOUNT,
            "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
            "AZURE_CLIENT_ID": "11111111-1111-1111-1111-111111111111",
            "AZURE_TENANT_ID": TENANT,
            "AZURE_AUTHORITY_HOST": entra_id.url,
            "AZURE_STORAGE_ENDPOINT": azure.url,
            "SLIPWAY_CREDENTIAL_CA_CERT": azure.authority,
        }
        found = slipway_model.resolved("az://slipwaytests/models/identity/m.onnx", **keys)
    assert found.bytes == len(MODEL)
    (asked,) = {(seen.path, seen.form["client_assertion"]) for seen in entra_id.seen}
    assert asked == (
        f"/{TENANT}/oauth2/v2.0/token",
        (tmp_path / "token").read_text(),
    )


def google(seen: Seen) -> tuple[int, bytes]:
    """Google's STS, its impersonation, its metadata and its store, as far as they are asked for here."""
    if seen.path == "/token":
        if seen.form["subject_token"].count(".") != 2:
            return 400, b'{"error": "invalid_grant", "error_description": "not a token of the pool"}'
        return 200, json.dumps({"access_token": "federated", "expires_in": 3600}).encode()
    if seen.path == "/impersonate":
        assert seen.headers["authorization"] == "Bearer federated"
        ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, json.dumps({"accessToken": "impersonated", "expireTime": ends}).encode()
    return (200, MODEL) if seen.path.endswith("onnx") else (404, b"")


@pytest.mark.parametrize("impersonates", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_credential_configuration_of_google_opens_its_store(
    slipway_model: SlipwayModel,
    cluster: Issuer,
    authority: trustme.CA,
    ca_certificate: str,
    tmp_path: Path,
    impersonates: bool,
    as_json: bool,
) -> None:
    token = cluster.token(audience="//iam.googleapis.com/projects/1/pool")
    (tmp_path / "token").write_text(json.dumps({"jwt": token}) if as_json else token)
    how = {"format": {"type": "json", "subject_token_field_name": "jwt"}} if as_json else {}
    with exchange(authority, google) as service:
        configuration = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/pool",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{service.url}/token",
            "credential_source": {"file": str(tmp_path / "token"), **how},
            **({"service_account_impersonation_url": f"{service.url}/impersonate"} if impersonates else {}),
        }
        (tmp_path / "configuration.json").write_text(json.dumps(configuration))
        keys = {
            **ACCOUNT,
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "configuration.json"),
            "GOOGLE_ENDPOINT_URL": service.url,
            "SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate,
        }
        assert slipway_model.resolved("gs://models/m.onnx", **keys).bytes == len(MODEL)
        seen = {
            found.headers.get("authorization") for found in service.seen if found.path.startswith("/models")
        }
        assert seen == {"Bearer impersonated" if impersonates else "Bearer federated"}
        (exchanged,) = [found.form for found in service.seen if found.path == "/token"][:1]
        assert exchanged["subject_token"] == token
        assert exchanged["audience"] == configuration["audience"]

        (tmp_path / "token").write_text("nonsense")
        failure = slipway_model.not_resolved("gs://models/m.onnx", **keys)
    assert failure.reason is ModelFault.MODEL_ACCESS_DENIED, failure
    assert ("without the token" if as_json else "not a token of the pool") in failure.message
    assert "workload identity pool" in failure.message


def test_a_nodes_metadata_says_who_the_pod_is_to_google(
    slipway_model: SlipwayModel, authority: trustme.CA, ca_certificate: str
) -> None:
    token = {"access_token": "of the pod", "expires_in": 3600, "token_type": "Bearer"}
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    with exchange(authority, google) as store, web_server() as metadata:
        metadata.replies[path] = Reply(json.dumps(token).encode(), headers={"Metadata-Flavor": "Google"})
        keys = {
            **ACCOUNT,
            "GCE_METADATA_HOST": metadata.url.removeprefix("http://"),
            "GOOGLE_ENDPOINT_URL": store.url,
            "SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate,
        }
        assert slipway_model.resolved("gs://models/m.onnx", **keys).bytes == len(MODEL)
    assert {found.headers.get("authorization") for found in store.seen} == {"Bearer of the pod"}
