"""``s3://`` against SeaweedFS; faults that it cannot be made to show come from a server that plays them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from slipway.contract import Failed, ModelFault, Resolved, TerminationMessage
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide
from tests.models.relay import relay
from tests.models.servers import Reply, WebServer, web_server
from tests.models.stores import S3, S3_DOMAIN
from tests.ports import free_port

KEY = "fraud/7/model.onnx"
URI = f"s3://models/{KEY}"


@pytest.fixture(scope="module")
def model() -> bytes:
    return onnx_classifier().SerializeToString()


@pytest.fixture(scope="module")
def other() -> bytes:
    return onnx_classifier(0.1).SerializeToString()


@pytest.fixture(scope="module")
def store(s3: S3, model: bytes) -> S3:
    """With ``fraud/7/model.onnx`` in every bucket."""
    for bucket in ("models", "open", "private", "versions"):
        s3.put(bucket, KEY, model)
    s3.put("models", "fraud/7/training.log", b"100 epochs")
    s3.put("models", "fraud/7/checkpoints/1.onnx", b"not of this folder")
    return s3


@pytest.mark.parametrize("uri", [URI, "s3://models/fraud/7/", "s3://models/fraud/7"])
def test_a_file_and_a_folder_with_one_are_resolved_by_digest_and_fetched(
    slipway_model: SlipwayModel, store: S3, model: bytes, uri: str
) -> None:
    resolution = slipway_model.resolved(uri, **store.keys())
    sha256 = hashlib.sha256(model).hexdigest()
    assert resolution.digest == f"sha256:{sha256}"
    assert resolution.version == sha256[:12]
    assert resolution.bytes == len(model)
    assert resolution.uri == URI
    assert resolution.createdAt is not None
    age = datetime.now(UTC) - datetime.fromisoformat(resolution.createdAt)
    assert timedelta(seconds=-5) < age < timedelta(hours=2)
    slipway_model.fetched(resolution.uri, resolution.digest, **store.keys())
    assert {file.name: file.read_bytes() for file in slipway_model.model_dir.iterdir()} == {
        "model.onnx": model
    }


def test_a_file_needs_no_right_to_list(slipway_model: SlipwayModel, store: S3) -> None:
    slipway_model.resolved(URI, **store.keys("getter"))
    failure = slipway_model.not_resolved("s3://models/fraud/7/", **store.keys("getter"))
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert "list its folder" in failure.message


def test_a_bucket_with_versions_pins_one_and_old_ones_can_still_be_fetched(
    slipway_model: SlipwayModel, store: S3, model: bytes, other: bytes
) -> None:
    first = store.put("versions", KEY, model)
    before = slipway_model.resolved(f"s3://versions/{KEY}", **store.keys())
    second = store.put("versions", KEY, other)
    after = slipway_model.resolved(f"s3://versions/{KEY}", **store.keys())
    assert (before.version, after.version) == (first, second)
    assert before.uri == f"s3://versions/{KEY}?versionId={first}"
    assert before.digest != after.digest
    slipway_model.fetched(before.uri, before.digest, **store.keys())
    assert (slipway_model.model_dir / "model.onnx").read_bytes() == model
    # What a person pins in the spec is the same.
    assert slipway_model.resolved(before.uri, **store.keys()) == before


def test_an_object_from_before_its_bucket_had_versions_is_pinned_by_its_bytes_alone(
    slipway_model: SlipwayModel, store: S3
) -> None:
    assert "versionId" not in slipway_model.resolved(URI, **store.keys()).uri


def test_an_object_that_was_replaced_without_versions_is_not_served(
    slipway_model: SlipwayModel, store: S3, model: bytes, other: bytes
) -> None:
    store.put("models", "replaced/model.onnx", model)
    resolution = slipway_model.resolved("s3://models/replaced/model.onnx", **store.keys())
    store.put("models", "replaced/model.onnx", other)
    failure = slipway_model.not_fetched(resolution.uri, resolution.digest, **store.keys())
    assert failure.reason == ModelFault.DIGEST_MISMATCH
    assert list(slipway_model.model_dir.iterdir()) == []


def test_weights_next_to_the_model_are_fetched_too(
    slipway_model: SlipwayModel, store: S3, tmp_path: Path
) -> None:
    save_wide(tmp_path / "wide")
    for name in ("model.onnx", "weights.bin"):
        store.put("models", f"wide/{name}", (tmp_path / "wide" / name).read_bytes())
    resolution = slipway_model.resolved("s3://models/wide/", **store.keys())
    assert resolution.digest == digest_of(tmp_path / "wide")
    slipway_model.fetched(resolution.uri, resolution.digest, **store.keys())
    assert digest_of(slipway_model.model_dir) == resolution.digest

    store.delete("models", "wide/weights.bin")
    failure = slipway_model.not_resolved("s3://models/wide/", **store.keys())
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert "keeps weights in 'weights.bin'" in failure.message


def test_a_bucket_for_everybody_needs_no_credentials(slipway_model: SlipwayModel, store: S3) -> None:
    slipway_model.resolved(f"s3://open/{KEY}", **store.keys(user=""))


@pytest.mark.parametrize("key", ["a b/ü%20x.onnx", "q#?[1]~/m+1=@.onnx", "日本/model.onnx"])
def test_keys_with_special_characters_are_written_as_in_addresses(
    slipway_model: SlipwayModel, store: S3, model: bytes, key: str
) -> None:
    store.put("models", key, model)
    resolution = slipway_model.resolved(f"s3://models/{quote(key)}", **store.keys())
    assert resolution.uri == f"s3://models/{quote(key)}"
    slipway_model.fetched(resolution.uri, resolution.digest, **store.keys())
    folder = quote(key.rpartition("/")[0])
    beside = slipway_model.resolved(f"s3://models/{folder}/", **store.keys())
    # A folder is marked by all that is in it.
    assert beside.model_copy(update={"mark": resolution.mark}) == resolution


def test_the_bucket_may_be_part_of_the_hosts_name(
    slipway_model: SlipwayModel, started: Callable[..., subprocess.Popen[str]], store: S3, tmp_path: Path
) -> None:
    """In a mount namespace with a hosts file of its own, for nobody resolves the name."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost models.{S3_DOMAIN}\n")
    below = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount --bind {hosts} /etc/hosts && exec "$@"',
        "sh",
    ]
    address = f"https://{S3_DOMAIN}:{urlsplit(store.url).port}"
    keys = store.keys(AWS_ENDPOINT_URL=address, AWS_S3_ADDRESSING_STYLE="virtual")
    process = started("resolve", {"uri": URI}, below=below, **keys)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    outcome = TerminationMessage.model_validate_json(slipway_model.last_words.read_bytes()).outcome
    assert isinstance(outcome, Resolved)


