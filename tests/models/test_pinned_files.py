"""``slipway pin``: what real stores answer, written into the files of a repository."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from e2e import snippets
from slipway.cli.main import main
from slipway.cli.schema import complaints
from tests.models import registry
from tests.models.conftest import DvcWork
from tests.models.examples import onnx_classifier
from tests.models.registries import RegistryFront
from tests.models.repositories import GitServer, git
from tests.models.servers import Mlflow, Reply, WebServer
from tests.models.stores import S3, Azure, Gs
from tests.models.test_dvc_source import REPOSITORY
from tests.models.test_oci_source import sha256
from tests.unit.cli.repository import Repository, manifest

FIRST = onnx_classifier().SerializeToString()
SECOND = onnx_classifier(0.1).SerializeToString()
KEY = "fraud/7/model.onnx"
DIGESTS = re.compile("sha256:[0-9a-f]{64}")

Pin = Callable[..., tuple[str, str | None]]


@pytest.fixture(autouse=True)
def _no_retries(without_retries: None) -> None:
    del without_retries


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fraud.yaml"


@pytest.fixture
def pin(file: Path, monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Pins a model by its URI; gives the URI and the digest that the file has then, which the CRD takes."""

    def run(uri: str, digest: str | None = None, code: int = 0, **environment: str) -> tuple[str, str | None]:
        model = {"uri": uri, **({"digest": digest} if digest else {})}
        file.write_text(f"# ours\n{manifest(model=model)}")
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert main(["pin", str(file)]) == code
        found = yaml.safe_load(file.read_text())
        assert complaints(found) == []
        return found["spec"]["model"]["uri"], found["spec"]["model"].get("digest")

    return run


def login(mlflow: Mlflow) -> dict[str, str]:
    """Of MLflow, by the names that its own client reads."""
    user, password = registry.ADMIN
    named = {"USERNAME": user, "PASSWORD": password, "URI": mlflow.url}
    return {f"MLFLOW_TRACKING_{name}": value for name, value in named.items()}


def test_an_alias_of_mlflow_becomes_its_version(pin: Pin, mlflow: Mlflow) -> None:
    uri, digest = pin("mlflow://fraud@champion", **login(mlflow))
    assert uri == "mlflow://fraud/1"
    # A version has no digest yet; one that follows a name has that of an earlier one.
    assert pin("mlflow://fraud/1", **login(mlflow)) == (uri, digest)
    assert pin("mlflow://fraud@champion", sha256(b"older"), **login(mlflow)) == (uri, digest)
    odd = pin("mlflow://Kredit-Ausf%C3%A4lle%20100%25%20%28neu%29@champion", **login(mlflow))[0]
    assert odd == "mlflow://Kredit-Ausf%C3%A4lle%20100%25%20%28neu%29/1"


def test_an_object_of_s3_becomes_its_version(pin: Pin, s3: S3) -> None:
    version = s3.put("versions", KEY, FIRST)
    asked = "s3://versions/fraud/7/"
    assert pin(asked, **s3.keys()) == (f"s3://versions/{KEY}?versionId={version}", sha256(FIRST))


