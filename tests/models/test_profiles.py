"""Profiles on their way from the registry to the model server."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from slipway.contract import MLFLOW_TRACKING_URI_ENV, Failed, Fetched, ModelFault, Resolution, Resolved
from slipway.digest import digest_of, sha256_of
from slipway.names import LARGEST_PROFILE
from slipway.profile import Profile, ProfileError, read_profile
from slipway.profiling import make_profile
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, wide_model
from tests.models.registry import ADMIN, log_with_profile
from tests.models.servers import Mlflow
from tests.models.stores import S3


def profile_of(model: onnx.ModelProto, folder: Path) -> Profile:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    data = load_iris().data if width == 4 else np.random.default_rng(0).normal(size=(100, width))
    return make_profile(pd.DataFrame(data).rename(columns=str), folder / "model.onnx")


@pytest.mark.parametrize("name", ["one-file", "weights-beside"])
def test_a_profile_logged_beside_a_model_is_fetched_with_it(
    slipway_model: SlipwayModel, mlflow: Mlflow, tmp_path: Path, name: str
) -> None:
    model = onnx_classifier() if name == "one-file" else wide_model()
    made = profile_of(model, tmp_path / "made")
    kept = log_with_profile(mlflow, model, name, made)
    environment = {
        MLFLOW_TRACKING_URI_ENV: mlflow.url,
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_USERNAME": ADMIN[0],
        "SLIPWAY_CREDENTIAL_MLFLOW_TRACKING_PASSWORD": ADMIN[1],
    }
    resolution = slipway_model.resolved(f"mlflow://{name}/1", **environment)
    slipway_model.fetched(resolution.uri, resolution.digest, **environment)
    fetched = read_profile((slipway_model.model_dir / "profile.json").read_bytes(), resolution.digest)
    assert fetched == kept
    assert kept.features == made.features
    assert digest_of(slipway_model.model_dir) == resolution.digest


def test_a_profile_of_another_model_is_not_logged(mlflow: Mlflow, tmp_path: Path) -> None:
    other = profile_of(onnx_classifier(0.01), tmp_path / "other")
    with pytest.raises(ProfileError, match="answers the recorded example otherwise"):
        log_with_profile(mlflow, onnx_classifier(100.0), "not-profiled", other)


def test_a_profile_that_does_not_fit_is_refused_with_words_and_the_model_served(
    slipway_model: SlipwayModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    profile = profile_of(onnx_classifier(), slipway_model.claim)
    other = profile_of(onnx_classifier(0.1), tmp_path / "other")
    resolution = slipway_model.resolved("pvc://models/model.onnx")
    cases = {
        None: "there is no profile.json beside the model",
        other.text(): "was made for the model sha256:",
        b"{}": "profile.json is not used: it is not a profile of schema version 1",
        b" " * (LARGEST_PROFILE + 1): "it has more than",
    }
    for text, message in cases.items():
        if text is not None:
            (slipway_model.claim / "profile.json").write_bytes(text)
        caplog.clear()
        slipway_model.fetched(resolution.uri, resolution.digest)
        assert message in caplog.text
        assert [file.name for file in slipway_model.model_dir.iterdir()] == ["model.onnx"]
        (slipway_model.model_dir / "model.onnx").unlink()
    (slipway_model.claim / "profile.json").write_bytes(profile.text())
    slipway_model.fetched(resolution.uri, resolution.digest)
    assert sorted(file.name for file in slipway_model.model_dir.iterdir()) == ["model.onnx", "profile.json"]
    assert slipway_model.resolved("pvc://models/model.onnx").digest == resolution.digest


def fetching(slipway_model: SlipwayModel, found: Resolution, profile: str | None) -> Fetched | Failed:
    task = {"uri": found.uri, "digest": found.digest, "profile": profile}
    outcome = slipway_model("fetch", task).outcome
    assert isinstance(outcome, Fetched | Failed)
    return outcome


def names(slipway_model: SlipwayModel) -> list[str]:
    return sorted(file.name for file in slipway_model.model_dir.iterdir())


def test_only_the_profile_that_was_resolved_is_brought(slipway_model: SlipwayModel) -> None:
    profile, beside = profile_of(onnx_classifier(), slipway_model.claim), slipway_model.claim / "profile.json"
    without = slipway_model.resolved("pvc://models/model.onnx")
    assert without.profile == "none"
    beside.write_bytes(b"{}")
    # What is of no use is none.
    assert slipway_model.resolved("pvc://models/model.onnx") == without
    beside.write_bytes(profile.text())
    found = slipway_model.resolved("pvc://models/model.onnx")
    assert found.profile == f"sha256:{sha256_of(beside)}"
    assert found.digest == without.digest

    assert isinstance(fetching(slipway_model, found, "none"), Fetched)
    assert names(slipway_model) == ["model.onnx"]
    # Files that are there already are those of the task, or are brought again.
    assert isinstance(fetching(slipway_model, found, found.profile), Fetched)
    assert names(slipway_model) == ["model.onnx", "profile.json"]
    assert isinstance(fetching(slipway_model, found, "none"), Fetched)
    assert names(slipway_model) == ["model.onnx"]
    # An operator of before names none.
    (slipway_model.model_dir / "model.onnx").unlink()
    assert isinstance(fetching(slipway_model, found, None), Fetched)
    assert names(slipway_model) == ["model.onnx", "profile.json"]


@pytest.mark.parametrize("change", ["another", "gone", "useless", "endless"])
def test_another_profile_than_was_resolved_is_refused_and_nothing_is_served(
    slipway_model: SlipwayModel, change: str
) -> None:
    profile, beside = profile_of(onnx_classifier(), slipway_model.claim), slipway_model.claim / "profile.json"
    beside.write_bytes(profile.text())
    found = slipway_model.resolved("pvc://models/model.onnx")
    if change == "another":
        beside.write_bytes(profile.text() + b"\n")
    elif change == "gone":
        beside.unlink()
    else:
        beside.write_bytes(b"{}" if change == "useless" else b" " * (LARGEST_PROFILE + 1))
    outcome = fetching(slipway_model, found, found.profile)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason is ModelFault.DIGEST_MISMATCH
    assert "profile.json" in outcome.failure.message
    assert f"but {found.profile} was resolved" in outcome.failure.message
    assert "restore it, or publish" in outcome.failure.message
    assert names(slipway_model) == []


def test_a_look_finds_another_profile_of_the_same_bytes_in_a_bucket(
    slipway_model: SlipwayModel, s3: S3, tmp_path: Path
) -> None:
    uri = "s3://models/profiled/model.onnx"

    def again(known: Resolution) -> Resolution:
        task = {"uri": uri, "known": known.model_dump(mode="json")}
        outcome = slipway_model("resolve", task, **s3.keys()).outcome
        assert isinstance(outcome, Resolved), outcome
        return outcome.resolution

    text = profile_of(onnx_classifier(), tmp_path / "made").text()
    s3.put("models", "profiled/model.onnx", onnx_classifier().SerializeToString())
    known = slipway_model.resolved(uri, **s3.keys())
    assert known.profile == "none"
    s3.put("models", "profiled/profile.json", text)
    one = again(known)
    s3.put("models", "profiled/profile.json", text + b"\n")
    other = again(one)
    assert len({known.profile, one.profile, other.profile}) == 3
    assert known.digest == one.digest == other.digest
    assert again(other) == other
    # What an operator of before found says nothing of a profile.
    assert again(other.model_copy(update={"profile": None})) == other
