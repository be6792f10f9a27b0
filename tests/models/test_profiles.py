"""Profiles on their way from the registry to the model server."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from slipway.contract import MLFLOW_TRACKING_URI_ENV
from slipway.digest import digest_of
from slipway.names import LARGEST_PROFILE
from slipway.profile import Profile, ProfileError, read_profile
from slipway.profiling import make_profile
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, wide_model
from tests.models.registry import ADMIN, log_with_profile
from tests.models.servers import Mlflow


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
