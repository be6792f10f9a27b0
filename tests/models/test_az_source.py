"""``az://`` against Azurite; what it does not say as Azure does comes from a server that plays it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from urllib.parse import quote

import pytest

from slipway.contract import ModelFault
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.servers import Reply, WebServer
from tests.models.stores import AZURE_ACCOUNT, AZURE_KEY, Azure

KEY = "fraud/7/model.onnx"
ROOT = f"az://{AZURE_ACCOUNT}/models"
URI = f"{ROOT}/{KEY}"
LATER, PAST = "2040-01-01T00:00:00Z", "2021-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def model() -> bytes:
    return onnx_classifier().SerializeToString()


@pytest.fixture(scope="module")
def store(azure: Azure, model: bytes) -> Azure:
    azure.put(KEY, model)
    return azure


@pytest.mark.parametrize("uri", [URI, f"{ROOT}/fraud/7/", f"{ROOT}/fraud/7"])
@pytest.mark.parametrize("by_token", [False, True])
def test_a_file_and_a_folder_with_one_are_resolved_by_digest_and_fetched(
    slipway_model: SlipwayModel, store: Azure, model: bytes, uri: str, by_token: bool
) -> None:
    keys = store.keys(AZURE_STORAGE_SAS_TOKEN=f"?{store.sas(LATER)}") if by_token else store.keys()
    resolution = slipway_model.resolved(uri, **keys)
    assert resolution.uri == URI
    assert resolution.digest == f"sha256:{hashlib.sha256(model).hexdigest()}"
    slipway_model.fetched(resolution.uri, resolution.digest, **keys)
    assert digest_of(slipway_model.model_dir) == resolution.digest


def test_keys_with_special_characters_are_written_as_in_addresses(
    slipway_model: SlipwayModel, store: Azure, model: bytes
) -> None:
    key = "a b/ü%20#?.onnx"
    store.put(key, model)
    assert slipway_model.resolved(f"{ROOT}/{quote(key)}", **store.keys()).uri == f"{ROOT}/{quote(key)}"


def test_a_blob_that_was_replaced_is_not_served(
    slipway_model: SlipwayModel, store: Azure, model: bytes
) -> None:
    store.put("replaced/model.onnx", model)
    resolution = slipway_model.resolved(f"{ROOT}/replaced/", **store.keys())
    store.put("replaced/model.onnx", onnx_classifier(0.1).SerializeToString())
    failure = slipway_model.not_fetched(resolution.uri, resolution.digest, **store.keys())
    assert failure.reason == ModelFault.DIGEST_MISMATCH


@pytest.mark.parametrize(
    ("uri", "keys", "reason", "says"),
    [
        (f"{ROOT}/fraud/8/model.onnx", {}, ModelFault.MODEL_NOT_FOUND, "BlobNotFound"),
        (f"{ROOT}/fraud/8/", {}, ModelFault.MODEL_NOT_FOUND, "/models/fraud/8 does not exist"),
        (
            f"az://{AZURE_ACCOUNT}/nobodys/m.onnx",
            {},
            ModelFault.BUCKET_NOT_FOUND,
            "the container 'nobodys' of",
        ),
        (f"az://{AZURE_ACCOUNT}/nobodys/m/", {}, ModelFault.BUCKET_NOT_FOUND, "the container 'nobodys' of"),
        (
            URI,
            {"AZURE_STORAGE_KEY": base64.b64encode(b"z" * 64).decode()},
            ModelFault.MODEL_ACCESS_DENIED,
            "refused the credentials",
        ),
        (URI, {"AZURE_STORAGE_KEY": "no+key"}, ModelFault.MODEL_ACCESS_DENIED, "is not base64"),
        (URI, {"AZURE_STORAGE_KEY": ""}, ModelFault.MODEL_ACCESS_DENIED, "none were sent"),
        (URI, {"CA_CERT": ""}, ModelFault.REGISTRY_UNREACHABLE, "certificate of localhost"),
        (URI, {"AZURE_STORAGE_ENDPOINT": "https://az.invalid"}, ModelFault.REGISTRY_UNREACHABLE, "lookup"),
        (URI, {"AZURE_STORAGE_ENDPOINT": "http://localhost"}, ModelFault.REGISTRY_UNREACHABLE, "https://"),
    ],
)
def test_each_way_to_fail_has_its_reason(
    slipway_model: SlipwayModel, store: Azure, uri: str, keys: dict[str, str], reason: str, says: str
) -> None:
    failure = slipway_model.not_resolved(uri, **store.keys(**keys))
    assert (failure.reason, says in failure.message) == (reason, True), failure
    assert "Debug" not in failure.message


@pytest.mark.parametrize(
    ("ends", "may", "uri", "reason", "says"),
    [
        (PAST, "rl", URI, ModelFault.CREDENTIALS_EXPIRED, f"ended at {PAST}"),
        (LATER, "l", URI, ModelFault.MODEL_ACCESS_DENIED, "AuthorizationPermissionMismatch"),
        (LATER, "r", f"{ROOT}/fraud/7/", ModelFault.MODEL_ACCESS_DENIED, "list its folder"),
    ],
)
def test_a_token_that_does_not_suffice_says_why(
    slipway_model: SlipwayModel, store: Azure, ends: str, may: str, uri: str, reason: str, says: str
) -> None:
    token = store.sas(ends, may)
    failure = slipway_model.not_resolved(uri, **store.keys(AZURE_STORAGE_SAS_TOKEN=token))
    assert (failure.reason, says in failure.message) == (reason, True), failure
    assert token.rpartition("sig=")[2] not in failure.message


@pytest.mark.parametrize(
    ("status", "code", "key", "reason", "says"),
    [
        (404, "ResourceNotFound", "", ModelFault.MODEL_ACCESS_DENIED, "none were sent"),
        (409, "PublicAccessNotPermitted", "", ModelFault.MODEL_ACCESS_DENIED, "none were sent"),
        (403, "AuthenticationFailed", AZURE_KEY, ModelFault.MODEL_ACCESS_DENIED, "AZURE_STORAGE_KEY or"),
        (503, "ServerBusy", AZURE_KEY, ModelFault.STORE_THROTTLED, "slow down"),
    ],
)
def test_what_azure_says_and_the_store_of_the_tests_does_not(
    slipway_model: SlipwayModel,
    serve: Callable[[], WebServer],
    ca_certificate: str,
    status: int,
    code: str,
    key: str,
    reason: str,
    says: str,
) -> None:
    server = serve()
    server.replies[f"/models/{KEY}"] = Reply(f"<Error><Code>{code}</Code></Error>".encode(), status)
    failure = slipway_model.not_resolved(
        URI,
        SLIPWAY_CREDENTIAL_AZURE_STORAGE_ENDPOINT=server.url,
        SLIPWAY_CREDENTIAL_AZURE_STORAGE_KEY=key,
        SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate,
    )
    assert (failure.reason, says in failure.message) == (reason, True), failure


@pytest.mark.parametrize(
    "uri",
    ["az://lake/models", "az://Lake/models/m.onnx", "az://lake/models/m.onnx?v=1", "az://lake/m_s/m.onnx"],
)
def test_other_forms_of_the_uri_are_refused_with_examples(slipway_model: SlipwayModel, uri: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "az://lake/models/fraud/7/model.onnx" in failure.message
