"""Profiles beside the models of an MLflow registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from slipway.models.source import digest_of_files
from slipway.names import PROFILE_FILE
from slipway.profile import Profile, ProfileError
from slipway.profiling.model_files import ModelFiles
from slipway.profiling.scoring import Scorer
from slipway.recorded import first_difference


def log_profile(profile: Profile, model_info: Any) -> Profile:
    """Keep a profile beside a model that was logged; gives it as it is kept.

    MLflow writes a model's files anew, so that they seldom have the digest of the file that was profiled. The
    profile is then bound to the logged files, if these answer the recorded example in the same way.

    Args:
        profile: of the model.
        model_info: what ``mlflow.onnx.log_model`` gave.

    Raises:
        ProfileError: if it is no ONNX model, or answers otherwise.
    """
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(mlflow.artifacts.download_artifacts(model_info.model_uri, dst_path=scratch))
        profile = _bound(profile, folder / _onnx_file(folder))
    log_beside(model_info, PROFILE_FILE, profile.text())
    return profile


def log_beside(model_info: Any, name: str, content: bytes) -> None:
    """Keep a file next to a model that was logged."""
    import mlflow

    client = mlflow.MlflowClient()
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / name
        kept.write_bytes(content)
        if getattr(model_info, "model_id", None):
            client.log_model_artifact(model_info.model_id, str(kept))
        else:
            client.log_artifact(model_info.run_id, str(kept), model_info.artifact_path)


def _onnx_file(folder: Path) -> str:
    flavors = yaml.safe_load((folder / "MLmodel").read_text()).get("flavors", {})
    if "onnx" not in flavors:
        raise ProfileError("the logged model is not an ONNX model: log it with mlflow.onnx.log_model")
    return str(flavors["onnx"].get("data", "model.onnx"))


def _bound(profile: Profile, path: Path) -> Profile:
    digest = digest_of_files(ModelFiles(path))
    if digest == profile.modelDigest:
        return profile
    if profile.example is None:
        raise ProfileError(f"the profile is of {profile.modelDigest}, the logged model is {digest}")
    scorer = Scorer(path)
    inputs = {
        tensor.name: np.array(tensor.data, _dtype(scorer, tensor.name)).reshape(tensor.shape)
        for tensor in profile.example.inputs
    }
    for recorded, answer in zip(profile.example.outputs, scorer.run(inputs), strict=False):
        difference = first_difference(recorded.data, answer.reshape(-1).tolist())
        if difference:
            raise ProfileError(
                f"the logged model answers the recorded example otherwise ({recorded.name}: {difference}): "
                "profile the model that was logged"
            )
    return profile.model_copy(update={"modelDigest": digest})


def _dtype(scorer: Scorer, name: str) -> Any:
    for each in scorer.inputs:
        if each.name == name:
            return each.dtype or np.dtype(object)
    raise ProfileError(f"the logged model has no input {name!r}: profile the model that was logged")