def test_what_has_no_versions_has_a_digest_that_nobody_may_replace(
    pin: Pin, s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put("models", KEY, FIRST)
    uri = f"s3://models/{KEY}"
    assert pin(uri, **s3.keys()) == (uri, sha256(FIRST))
    s3.put("models", KEY, SECOND)
    assert pin(uri, sha256(FIRST), code=1, **s3.keys()) == (uri, sha256(FIRST))
    said = capsys.readouterr().err
    assert f"{uri} has the digest {sha256(SECOND)} now, and the file says {sha256(FIRST)}" in said
    assert "take spec.model.digest out and pin again" in said


def test_an_object_of_google_becomes_its_generation(pin: Pin, gs: Gs) -> None:
    generation = gs.put(KEY, FIRST)
    assert pin(f"gs://models/{KEY}", **gs.keys()) == (f"gs://models/{KEY}#{generation}", sha256(FIRST))


def test_a_folder_of_azure_becomes_its_file_with_the_digest(pin: Pin, azure: Azure) -> None:
    azure.put("fraud/9/model.onnx", FIRST)
    asked = "az://slipwaytests/models/fraud/9"
    assert pin(asked, **azure.keys()) == (f"{asked}/model.onnx", sha256(FIRST))


def test_a_file_on_a_web_server_gets_its_digest(
    pin: Pin, serve: Callable[[], WebServer], ca_certificate: str
) -> None:
    server = serve()
    server.replies["/fraud.onnx"] = Reply(FIRST)
    uri = f"{server.url}/fraud.onnx"
    assert pin(uri, CA_CERT=ca_certificate) == (uri, sha256(FIRST))


@pytest.mark.parametrize("asked", ["/models/fraud.onnx@main", "?artifact=fraud&stage=prod"])
def test_a_branch_and_a_stage_become_a_commit(pin: Pin, dvc: DvcWork, host: GitServer, asked: str) -> None:
    host.bare(REPOSITORY, dvc.work)
    made = f"dvc://{host.host}/{REPOSITORY}"
    uri, digest = pin(f"{made}{asked}", **host.keys())
    rev = "main" if "main" in asked else "fraud@v1.0.0"
    assert uri == f"{made}/models/fraud.onnx@{git(dvc.work, 'rev-parse', f'{rev}^{{commit}}')}"
    assert pin(uri, **host.keys()) == (uri, digest)


def test_a_tag_becomes_the_digest_of_its_manifest(pin: Pin, registry_host: RegistryFront) -> None:
    digest = registry_host.push("shop/pinned", "v7", [registry_host.file("shop/pinned", "m.onnx", FIRST)])
    uri = f"oci://{registry_host.host}/shop/pinned"
    assert pin(f"{uri}:v7", **registry_host.keys()) == (f"{uri}@{digest}", sha256(FIRST))


def test_all_files_are_pinned_for_a_server_of_ones_own(
    file: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("models", "whole/one/a.bin", b"a")
    for name, value in s3.keys().items():
        monkeypatch.setenv(name, value)
    own = {"server": "External", "image": "x/y:1", "external": {"port": 8000}}
    file.write_text(manifest(model={"uri": "s3://models/whole/one"}, runtime=own))
    assert main(["pin", str(file)]) == 0
    assert "digest: sha256:" in file.read_text()


def test_each_model_is_looked_up_once(
    file: Path, serve: Callable[[], WebServer], ca_certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    server.replies["/fraud.onnx"] = Reply(FIRST)
    monkeypatch.setenv("CA_CERT", ca_certificate)
    one = manifest(model={"uri": f"{server.url}/fraud.onnx"})
    file.write_text(f"{one}---\n{one}")
    assert main(["pin", str(file)]) == 0
    assert file.read_text().count(sha256(FIRST)) == 2
    assert [path for path, _ in server.asked].count("/fraud.onnx") == 1


def test_a_store_that_cannot_be_asked_is_told_with_the_file(
    pin: Pin, file: Path, mlflow: Mlflow, capsys: pytest.CaptureFixture[str]
) -> None:
    pin("mlflow://fraud@nobody", code=1, **login(mlflow))
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {file}: payments/fraud: the registered model 'fraud' has no alias 'nobody'"
    )
    pin("mlflow://fraud@champion", code=1, MLFLOW_TRACKING_URI="")
    assert "set MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_the_page_is_followed_as_printed(
    mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(tmp_path / "repository")
    lines = [
        *("apiVersion: slipway.dev/v1alpha1", "kind: ModelDeployment"),
        *("metadata: {name: fraud, namespace: payments}", "spec:", "  model:"),
        *("    uri: mlflow://fraud@champion  # of the risk team", "  scaling: {minReplicas: 2}"),
    ]
    repository.commit({"models/fraud.yaml": "\n".join(lines) + "\n"})
    monkeypatch.chdir(repository.folder)
    for name, value in login(mlflow).items():
        monkeypatch.setenv(name, value)
    commands = [one for one in snippets.commands("docs/gitops.md") if one.text.startswith("slipway pin")]
    assert len(commands) == 3
    for one in commands:
        assert main(shlex.split(one.text)[1:]) == 0
        assert DIGESTS.sub("DIGEST", capsys.readouterr().out) == DIGESTS.sub("DIGEST", one.output), one
