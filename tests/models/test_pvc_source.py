from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.contract import ModelFault
from slipway.digest import digest_of
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide


@pytest.fixture
def claim(slipway_model: SlipwayModel) -> Path:
    """A claim with one model as a file, one as a folder with weights, and a folder with two."""
    claim = slipway_model.claim
    model = onnx_classifier().SerializeToString()
    for path in ("fraud/7/fraud.onnx", "two/a.onnx", "two/b.onnx", "with space/model.onnx"):
        (claim / path).parent.mkdir(parents=True, exist_ok=True)
        (claim / path).write_bytes(model)
    save_wide(claim / "wide" / "1")
    (claim / "wide" / "1" / "README.md").write_text("not of the model")
    (claim / "notes").mkdir()
    (claim / "notes" / "todo.txt").write_text("train")
    return claim


@pytest.mark.parametrize(
    "uri", ["pvc://models/fraud/7/fraud.onnx", "pvc://models/fraud/7", "pvc://models/fraud/7/"]
)
def test_a_file_or_its_folder_is_resolved_and_fetched(
    slipway_model: SlipwayModel, claim: Path, uri: str
) -> None:
    resolution = slipway_model.resolved(uri)
    assert resolution.uri == "pvc://models/fraud/7/fraud.onnx"
    assert resolution.digest == digest_of(claim / "fraud" / "7")
    assert resolution.version == resolution.digest[7:19]
    slipway_model.fetched(resolution.uri, resolution.digest)
    assert digest_of(slipway_model.model_dir) == resolution.digest


def test_weights_belong_to_a_model_and_other_files_do_not(slipway_model: SlipwayModel, claim: Path) -> None:
    resolution = slipway_model.resolved("pvc://models/wide/1")
    slipway_model.fetched(resolution.uri, resolution.digest)
    names = sorted(file.name for file in slipway_model.model_dir.iterdir())
    assert names == ["model.onnx", "weights.bin"]
    (claim / "wide" / "1" / "README.md").unlink()
    assert resolution.digest == digest_of(claim / "wide" / "1")


@pytest.mark.usefixtures("claim")
def test_special_characters_are_quoted(slipway_model: SlipwayModel) -> None:
    resolution = slipway_model.resolved("pvc://models/with%20space")
    assert resolution.uri == "pvc://models/with%20space/model.onnx"
    slipway_model.fetched(resolution.uri, resolution.digest)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("pvc://models/fraud/8/model.onnx", "pvc://models/fraud holds: 7"),
        ("pvc://models/froud/7", "pvc://models/ holds: fraud, notes, two, wide, with space"),
        ("pvc://models/notes", "has no .onnx file; it holds: todo.txt"),
        ("pvc://models/notes/todo.txt/model.onnx", "does not exist"),
        ("pvc://models", "has no .onnx file"),
    ],
)
@pytest.mark.usefixtures("claim")
def test_what_does_not_exist_is_said_with_what_does(slipway_model: SlipwayModel, uri: str, says: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert says in failure.message


def test_missing_weights_are_named(slipway_model: SlipwayModel, claim: Path) -> None:
    (claim / "wide" / "1" / "weights.bin").unlink()
    failure = slipway_model.not_resolved("pvc://models/wide/1")
    assert failure.reason == ModelFault.MODEL_NOT_FOUND
    assert "pvc://models/wide/1/weights.bin does not exist" in failure.message


@pytest.mark.usefixtures("claim")
def test_several_models_in_a_folder_are_ambiguous(slipway_model: SlipwayModel) -> None:
    failure = slipway_model.not_resolved("pvc://models/two")
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "several .onnx files (a.onnx, b.onnx)" in failure.message
    assert "pvc://models/two/a.onnx" in failure.message


@pytest.mark.parametrize(
    "uri",
    ["pvc://models/../secret.onnx", "pvc://models/a/%2e%2e/%2e%2e/x", "pvc://", "pvc:///a", "pvc://UPPER/a"],
)
def test_paths_out_of_the_claim_are_refused(slipway_model: SlipwayModel, uri: str) -> None:
    failure = slipway_model.not_resolved(uri)
    assert failure.reason == ModelFault.INVALID_MODEL_URI
    assert "pvc://models/fraud/7" in failure.message


def test_a_symbolic_link_out_of_the_claim_is_refused(slipway_model: SlipwayModel, claim: Path) -> None:
    secret = claim.parent / "secret.onnx"
    secret.write_bytes(onnx_classifier().SerializeToString())
    (claim / "out.onnx").symlink_to(secret)
    (claim / "outside").symlink_to(claim.parent)
    for uri in ("pvc://models/out.onnx", "pvc://models/outside/secret.onnx"):
        failure = slipway_model.not_resolved(uri)
        assert failure.reason == ModelFault.MODEL_ACCESS_DENIED
        assert "leaves the claim" in failure.message


def test_weights_out_of_the_claim_are_refused(slipway_model: SlipwayModel, claim: Path) -> None:
    weights = claim / "wide" / "1" / "weights.bin"
    weights.rename(claim.parent / "weights.bin")
    weights.symlink_to(claim.parent / "weights.bin")
    failure = slipway_model.not_resolved("pvc://models/wide/1")
    assert failure.reason == ModelFault.MODEL_ACCESS_DENIED


def test_a_symbolic_link_within_the_claim_is_followed(slipway_model: SlipwayModel, claim: Path) -> None:
    (claim / "latest").symlink_to("fraud/7")
    resolution = slipway_model.resolved("pvc://models/latest")
    slipway_model.fetched(resolution.uri, resolution.digest)
    assert not (slipway_model.model_dir / "fraud.onnx").is_symlink()


def test_a_pipe_is_not_waited_for(slipway_model: SlipwayModel, claim: Path) -> None:
    os.mkfifo(claim / "pipe.onnx")
    failure = slipway_model.not_resolved("pvc://models/pipe.onnx")
    assert failure.reason == ModelFault.MODEL_NOT_FOUND


def test_a_file_that_was_written_in_part_is_refused(slipway_model: SlipwayModel, claim: Path) -> None:
    file = claim / "fraud" / "7" / "fraud.onnx"
    file.write_bytes(file.read_bytes()[:-200])
    failure = slipway_model.not_resolved("pvc://models/fraud/7")
    assert failure.reason == ModelFault.MODEL_TRUNCATED
