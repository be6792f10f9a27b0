"""What a pull request's comment says of models, asked of a real MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from slipway.cli.main import main
from slipway.profiling import make_profile
from tests.models.examples import onnx_classifier
from tests.models.registry import ADMIN, log_with_profile, move_alias
from tests.models.servers import Mlflow
from tests.unit.cli.repository import Repository, manifest

NAME = "commented"


@pytest.fixture
def repository(
    mlflow: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Repository:
    """Where main has the version champion, and a branch challenger, of other data."""
    data = load_iris().data
    name = f"{NAME}-{request.node.name[:40].replace('_', '-')}"
    for regularization, rows in ((1.0, data), (0.1, np.concatenate([data, data + np.array([3, 0, 0, 0])]))):
        model = onnx_classifier(regularization)
        place = tmp_path / "made.onnx"
        place.write_bytes(model.SerializeToString())
        log_with_profile(mlflow, model, name, make_profile(pd.DataFrame(rows).rename(columns=str), place))
    move_alias(mlflow, name, "champion", "1")
    move_alias(mlflow, name, "challenger", "2")
    made = Repository(tmp_path / "repository")
    made.commit({"fraud.yaml": manifest(model={"uri": f"mlflow://{name}@champion"})})
    made.branch()
    made.commit(
        {"fraud.yaml": manifest(model={"uri": f"mlflow://{name}@challenger"}, card={"owner": "Risk team"})}
    )
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    return made


WORDS = ["plan", "--offline", "--base", "main", "-f", ".", "-o", "markdown"]


def rows(out: str) -> dict[str, tuple[str, str]]:
    cells = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    return {one[0].strip("* "): (one[1], one[2]) for one in cells if len(one) == 3}


def test_version_and_profile_stand_side_by_side(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.folder.is_dir()
    assert main([*WORDS, "--resolve"]) == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert found["Version"] == ("`1`", "`2`")
    assert found["Digest"][0].startswith("`sha256:")
    assert found["Digest"][0] != found["Digest"][1]
    assert found["Training rows"] == ("`150`", "`300`")
    assert "mean 5.843" in found["Feature 0"][0]
    assert "mean 7.343" in found["Feature 0"][1]
    assert "Feature 1" not in found
    assert "with version 1" in out
    assert "| **Owner** |  | `Risk team` |" in out


def test_nothing_is_looked_up_unless_asked(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repository.folder.is_dir()
    assert main(WORDS) == 0
    assert rows(capsys.readouterr().out)["Version"] == ("`not looked up`", "`not looked up`")


def test_an_alias_that_is_not_there_and_a_volume_are_told(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"fraud.yaml": manifest(model={"uri": "mlflow://fraud@nobody"})})
    assert main([*WORDS, "--resolve"]) == 0
    now, then = rows(capsys.readouterr().out)["Version"]
    assert now == "`1`"
    assert "cannot be looked up" in then
    repository.commit({"fraud.yaml": manifest(model={"uri": "pvc://claim/model.onnx"})})
    assert main([*WORDS, "--resolve"]) == 0
    assert rows(capsys.readouterr().out)["Version"][1] == "`on a volume of the cluster`"
