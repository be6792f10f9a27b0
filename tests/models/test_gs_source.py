"""``gs://`` against fake-gcs-server, which keeps no accounts: those cases play Google's answers."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from slipway.contract import ModelFault
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.servers import Reply, WebServer
from tests.models.stores import Gs

KEY = "fraud/7/model.onnx"
URI = f"gs://models/{KEY}"
ACCOUNT = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ACCOUNT_KEY = json.dumps(
    {
        "type": "service_account",
        "private_key": ACCOUNT.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        "private_key_id": "1",
        "client_email": "reader@tests.iam.gserviceaccount.com",
    }
)


@pytest.fixture(scope="module")
def model() -> bytes:
    return onnx_classifier().SerializeToString()


@pytest.mark.parametrize("folder", [False, True])
def test_a_generation_is_pinned_and_old_ones_can_still_be_fetched(
    slipway_model: SlipwayModel, gs: Gs, model: bytes, folder: bool
) -> None:
    uri = "gs://models/fraud/7/" if folder else URI
    first = gs.put(KEY, model)
    before = slipway_model.resolved(uri, **gs.keys())
    second = gs.put(KEY, onnx_classifier(0.1).SerializeToString())
    after = slipway_model.resolved(uri, **gs.keys())
    assert (before.version, after.version) == (first, second)
    assert before.uri == f"{URI}#{first}"
    assert before.digest == f"sha256:{hashlib.sha256(model).hexdigest()}" != after.digest
    slipway_model.fetched(before.uri, before.digest, **gs.keys())
    assert digest_of(slipway_model.model_dir) == before.digest
    # A folder is marked by all that is in it.
    pinned = slipway_model.resolved(before.uri, **gs.keys())
    assert pinned.model_copy(update={"mark": before.mark}) == before


def test_keys_with_special_characters_are_written_as_in_addresses(
    slipway_model: SlipwayModel, gs: Gs, model: bytes
) -> None:
    key = "a b/ü%20#?.onnx"
    generation = gs.put(key, model)
    resolution = slipway_model.resolved(f"gs://models/{quote(key)}", **gs.keys())
    assert resolution.uri == f"gs://models/{quote(key)}#{generation}"


@pytest.mark.parametrize(
    ("uri", "keys", "reason", "says"),
    [
        ("gs://models/fraud/8/model.onnx", {}, ModelFault.MODEL_NOT_FOUND, "does not exist"),
        (f"{URI}#123", {}, ModelFault.MODEL_NOT_FOUND, "does not exist"),
        ("gs://models/fraud/8/", {}, ModelFault.MODEL_NOT_FOUND, "gs://models/fraud/8 does not exist"),
        (URI, {"CA_CERT": ""}, ModelFault.REGISTRY_UNREACHABLE, "certificate of localhost"),
        (URI, {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}, ModelFault.MODEL_ACCESS_DENIED, "no JSON object with a"),
        (
            URI,
            {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"type": "external_account"}'},
            ModelFault.MODEL_ACCESS_DENIED,
            "of the type 'external_account'",
        ),
        (
            URI,
            {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"type": "service_account", "private_key": "no key"}'},
            ModelFault.MODEL_ACCESS_DENIED,
            "fix GOOGLE_SERVICE_ACCOUNT_KEY",
        ),
        (URI, {"GOOGLE_ENDPOINT_URL": "http://localhost"}, ModelFault.REGISTRY_UNREACHABLE, "the https://"),
        (URI, {"GOOGLE_ENDPOINT_URL": "https://gs.invalid"}, ModelFault.REGISTRY_UNREACHABLE, "lookup"),
    ],
)
def test_each_way_to_fail_has_its_reason(
    slipway_model: SlipwayModel, gs: Gs, model: bytes, uri: str, keys: dict[str, str], reason: str, says: str
) -> None:
    gs.put(KEY, model)
    failure = slipway_model.not_resolved(uri, **gs.keys(**keys))
    assert (failure.reason, says in failure.message) == (reason, True), failure
    assert "Debug" not in failure.message


@pytest.mark.parametrize(
    ("status", "code", "reason", "says"),
    [
        (404, "NoSuchBucket", ModelFault.BUCKET_NOT_FOUND, "the bucket 'models' does not exist"),
        (403, "AccessDenied", ModelFault.MODEL_ACCESS_DENIED, "refused the credentials"),
        (401, "AuthenticationRequired", ModelFault.MODEL_ACCESS_DENIED, "GOOGLE_SERVICE_ACCOUNT_KEY"),
        (429, "SlowDown", ModelFault.STORE_THROTTLED, "slow down"),
    ],
)
def test_what_google_says_and_the_store_of_the_tests_does_not(
    slipway_model: SlipwayModel,
    serve: Callable[[], WebServer],
    ca_certificate: str,
    status: int,
    code: str,
    reason: str,
    says: str,
) -> None:
    server = serve()
    server.replies[f"/models/{_path(KEY)}"] = Reply(f"<Error><Code>{code}</Code></Error>".encode(), status)
    failure = slipway_model.not_resolved(URI, **_keys(server, ca_certificate))
    assert (failure.reason, says in failure.message) == (reason, True), failure


def test_a_service_account_signs_its_requests_with_its_key(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str, model: bytes
) -> None:
    server = serve()
    headers = {"x-goog-generation": "5", "ETag": '"a"', "Last-Modified": "Sun, 29 Nov 2026 10:00:00 GMT"}
    server.replies[f"/models/{_path(KEY)}"] = Reply(model, headers=headers)
    resolution = slipway_model.resolved(URI, **_keys(server, ca_certificate))
    assert resolution.uri == f"{URI}#5"
    sent = {authorization for _, authorization in server.asked}
    assert None not in sent
    for authorization in filter(None, sent):
        head, body, signature = authorization.removeprefix("Bearer ").split(".")
        ACCOUNT.public_key().verify(
            _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        assert json.loads(_decoded(body))["iss"] == "reader@tests.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    "uri",
    [
        "gs://models",
        "gs://Models/m.onnx",
        "gs://models/m.onnx#latest",
        "gs://models/m.onnx?x=1",
        "gs://m/../m",
    ],
)
def test_other_forms_of_the_uri_are_refused_with_examples(slipway_model: SlipwayModel, uri: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "gs://models/fraud/7/model.onnx" in failure.message


def _keys(server: WebServer, ca_certificate: str) -> dict[str, str]:
    return {
        "SLIPWAY_CREDENTIAL_GOOGLE_ENDPOINT_URL": server.url,
        "SLIPWAY_CREDENTIAL_GOOGLE_SERVICE_ACCOUNT_KEY": ACCOUNT_KEY,
        "SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate,
    }


def _path(key: str) -> str:
    return quote(key, safe="").replace(".", "%2E")


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
