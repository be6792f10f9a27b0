from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.ledger import hold
from slipway.contract import ModelFault
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide
from tests.models.servers import Reply, WebServer, web_server
from tests.ports import free_port

PATH = "/fraud/7/model.onnx"


@pytest.fixture(scope="module")
def model() -> bytes:
    return onnx_classifier().SerializeToString()


@pytest.fixture
def server(serve: Callable[[], WebServer], model: bytes) -> WebServer:
    web = serve()
    web.replies[PATH] = Reply(model)
    return web


@pytest.fixture
def ca(ca_certificate: str) -> dict[str, str]:
    return {"SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate}


def test_a_file_is_resolved_by_its_digest_and_fetched(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], model: bytes
) -> None:
    resolution = slipway_model.resolved(server.url + PATH, **ca)
    sha256 = hashlib.sha256(model).hexdigest()
    assert resolution.digest == f"sha256:{sha256}"
    assert resolution.version == sha256[:12]
    assert resolution.bytes == len(model)
    assert resolution.uri == server.url + PATH
    slipway_model.fetched(resolution.uri, resolution.digest, **ca)
    assert (slipway_model.model_dir / "model.onnx").read_bytes() == model


def of_models(server: WebServer) -> list[tuple[str, str | None]]:
    """What was asked for, and with which right, without the looks for profile and proof next to it."""
    return [
        (path, right)
        for path, right in server.asked
        if not path.endswith(("/profile.json", "/conversion.json"))
    ]


def test_an_address_without_a_file_name_gets_one_and_keeps_its_query(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], model: bytes
) -> None:
    server.replies["/download"] = Reply(model)
    resolution = slipway_model.resolved(f"{server.url}/download?id=7&sig=a%2Fb", **ca)
    assert of_models(server)[-1][0] == "/download?id=7&sig=a%2Fb"
    slipway_model.fetched(resolution.uri, resolution.digest, **ca)
    assert [file.name for file in slipway_model.model_dir.iterdir()] == ["model.onnx"]


def test_weights_beside_the_model_are_fetched_too(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], tmp_path: Path
) -> None:
    save_wide(tmp_path / "wide")
    for name in ("model.onnx", "weights.bin"):
        server.replies[f"/wide/{name}"] = Reply((tmp_path / "wide" / name).read_bytes())
    resolution = slipway_model.resolved(f"{server.url}/wide/model.onnx", **ca)
    assert resolution.digest == digest_of(tmp_path / "wide")
    slipway_model.fetched(resolution.uri, resolution.digest, **ca)
    assert digest_of(slipway_model.model_dir) == resolution.digest

    del server.replies["/wide/weights.bin"]
    failure = slipway_model.not_resolved(f"{server.url}/wide/model.onnx", **ca)
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert "keeps weights in 'weights.bin'" in failure.message


def test_a_file_that_changed_after_it_was_resolved_is_not_served(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str]
) -> None:
    resolution = slipway_model.resolved(server.url + PATH, **ca)
    server.replies[PATH] = Reply(onnx_classifier(0.01).SerializeToString())
    failure = slipway_model.not_fetched(resolution.uri, resolution.digest, **ca)
    assert failure.reason == ModelFault.DIGEST_MISMATCH
    assert list(slipway_model.model_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "header"),
    [
        (
            {"SLIPWAY_CREDENTIAL_HTTP_USERNAME": "ann", "SLIPWAY_CREDENTIAL_HTTP_PASSWORD": "pä:ss\n"},
            "Basic YW5uOnDDpDpzcw==",
        ),
        ({"SLIPWAY_CREDENTIAL_HTTP_TOKEN": "t0ken"}, "Bearer t0ken"),
    ],
)
def test_credentials_open_the_door(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], keys: dict[str, str], header: str
) -> None:
    server.replies[PATH].wants = header
    slipway_model.resolved(server.url + PATH, **ca, **keys)
    failure = slipway_model.not_resolved(server.url + PATH, **ca)
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert "none were sent (HTTP 401)" in failure.message
    assert "HTTP_USERNAME" in failure.message


def test_a_redirect_is_followed_without_the_credentials(
    slipway_model: SlipwayModel,
    server: WebServer,
    serve: Callable[[], WebServer],
    ca: dict[str, str],
) -> None:
    front = serve()
    front.replies["/latest.onnx"] = Reply(status=302, headers={"Location": server.url + PATH})
    slipway_model.resolved(f"{front.url}/latest.onnx", **ca, SLIPWAY_CREDENTIAL_HTTP_TOKEN="t0ken")
    assert of_models(front) == [("/latest.onnx", "Bearer t0ken")]
    assert server.asked == [(PATH, None)]


def test_a_door_behind_a_redirect_is_named(
    slipway_model: SlipwayModel,
    server: WebServer,
    serve: Callable[[], WebServer],
    ca: dict[str, str],
) -> None:
    front = serve()
    front.replies["/latest.onnx"] = Reply(status=302, headers={"Location": server.url + PATH})
    server.replies[PATH].wants = "Bearer t0ken"
    failure = slipway_model.not_resolved(
        f"{front.url}/latest.onnx", **ca, SLIPWAY_CREDENTIAL_HTTP_TOKEN="t0ken"
    )
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert f"{server.url}{PATH} wants credentials, but those of localhost do not follow" in failure.message


