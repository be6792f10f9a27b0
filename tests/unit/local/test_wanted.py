"""What a model is called, and where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.local.bringing import surroundings
from slipway.local.errors import LocalError
from slipway.local.files import mark, watched
from slipway.local.wanted import of_manifest, of_model


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("mlflow://fraud@champion", "fraud"),
        ("mlflow://Fraud_Model/7", "fraud-model"),
        ("s3://models/fraud/7/model.onnx", "fraud"),
        ("https://example.com/Churn v2.onnx", "churn-v2"),
        ("oci://ghcr.io/shop/fraud:latest", "fraud"),
        ("pvc://models/7/model.onnx", "models"),
        ("gs://1/2/model.onnx", "model"),
    ],
)
def test_a_model_without_a_resource_is_called_by_its_uri(uri: str, name: str) -> None:
    wanted = of_model(uri)
    assert (wanted.name, wanted.spec.model.uri, wanted.path) == (name, uri, None)
    assert of_model(uri, "mine").name == "mine"


def test_a_file_is_called_by_its_name_or_its_folder(tmp_path: Path) -> None:
    for file, name in (("credit risk.onnx", "credit-risk"), ("churn/7/model.onnx", "churn")):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert of_model(str(path)).name == name
    assert of_model(str(path)).path == path


def test_a_given_model_takes_the_place_of_the_resources_and_its_digest(tmp_path: Path) -> None:
    spec = {
        "model": {"uri": "mlflow://fraud/7", "digest": "sha256:" + "0" * 64},
        "runtime": {"threads": 3},
    }
    manifest = {"metadata": {"name": "fraud"}, "spec": spec}
    assert of_manifest(manifest).spec.model.digest is not None
    (tmp_path / "new.onnx").touch()
    wanted = of_manifest(manifest, str(tmp_path / "new.onnx"))
    assert (wanted.name, wanted.path) == ("fraud", tmp_path / "new.onnx")
    assert (wanted.spec.model.digest, wanted.spec.runtime.threads) == (None, 3)


def test_a_spec_that_cannot_be_read_names_its_field() -> None:
    with pytest.raises(LocalError, match=r"fraud: spec\.model"):
        of_manifest({"metadata": {"name": "fraud"}, "spec": {}})


def test_files_next_to_the_model_are_watched_too(tmp_path: Path) -> None:
    model, brought = tmp_path / "here/fraud.onnx", tmp_path / "copy"
    for path in (model, brought / "fraud.onnx", brought / "weights/one.bin"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    weights = model.parent / "weights/one.bin"
    weights.parent.mkdir()
    weights.write_text("1")
    before = mark(watched(model, brought))
    assert mark(watched(model, brought)) == before
    weights.write_text("22")
    changed = mark(watched(model, brought))
    assert changed != before
    (model.parent / "profile.json").write_text("{}")
    assert mark(watched(model, brought)) != changed
    (model.parent / "notes.txt").write_text("of no interest")
    names = {path.name for path in watched(model, brought)}
    assert names == {"fraud.onnx", "profile.json", "model.sig", "provenance.sigstore.json", "one.bin"}


def test_stores_are_entered_by_the_variables_that_their_own_tools_read() -> None:
    around = surroundings(
        {},
        {
            "MLFLOW_TRACKING_URI": "http://localhost:5000",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "SLIPWAY_CREDENTIAL_GIT_TOKEN": "token",
        },
    )
    assert around.mlflow_tracking_uri == "http://localhost:5000"
    assert around.credentials.s3.secret_access_key == "secret"
    assert around.credentials.git.password == "token"
