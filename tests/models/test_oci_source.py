"""Models in a real registry: artifacts, ModelPack and modelcars; passwords, tokens and pull secrets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slipway.contract import Failure, ModelFault, Resolved
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide
from tests.models.registries import FILEPATH, INDEX, TITLE, RegistryFront, crane_program
from tests.models.servers import Reply, WebServer
from tests.models.test_looking_again import again

FIRST = onnx_classifier().SerializeToString()
SECOND = onnx_classifier(0.1).SerializeToString()


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def names(failure: Failure, reason: ModelFault, *words: str) -> None:
    assert failure.reason is reason, failure
    for word in words:
        assert word in failure.message, failure.message


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def wide(tmp_path: Path) -> dict[str, bytes]:
    """A model with its weights in a file of their own."""
    save_wide(tmp_path / "wide")
    return {path.name: path.read_bytes() for path in (tmp_path / "wide").iterdir()}


@pytest.mark.parametrize("note", [TITLE, FILEPATH, "org.cnai.model.filepath"])
def test_files_that_are_layers_are_resolved_and_fetched(
    slipway_model: SlipwayModel,
    registry_host: RegistryFront,
    wide: dict[str, bytes],
    note: str,
    tmp_path: Path,
) -> None:
    name = f"shop/{note.rpartition('.')[0].replace('.', '-')}"
    layers = [registry_host.file(name, f"fraud/{path}", content, note) for path, content in wide.items()]
    layers.append(registry_host.file(name, "README.md", b"about it", note))
    digest = registry_host.push(name, "v1", layers)
    uri = f"oci://{registry_host.host}/{name}"
    found = slipway_model.resolved(f"{uri}:v1", **registry_host.keys())
    assert found.uri == f"{uri}@{digest}"
    assert found.digest == digest_of(tmp_path / "wide")
    slipway_model.fetched(found.uri, found.digest, **registry_host.keys())
    assert digest_of(slipway_model.model_dir) == found.digest


@pytest.mark.parametrize("kind", ["tar", "tar+gzip"])
def test_archives_of_a_modelpack_are_unpacked(
    slipway_model: SlipwayModel,
    registry_host: RegistryFront,
    wide: dict[str, bytes],
    kind: str,
    tmp_path: Path,
) -> None:
    packed = archive({f"fraud/{path}": content for path, content in wide.items()})
    packed = gzip.compress(packed) if kind == "tar+gzip" else packed
    layer = registry_host.file("shop/pack", "fraud", packed, FILEPATH)
    layer["mediaType"] = f"application/vnd.cncf.model.weight.v1.{kind}"
    registry_host.push("shop/pack", "v1", [layer], artifactType="application/vnd.cncf.model.manifest.v1+json")
    found = slipway_model.resolved(f"oci://{registry_host.host}/shop/pack:v1", **registry_host.keys())
    assert found.digest == digest_of(tmp_path / "wide")
    slipway_model.fetched(found.uri, found.digest, **registry_host.keys())


def test_a_modelcar_that_crane_made_is_read_for_its_folder_of_models(
    slipway_model: SlipwayModel, registry_host: RegistryFront, wide: dict[str, bytes], tmp_path: Path
) -> None:
    """A later layer wins, as in an image that runs."""
    (tmp_path / "base.tar").write_bytes(
        archive({"etc/passwd": b"", "opt/other.onnx": SECOND, "models/model.onnx": FIRST})
    )
    (tmp_path / "car.tar").write_bytes(archive({f"models/{path}": content for path, content in wide.items()}))
    target = f"{registry_host.behind}/shop/car:v1"
    command = [crane_program(), "append", "--insecure", "-t", target]
    command += ["-f", tmp_path / "base.tar", "-f", tmp_path / "car.tar"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    found = slipway_model.resolved(f"oci://{registry_host.host}/shop/car:v1", **registry_host.keys())
    assert found.digest == digest_of(tmp_path / "wide")
    slipway_model.fetched(found.uri, found.digest, **registry_host.keys())


def pushed(front: RegistryFront, name: str = "shop/fraud", tag: str = "v1", content: bytes = FIRST) -> str:
    front.push(name, tag, [front.file(name, "model.onnx", content)])
    return f"oci://{front.host}/{name}:{tag}"


@pytest.mark.parametrize("kind", ["basic", "bearer"])
@pytest.mark.parametrize("secret", ["keys", "auth", "username"])
def test_a_registry_is_entered_with_a_password_or_a_token_for_one(
    slipway_model: SlipwayModel, registry_host: RegistryFront, kind: str, secret: str
) -> None:
    uri = pushed(registry_host)
    registry_host.kind, registry_host.password = kind, "ada:of the tests"
    entry = (
        {"auth": base64.b64encode(b"ada:of the tests").decode()}
        if secret == "auth"
        else {"username": "ada", "password": "of the tests"}
    )
    pull = {
        "dockerconfigjson": json.dumps({"auths": {f"https://{registry_host.host}/v1/": entry, "other": {}}})
    }
    keys = {"OCI_USERNAME": "ada", "OCI_PASSWORD": "of the tests"} if secret == "keys" else pull
    slipway_model.resolved(uri, **registry_host.keys(**keys))
    failure = slipway_model.not_resolved(uri, **registry_host.keys())
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "OCI_USERNAME")
    failure = slipway_model.not_resolved(uri, **registry_host.keys(OCI_USERNAME="ada", OCI_PASSWORD="wrong"))
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "refused the credentials")


def test_a_registry_that_wants_tokens_of_everybody_is_entered_without_a_secret(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    registry_host.kind = "bearer"
    slipway_model.resolved(pushed(registry_host), **registry_host.keys())


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 3}', '{"auths": {"HOST": {"auth": "%%"}}}'])
def test_a_pull_secret_that_is_none_says_how_it_is_made(
    slipway_model: SlipwayModel, registry_host: RegistryFront, text: str
) -> None:
    keys = registry_host.keys(dockerconfigjson=text.replace("HOST", registry_host.host))
    failure = slipway_model.not_resolved(pushed(registry_host), **keys)
    names(failure, ModelFault.MODEL_ACCESS_DENIED, "kubectl create secret docker-registry")


def test_a_tag_that_moves_is_followed_and_of_one_that_stands_nothing_is_read(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    uri = pushed(registry_host, tag="prod")
    known = slipway_model.resolved(uri, **registry_host.keys())
    registry_host.asked.clear()
    assert again(slipway_model, uri, known, **registry_host.keys()) == known
    assert [path.split("/")[4] for path in registry_host.asked] == ["manifests", "manifests"]
    pushed(registry_host, tag="prod", content=SECOND)
    moved = again(slipway_model, uri, known, **registry_host.keys())
    assert moved.digest == sha256(SECOND)
    # What was pinned is there still.
    slipway_model.fetched(known.uri, known.digest, **registry_host.keys())


@pytest.mark.parametrize(("kind", "more"), [("basic", []), ("bearer", ["token"])])
def test_a_look_again_sends_a_password_or_asks_for_a_token_at_once(
    slipway_model: SlipwayModel, registry_host: RegistryFront, kind: str, more: list[str]
) -> None:
    uri = pushed(registry_host)
    registry_host.kind, registry_host.password = kind, "ada:of the tests"
    keys = registry_host.keys(OCI_USERNAME="ada", OCI_PASSWORD="of the tests")
    known = slipway_model.resolved(uri, **keys)
    registry_host.asked.clear()
    assert again(slipway_model, uri, known, **keys) == known
    assert registry_host.asked[: len(more)] == [f"/{path}" for path in more]
    assert [path.split("/")[4] for path in registry_host.asked[len(more) :]] == ["manifests", "manifests"]
    # A server of one's own gets nothing that is attached, and nobody looks for that.
    whole = slipway_model("resolve", {"uri": uri, "folder": True}, **keys).outcome
    assert isinstance(whole, Resolved)
    registry_host.asked.clear()
    task = {"uri": uri, "folder": True, "known": whole.resolution.model_dump(mode="json")}
    assert slipway_model("resolve", task, **keys).outcome == whole
    assert len(registry_host.asked) == 1 + len(more)


@pytest.mark.parametrize(
    ("before", "after"), [("none", "bearer"), ("basic", "bearer"), ("bearer", "basic"), ("bearer", "none")]
)
def test_a_registry_that_lets_in_otherwise_than_at_the_last_look_is_entered_all_the_same(
    slipway_model: SlipwayModel, registry_host: RegistryFront, before: str, after: str
) -> None:
    uri = pushed(registry_host)
    keys = registry_host.keys(OCI_USERNAME="ada", OCI_PASSWORD="of the tests")
    registry_host.password, registry_host.kind = "ada:of the tests", before
    known = slipway_model.resolved(uri, **keys)
    registry_host.kind = after
    looked = again(slipway_model, uri, known, **keys)
    assert looked == known.model_copy(update={"mark": looked.mark})
    registry_host.asked.clear()
    assert again(slipway_model, uri, looked, **keys) == looked
    assert len(registry_host.asked) == 2 + registry_host.asked.count("/token")


def test_tokens_of_another_host_are_fetched_where_the_registry_says_each_time(
    slipway_model: SlipwayModel, registry_host: RegistryFront, serve: Callable[[], WebServer]
) -> None:
    """Nothing that a status may hold leads a password elsewhere."""
    uri, web = pushed(registry_host), serve()
    registry_host.kind, registry_host.password = "bearer", "ada:of the tests"
    registry_host.tokens.add("of-the-other")
    registry_host.realm = f"{web.url}/token"
    web.replies["/token"] = Reply(b'{"token": "of-the-other"}')
    keys = registry_host.keys(OCI_USERNAME="ada", OCI_PASSWORD="of the tests")
    known = slipway_model.resolved(uri, **keys)
    registry_host.asked.clear()
    web.asked.clear()
    assert again(slipway_model, uri, known, **keys) == known
    assert (len(registry_host.asked), len(web.asked)) == (3, 1)
    # Not by a forged note either.
    registry_host.kind = "basic"
    assert known.mark is not None
    core = known.mark.partition(" ")[0]
    for note in (f"{web.url}/token", f"/{web.url.removeprefix('https:/')}/token", "/@localhost/token"):
        web.asked.clear()
        forged = known.model_copy(update={"mark": f"{core} {note}"})
        assert again(slipway_model, uri, forged, **keys).digest == known.digest
        assert not web.asked


def test_of_an_index_the_manifest_of_this_platform_is_read(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    name, entries = "shop/index", []
    for architecture, content in {"arm64": SECOND, "amd64": FIRST}.items():
        digest = registry_host.push(name, architecture, [registry_host.file(name, "model.onnx", content)])
        size = 1 + len(content)
        platform = {"os": "linux", "architecture": architecture}
        entries.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": size,
                "platform": platform,
            }
        )
    registry_host.put(name, "v1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    found = slipway_model.resolved(f"oci://{registry_host.host}/{name}:v1", **registry_host.keys())
    assert found.digest == sha256(FIRST)
    registry_host.put(name, "v2", {"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
    failure = slipway_model.not_resolved(f"oci://{registry_host.host}/{name}:v2", **registry_host.keys())
    names(failure, ModelFault.INVALID_MODEL_URI, "index of 0 manifests")


def test_what_is_not_there_is_told_with_what_is(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    uri, keys = pushed(registry_host, "shop/some", "v7"), registry_host.keys()
    names(slipway_model.not_resolved(uri.replace("v7", "v8"), **keys), ModelFault.MODEL_NOT_FOUND, "v8", "v7")
    names(slipway_model.not_resolved(uri.replace("some", "none"), **keys), ModelFault.MODEL_NOT_FOUND, "v7")
    bad = f"oci://{registry_host.host}/Shop/some:v7"
    names(
        slipway_model.not_resolved(bad, **keys), ModelFault.INVALID_MODEL_URI, "oci://ghcr.io/shop/fraud:v7"
    )
    registry_host.push("shop/some", "empty", [registry_host.file("shop/some", "notes.txt", b"x")])
    failure = slipway_model.not_resolved(uri.replace("v7", "empty"), **keys)
    names(failure, ModelFault.MODEL_NOT_FOUND, "notes.txt", "oras push")
    two = [registry_host.file("shop/some", each, FIRST) for each in ("a.onnx", "b.onnx")]
    registry_host.push("shop/some", "two", two)
    failure = slipway_model.not_resolved(uri.replace("v7", "two"), **keys)
    names(failure, ModelFault.INVALID_MODEL_URI, "a.onnx, b.onnx")
    names(slipway_model.not_resolved(uri), ModelFault.REGISTRY_UNREACHABLE, "not trusted", "CA_CERT")


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_that_are_not_those_of_the_digest_are_refused(
    slipway_model: SlipwayModel, registry_host: RegistryFront, packed: bool
) -> None:
    name = "shop/damaged"
    content = archive({"models/model.onnx": FIRST, "models/last.txt": b"x" * 5000}) if packed else FIRST
    layer = registry_host.blob(name, content)
    layer |= (
        {"mediaType": "application/vnd.oci.image.layer.v1.tar"}
        if packed
        else {"annotations": {TITLE: "model.onnx"}}
    )
    registry_host.push(name, "v1", [layer])
    # The first byte of the name of a member, or of a varint: what is left is a model still.
    registry_host.damage = content[:100] + bytes([content[100] ^ 1])
    failure = slipway_model.not_resolved(f"oci://{registry_host.host}/{name}:v1", **registry_host.keys())
    assert failure.reason in (ModelFault.DIGEST_MISMATCH, ModelFault.MODEL_TRUNCATED), failure


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/model.onnx", "..", "a/../../model.onnx", "a\nb.onnx"]
)
def test_a_layer_that_leads_out_of_its_folder_is_refused(
    slipway_model: SlipwayModel, registry_host: RegistryFront, name: str
) -> None:
    registry_host.push("shop/evil", "v1", [registry_host.file("shop/evil", name, FIRST)])
    failure = slipway_model.not_resolved(f"oci://{registry_host.host}/shop/evil:v1", **registry_host.keys())
    names(failure, ModelFault.INVALID_MODEL_URI, "no file in a folder")
    # In an archive such a name is passed over, with links.
    packed = registry_host.blob("shop/evil", archive({name: FIRST, "models/model.onnx": SECOND}))
    packed["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    registry_host.push("shop/evil", "v2", [packed])
    found = slipway_model.resolved(f"oci://{registry_host.host}/shop/evil:v2", **registry_host.keys())
    assert found.digest == sha256(SECOND)


def test_answers_of_no_registry_are_told_apart(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str
) -> None:
    web = serve()
    key, uri = (
        {"SLIPWAY_CREDENTIAL_CA_CERT": ca_certificate},
        f"oci://{web.url.removeprefix('https://')}/a:v1",
    )
    path = "/v2/a/manifests/v1"
    for body in (b"<html>", b"[]", b"[" * 100_000, b"x" * 5_000_000):
        web.replies[path] = Reply(body)
        names(slipway_model.not_resolved(uri, **key), ModelFault.UNSUPPORTED_ARTIFACT_STORE, "oras push")
    web.replies[path] = Reply(
        json.dumps({"layers": [{"digest": "sha256:x", "annotations": {TITLE: "m.onnx"}}]}).encode()
    )
    names(slipway_model.not_resolved(uri, **key), ModelFault.UNSUPPORTED_ARTIFACT_STORE, "no SHA-256")
    web.replies[path] = Reply(b"{}", status=500)
    names(slipway_model.not_resolved(uri, **key), ModelFault.REGISTRY_UNREACHABLE, "HTTP 500")
    for layers in (None, 3, "x", [3], [{}], {"a": 1}):
        web.replies[path] = Reply(json.dumps({"layers": layers}).encode())
        names(slipway_model.not_resolved(uri, **key), ModelFault.MODEL_NOT_FOUND, "no .onnx file")


def test_the_example_resolves_with_the_keys_that_it_names(
    slipway_model: SlipwayModel, registry_host: RegistryFront
) -> None:
    text = (Path(__file__).parents[2] / "examples/oci.yaml").read_text()
    uri: str = yaml.safe_load(text)["spec"]["model"]["uri"]
    name, _, tag = uri.removeprefix("oci://ghcr.io/").partition(":")
    pushed(registry_host, name, tag)
    registry_host.kind, registry_host.password = "bearer", "ada:of the tests"
    keys = registry_host.keys(OCI_USERNAME="ada", OCI_PASSWORD="of the tests")
    assert {key.removeprefix("SLIPWAY_CREDENTIAL_") for key in keys} <= set(re.findall("[A-Z0-9_]{7,}", text))
    slipway_model.resolved(uri.replace("ghcr.io", registry_host.host), **keys)