@pytest.mark.parametrize(
    ("uri", "keys", "reason", "says"),
    [
        (
            "s3://models/fraud/8/model.onnx",
            {},
            ModelFault.MODEL_NOT_FOUND,
            "s3://models/fraud/8/model.onnx does not exist",
        ),
        ("s3://models/fraud/8/", {}, ModelFault.MODEL_NOT_FOUND, "s3://models/fraud/8 does not exist"),
        ("s3://models/fraud/", {}, ModelFault.MODEL_NOT_FOUND, "it holds: 7/"),
        (f"s3://versions/{KEY}?versionId=nonsense", {}, ModelFault.MODEL_NOT_FOUND, "does not exist in that"),
        (
            "s3://nobodys/model.onnx",
            {"user": "admin"},
            ModelFault.BUCKET_NOT_FOUND,
            "the bucket 'nobodys' does not exist at localhost",
        ),
        ("s3://nobodys/fraud/", {"user": "admin"}, ModelFault.BUCKET_NOT_FOUND, "AWS_ENDPOINT_URL"),
        (URI, {"user": "nobody"}, ModelFault.MODEL_ACCESS_DENIED, "InvalidAccessKeyId"),
        (URI, {"secret": "not-the-secret"}, ModelFault.MODEL_ACCESS_DENIED, "SignatureDoesNotMatch"),
        (URI, {"user": ""}, ModelFault.MODEL_ACCESS_DENIED, "none were sent"),
        (
            f"s3://private/{KEY}",
            {},
            ModelFault.MODEL_ACCESS_DENIED,
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (URI, {"CA_CERT": ""}, ModelFault.REGISTRY_UNREACHABLE, "certificate of localhost"),
        (URI, {"CA_CERT": "MIIB"}, ModelFault.MODEL_ACCESS_DENIED, "BEGIN CERTIFICATE"),
        (URI, {"AWS_S3_ADDRESSING_STYLE": "auto"}, ModelFault.MODEL_ACCESS_DENIED, "path or virtual"),
        (URI, {"AWS_SECRET_ACCESS_KEY": ""}, ModelFault.MODEL_ACCESS_DENIED, "one of AWS_ACCESS_KEY_ID"),
        (URI, {"AWS_ENDPOINT_URL": "minio:9000"}, ModelFault.REGISTRY_UNREACHABLE, "must be the https://"),
        (
            URI,
            {"AWS_ENDPOINT_URL": "https://s3.invalid"},
            ModelFault.REGISTRY_UNREACHABLE,
            "s3.invalid cannot be reached (failed to lookup",
        ),
        (
            URI,
            {"AWS_ENDPOINT_URL": f"https://localhost:{free_port()}"},
            ModelFault.REGISTRY_UNREACHABLE,
            "Connection refused",
        ),
        (URI, {"AWS_ENDPOINT_URL": "http://{tls}"}, ModelFault.REGISTRY_UNREACHABLE, "HTTP 400"),
    ],
)
def test_each_way_to_fail_has_its_reason(
    slipway_model: SlipwayModel, store: S3, uri: str, keys: dict[str, str], reason: ModelFault, says: str
) -> None:
    given = {name: value.format(tls=urlsplit(store.url).netloc) for name, value in keys.items()}
    failure = slipway_model.not_resolved(uri, **store.keys(**given))
    assert (failure.reason, says in failure.message) == (reason, True), failure
    assert "-secret" not in failure.message
    assert "Debug" not in failure.message


@pytest.mark.parametrize(
    ("status", "code", "more", "reason", "says"),
    [
        (400, "ExpiredToken", "", ModelFault.CREDENTIALS_EXPIRED, "have expired"),
        (301, "PermanentRedirect", "", ModelFault.WRONG_REGION, "under the key AWS_REGION"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "<Region>eu-west-1</Region>",
            ModelFault.WRONG_REGION,
            "AWS_REGION: eu-west-1",
        ),
        (503, "SlowDown", "", ModelFault.STORE_THROTTLED, "slow down"),
        (429, "TooManyRequests", "", ModelFault.STORE_THROTTLED, "slow down"),
        (403, "RequestTimeTooSkewed", "", ModelFault.MODEL_ACCESS_DENIED, "RequestTimeTooSkewed"),
        (
            500,
            "InternalError",
            "<Message>disk on fire</Message>",
            ModelFault.REGISTRY_UNREACHABLE,
            "disk on fire",
        ),
    ],
)
def test_what_amazon_says_and_the_store_of_the_tests_does_not(
    slipway_model: SlipwayModel, status: int, code: str, more: str, reason: ModelFault, says: str
) -> None:
    with web_server() as server:
        body = f"<Error><Code>{code}</Code>{more}</Error>".encode()
        server.replies[f"/models/{KEY}"] = Reply(body, status)
        failure = slipway_model.not_resolved(URI, **_keys(server))
    assert (failure.reason, says in failure.message) == (reason, True), failure


def test_a_store_that_is_busy_for_a_moment_is_asked_again(slipway_model: SlipwayModel, model: bytes) -> None:
    with web_server() as server:
        server.replies[f"/models/{KEY}"] = Reply(model, unwell=2)
        slipway_model.resolved(URI, **_keys(server))
        assert len([path for path, *_ in server.asked if path == f"/models/{KEY}"]) == 4


def test_credentials_do_not_follow_a_redirect(slipway_model: SlipwayModel, model: bytes) -> None:
    with web_server() as first, web_server() as second:
        first.replies[f"/models/{KEY}"] = Reply(
            status=307, headers={"Location": f"{second.url}/models/{KEY}"}
        )
        second.replies[f"/models/{KEY}"] = Reply(model, wants="anything")
        failure = slipway_model.not_resolved(URI, **_keys(first))
        assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
        assert {authorization for _, authorization in second.asked} == {None}


def test_a_redirect_from_tls_to_plain_http_is_not_followed(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str, model: bytes
) -> None:
    server = serve()
    with web_server() as plain:
        plain.replies[f"/models/{KEY}"] = Reply(model)
        server.replies[f"/models/{KEY}"] = Reply(
            status=302, headers={"Location": f"{plain.url}/models/{KEY}"}
        )
        failure = slipway_model.not_resolved(URI, **_keys(server), SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate)
        assert plain.asked == []
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE


def test_a_body_that_breaks_off_is_continued_where_it_ended(
    slipway_model: SlipwayModel, store: S3, model: bytes
) -> None:
    big = _padded(model, 30_000_000)
    store.put("models", "big/model.onnx", big)
    with relay(store.plain_url, cuts=[10_000_000]) as line:
        keys = store.keys(AWS_ENDPOINT_URL=line.url)
        resolution = slipway_model.resolved("s3://models/big/model.onnx", **keys)
    assert resolution.digest == f"sha256:{hashlib.sha256(big).hexdigest()}"
    assert 20_000_000 < line.carried < 45_000_000


def test_an_object_that_changes_while_it_is_read_is_noticed(
    slipway_model: SlipwayModel, store: S3, model: bytes
) -> None:
    store.put("models", "changing/model.onnx", _padded(model, 30_000_000))

    def replace() -> None:
        store.put("models", "changing/model.onnx", _padded(model, 31_000_000))

    with relay(store.plain_url, cuts=[10_000_000], then=replace) as line:
        failure = slipway_model.not_resolved(
            "s3://models/changing/model.onnx", **store.keys(AWS_ENDPOINT_URL=line.url)
        )
    assert failure.reason == ModelFault.MODEL_CHANGED
    assert "while it was being read" in failure.message


def test_a_model_above_the_limit_is_not_read_to_its_end(
    slipway_model: SlipwayModel, store: S3, model: bytes
) -> None:
    store.put("models", "large/model.onnx", _padded(model, 30_000_000))
    with relay(store.plain_url) as line:
        outcome = slipway_model(
            "resolve",
            {"uri": "s3://models/large/model.onnx", "maxBytes": 2_000_000},
            **store.keys(AWS_ENDPOINT_URL=line.url),
        ).outcome
        assert isinstance(outcome, Failed)
        assert outcome.failure.reason == ModelFault.NO_SPACE
        assert line.carried < 20_000_000


def test_what_is_not_a_model_is_called_by_its_name(slipway_model: SlipwayModel, store: S3) -> None:
    store.put("models", "pickle/model.onnx", b"\x80\x05\x95\x00")
    failure = slipway_model.not_resolved("s3://models/pickle/model.onnx", **store.keys())
    assert failure.reason == ModelFault.NOT_AN_ONNX_MODEL
    assert "pickle" in failure.message


def test_a_folder_with_several_models_wants_one_named(
    slipway_model: SlipwayModel, store: S3, model: bytes
) -> None:
    for name in ("a", "b"):
        store.put("models", f"several/{name}.onnx", model)
    failure = slipway_model.not_resolved("s3://models/several", **store.keys())
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "(a.onnx, b.onnx): name one, such as s3://models/several/a.onnx" in failure.message


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://models", "s3://BUCKET/KEY"),
        ("s3://models/", "s3://BUCKET/KEY"),
        ("s3://Models/m.onnx", "s3://BUCKET/KEY"),
        ("s3://models/../m.onnx", "s3://BUCKET/KEY"),
        ("s3://models//m.onnx", "s3://BUCKET/KEY"),
        ("s3://models/a%2F%2Fm.onnx", "s3://BUCKET/KEY"),
        ("s3://models/m%00.onnx", "s3://BUCKET/KEY"),
        ("s3://models/m%ff.onnx", "s3://BUCKET/KEY"),
        ("s3://models/m.onnx?version=1", "s3://BUCKET/KEY"),
        ("s3://models/m.onnx?versionId=1&x=y", "s3://BUCKET/KEY"),
        ("s3://models/m.onnx#1", "s3://BUCKET/KEY"),
        ("s3://key:secret@models/m.onnx", "s3://BUCKET/KEY"),
        ("s3://models/folder/?versionId=1", "only objects have versions"),
    ],
)
def test_other_forms_of_the_uri_are_refused_with_examples(
    slipway_model: SlipwayModel, uri: str, says: str
) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert says in failure.message


def _keys(server: WebServer) -> dict[str, str]:
    return {
        "SLIPWAY_CREDENTIAL_AWS_ENDPOINT_URL": server.url,
        "SLIPWAY_CREDENTIAL_AWS_ACCESS_KEY_ID": "reader",
        "SLIPWAY_CREDENTIAL_AWS_SECRET_ACCESS_KEY": "reader-secret",
    }


def _padded(model: bytes, size: int) -> bytes:
    """The same model with a long comment: field 6, ``doc_string``, once more."""
    length, varint = size, bytearray()
    while length >= 0x80:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return model + bytes([6 << 3 | 2, *varint, length]) + b"x" * size
