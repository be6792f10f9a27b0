"""``slipway.release``: a fitted model becomes a version in MLflow, with profile and proof, that is served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import slipway
from e2e import snippets
from slipway.cli.main import main
from slipway.contract import MLFLOW_TRACKING_URI_ENV
from slipway.conversion import read_proof
from slipway.convert.errors import ConvertError, DifferentError
from slipway.digest import sha256_of
from slipway.profile import CategoryBins, read_profile
from tests.convert.test_convert import claims, claims_model
from tests.models.conftest import SlipwayModel
from tests.models.servers import Mlflow, mlflow_server
from tests.server.running import ROOT, Server, tensor

IRIS = load_iris(as_frame=True)
#: In another order than the model takes them, and with a column that it does not take.
ROWS = IRIS.data.assign(garden=np.where(np.arange(150) % 3 == 0, "north", "south")).iloc[:, ::-1]
DATATYPES = {"amount": "FP32", "age": "INT64", "country": "BYTES", "note": "BYTES"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    before = mlflow.get_tracking_uri()
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), []) as server:
        server.wait()
        mlflow.set_tracking_uri(server.url)
        yield server
        mlflow.set_tracking_uri(before)


def flowers_model() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS.data, IRIS.target)


def test_what_the_pages_python_releases_is_resolved_and_served_with_the_models_own_answers(
    registry: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [block.text for block in snippets.blocks("docs/converting.md") if block.language == "python"]
    [printed] = [text for text in blocks if "slipway.release(" in text]
    frame, fraud = claims()
    joblib.dump(claims_model(), "fraud.joblib")
    frame.assign(fraud=fraud).to_csv("rows.csv", index=False)
    names: dict[str, Any] = {}
    exec(printed, names)
    released: Any = names["released"]
    assert released.uri == "mlflow://fraud/1"
    resolver = SlipwayModel(tmp_path, monkeypatch)
    for folder in (resolver.model_dir, resolver.claim):
        folder.mkdir()
    mlflow_is = {MLFLOW_TRACKING_URI_ENV: registry.url}
    resolution = resolver.resolved(released.uri, **mlflow_is)
    assert resolution.digest == released.proof.modelDigest == released.profile.modelDigest
    assert resolution.profile is not None
    resolver.fetched(resolution.uri, resolution.digest, **mlflow_is)
    asked = frame.dropna().head(40)
    inputs = [
        tensor(name, datatype, [len(asked), 1], asked[name].tolist()) for name, datatype in DATATYPES.items()
    ]
    with Server(resolver.model_dir, digest=resolution.digest) as server:
        answer = server.wait_until_ready().infer(*inputs)
    assert answer.status_code == 200, answer.text
    labels, probabilities = (output["data"] for output in answer.json()["outputs"])
    assert labels == claims_model().predict(asked).tolist()
    assert probabilities == pytest.approx(claims_model().predict_proba(asked).reshape(-1), abs=1e-4)


def test_a_fitted_model_becomes_a_version_with_profile_and_proof(
    registry: Mlflow,  # noqa: ARG001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = flowers_model()
    # At the largest numbers of 32 bits, ONNX's softmax gives no number.
    with pytest.raises(DifferentError, match="with an extreme value"):
        slipway.release(model, ROWS, IRIS.target, name="Iris flowers", strict=True, float64=False)
    client = mlflow.MlflowClient()
    assert not client.search_registered_models(filter_string="name = 'Iris flowers'")
    first = slipway.release(model, ROWS, IRIS.target, name="Iris flowers", sensitive=["garden"])
    assert first.uri == "mlflow://Iris%20flowers/1"
    assert first.manifest in capsys.readouterr().out
    assert not client.get_registered_model("Iris flowers").aliases
    assert mlflow.active_run() is None
    (tmp_path / "iris.yaml").write_text(first.manifest)
    assert main(["check", str(tmp_path / "iris.yaml")]) == 0
    folder = Path(mlflow.artifacts.download_artifacts("models:/Iris flowers/1", dst_path=str(tmp_path)))
    digest = f"sha256:{sha256_of(folder / 'model.onnx')}"
    assert read_profile((folder / "profile.json").read_bytes(), digest) == first.profile
    assert [each.name for each in first.profile.features] == list(IRIS.data.columns)
    found = first.profile.predictions[0].bins
    assert isinstance(found, CategoryBins)
    counted = enumerate(np.bincount(model.predict(IRIS.data)))
    assert dict(zip(found.categories, found.counts, strict=True)) == dict(counted)
    assert [group.name for group in first.profile.attributes[0].groups] == ["north", "south"]
    proof = read_proof((folder / "conversion.json").read_bytes())
    assert (proof, proof.modelDigest) == (first.proof, digest)
    session = ort.InferenceSession(folder / "model.onnx")
    labels, _ = session.run(None, {"X": IRIS.data.to_numpy(np.float32)})
    assert list(labels) == list(model.predict(IRIS.data))
    second = slipway.release(model, ROWS, IRIS.target, name="Iris flowers", alias="champion")
    assert second.uri.endswith("/2")
    assert "mlflow://Iris%20flowers@champion" in second.manifest
    assert client.get_model_version_by_alias("Iris flowers", "champion").version == "2"


def test_a_version_of_another_kind_answers_by_the_same_names(registry: Mlflow, tmp_path: Path) -> None:  # noqa: ARG001
    """A canary's answers are held against those of the same name."""
    models = {"linear": flowers_model(), "vectors": SVC().fit(IRIS.data, IRIS.target)}
    made = [slipway.release(model, IRIS.data, name="Kinds") for model in models.values()]
    assert [made[0].profile.predictions[0].output, made[1].profile.predictions[0].output] == [
        "label",
        "label",
    ]
    folder = mlflow.artifacts.download_artifacts("models:/Kinds/2", dst_path=str(tmp_path))
    assert [each.name for each in ort.InferenceSession(f"{folder}/model.onnx").get_outputs()] == ["label"]
    kept = slipway.release(models["vectors"], IRIS.data, name="Kinds", keep_output_names=True)
    assert [each.output for each in kept.profile.predictions] == ["output_label"]


def test_what_cannot_be_released_is_said_before_anything_is_logged() -> None:
    """Nobody answers where MLflow would be."""
    cases: dict[str, dict[str, Any]] = {
        "without '/' and ':'": {"name": "risk/iris"},
        "give a list of any of thresholds, missing": {"accept": "extremes"},
        "accept is \\['data'\\]": {"accept": ["data"]},
        "X has no column 'color'": {"sensitive": ["color"]},
        "X is a ndarray: give a frame": {"X": IRIS.data.to_numpy()},
        "X has 150 rows, and y has 3": {"y": [0, 1, 2]},
        "X has a column 'garden', which is the name of the true answers": {
            "y": pd.Series(IRIS.target, name="garden"),
            "sensitive": ["garden"],
        },
    }
    for message, given in cases.items():
        arguments = {"X": ROWS, "y": IRIS.target, "name": "iris", **given}
        with pytest.raises(ConvertError, match=message):
            slipway.release(flowers_model(), **arguments)


@pytest.mark.parametrize(("offered", "extra"), [("release", "convert"), ("model", "notebook")])
def test_slipway_is_imported_without_its_extras_and_names_the_one_that_is_missing(
    offered: str, extra: str
) -> None:
    done = subprocess.run(
        # Without the packages that are installed.
        [sys.executable, "-S", "-c", f"import slipway; slipway.{offered}"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f" is not installed: pip install 'slipway-serving[{extra}]'" in done.stderr