def test_a_redirect_on_the_same_host_keeps_the_credentials(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str]
) -> None:
    server.replies["/latest.onnx"] = Reply(status=307, headers={"Location": PATH})
    slipway_model.resolved(f"{server.url}/latest.onnx", **ca, SLIPWAY_CREDENTIAL_HTTP_TOKEN="t0ken")
    assert of_models(server) == [("/latest.onnx", "Bearer t0ken"), (PATH, "Bearer t0ken")]


def test_a_redirect_to_plain_http_is_refused(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], model: bytes
) -> None:
    with web_server() as plain:
        plain.replies[PATH] = Reply(model)
        server.replies["/latest.onnx"] = Reply(status=302, headers={"Location": plain.url + PATH})
        failure = slipway_model.not_resolved(f"{server.url}/latest.onnx", **ca)
        assert plain.asked == []
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "not encrypted" in failure.message


def test_redirects_in_a_circle_end(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str]
) -> None:
    server.replies["/latest.onnx"] = Reply(status=302, headers={"Location": "/latest.onnx"})
    failure = slipway_model.not_resolved(f"{server.url}/latest.onnx", **ca)
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "redirects" in failure.message


def test_a_truncated_file_is_refused_with_its_reason(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], model: bytes
) -> None:
    digest = slipway_model.resolved(server.url + PATH, **ca).digest
    server.replies[PATH] = Reply(model[:300], announced=len(model))
    resolving = slipway_model.not_resolved(server.url + PATH, **ca)
    fetching = slipway_model.not_fetched(server.url + PATH, digest, **ca)
    for failure in (resolving, fetching):
        assert failure.reason == ModelFault.MODEL_TRUNCATED
        assert f"after 300 bytes of the {len(model)} it announced" in failure.message
    assert not list(slipway_model.model_dir.glob("*.onnx"))


def test_a_file_that_was_uploaded_in_part_is_refused(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], model: bytes
) -> None:
    server.replies[PATH] = Reply(model[:300])
    failure = slipway_model.not_resolved(server.url + PATH, **ca)
    assert failure.reason == ModelFault.MODEL_TRUNCATED
    assert "ends after 300 bytes" in failure.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x80\x05\x95\x00", "pickle"),
        (b"", "is empty"),
        (b"just text", "another format"),
    ],
)
def test_what_is_not_a_model_is_called_by_its_name(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], body: bytes, says: str
) -> None:
    server.replies[PATH] = Reply(body)
    failure = slipway_model.not_resolved(server.url + PATH, **ca)
    assert failure.reason == ModelFault.NOT_AN_ONNX_MODEL
    assert says in failure.message


def test_a_missing_file_is_reported_without_the_secrets_of_its_address(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    failure = slipway_model.not_resolved(f"{server.url}/none.onnx?sig=s3cret", **ca)
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert f"{server.url}/none.onnx does not exist" in failure.message
    assert "s3cret" not in failure.message + "".join(capfd.readouterr())


def test_an_unknown_authority_is_reported_with_where_to_put_it(
    slipway_model: SlipwayModel, server: WebServer
) -> None:
    failure = slipway_model.not_resolved(server.url + PATH)
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "CA_CERT" in failure.message


def test_the_authority_may_be_under_the_key_of_kubernetes(
    slipway_model: SlipwayModel, server: WebServer, ca_certificate: str
) -> None:
    slipway_model.resolved(server.url + PATH, SLIPWAY_CREDENTIAL_ca_crt=ca_certificate)


def test_a_certificate_that_is_not_pem_is_reported(slipway_model: SlipwayModel, server: WebServer) -> None:
    failure = slipway_model.not_resolved(server.url + PATH, SLIPWAY_CREDENTIAL_CA_CERT="MIIB")
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
    assert "BEGIN CERTIFICATE" in failure.message


def test_a_server_that_is_unwell_for_a_moment_is_asked_again(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str]
) -> None:
    server.replies[PATH].unwell = 1
    slipway_model.resolved(server.url + PATH, **ca)
    assert len(of_models(server)) == 2


@pytest.mark.timed
def test_a_server_that_stays_unwell_is_reported_soon(
    slipway_model: SlipwayModel, server: WebServer, ca: dict[str, str]
) -> None:
    server.replies[PATH].unwell = 99
    start = time.monotonic()
    failure = slipway_model.not_resolved(server.url + PATH, **ca)
    hold("a server that stays unwell is reported", time.monotonic() - start, 20)
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "HTTP 503: starting" in failure.message


@pytest.mark.usefixtures("without_retries")
def test_a_host_that_does_not_exist_is_reported(slipway_model: SlipwayModel) -> None:
    failure = slipway_model.not_resolved("https://models.invalid/model.onnx")
    assert failure.reason == ModelFault.REGISTRY_UNREACHABLE
    assert "models.invalid" in failure.message


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (f"http://localhost:{free_port()}/model.onnx", "not encrypted"),
        ("https://models.example.com", "must name a file"),
        ("https:///model.onnx", "must name a file"),
        ("https://ann:pass@models.example.com/model.onnx", "must not hold a password"),
        ("https://models.example.com/model.onnx#v7", "after '#'"),
        ("https://models.example.com:port/model.onnx", "is not an address"),
        ("ftp://bucket/model.onnx", "pvc://CLAIM/path"),
        ("model.onnx", "https://HOST/PATH/model.onnx"),
    ],
)
def test_other_addresses_are_refused_with_examples(slipway_model: SlipwayModel, uri: str, says: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert says.lower() in failure.message.lower()
