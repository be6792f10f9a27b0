"""The picture of a comment on a pull request: ``python -m tests.docs.pull_request_picture``.

Two versions of a model of fraud are registered in a real MLflow, and the comment is what the command writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from e2e.browser import screenshot
from e2e.snippets import ROOT
from slipway.profiling import log_profile, make_profile
from tests.models.servers import mlflow_server
from tests.unit.cli.repository import Repository, manifest

PICTURE = ROOT / "docs/pull-request.png"
COLUMNS = ["amount", "account_age_days", "country_risk", "payments_per_hour"]
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1f2328; background: #f6f8fa; margin: 24px; }
article { background: #fff; border: 1px solid #d1d9e0; border-radius: 6px; max-width: 860px; }
header { background: #f6f8fa; border-bottom: 1px solid #d1d9e0; border-radius: 6px 6px 0 0; padding: 8px 16px;
  color: #59636e; } header b { color: #1f2328; } main { padding: 4px 16px 8px; }
h2 { font-size: 20px; border-bottom: 1px solid #d1d9e0; padding-bottom: 4px; margin: 12px 0; }
h3 { font-size: 16px; margin: 16px 0 8px; } p { margin: 8px 0; }
code { font: 12px ui-monospace, monospace; background: #818b981f; border-radius: 6px; padding: 2px 5px;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; }
th, td { border: 1px solid #d1d9e0; padding: 5px 12px; text-align: left; }
tr:nth-child(2n) { background: #f6f8fa; } ul, ol { margin: 8px 0; padding-left: 28px; }
"""


def page(comment: str) -> str:
    """A comment as GitHub shows it."""
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(comment)
    style = f"<!doctype html><meta charset='utf-8'><style>{STYLE}</style>"
    head = "<header><b>github-actions</b> bot commented</header>"
    return f"{style}<article>{head}<main>{shown}</main></article>"


def comment(folder: Path) -> str:
    """What the command writes for a branch that lets a challenger serve."""
    with mlflow_server(folder, []) as server:
        server.wait()
        mlflow.set_tracking_uri(server.url)
        for rows, shift in ((20_000, 0.0), (36_000, 8.0)):
            _register(folder, rows, shift)
        client = mlflow.MlflowClient()
        client.set_registered_model_alias("fraud", "champion", "1")
        client.set_registered_model_alias("fraud", "challenger", "2")
        spec = {
            "card": {"owner": "Risk team", "intendedUse": "Card payments in euros"},
            "scaling": {"minReplicas": 2},
        }
        repository = Repository(folder / "repository")
        repository.commit({"models/fraud.yaml": manifest(**spec)})
        repository.branch()
        spec |= {
            "card": {"owner": "Risk team", "intendedUse": "Card payments in euros and francs"},
            "model": {"uri": "mlflow://fraud@challenger"},
        }
        repository.commit({"models/fraud.yaml": manifest(**spec)})
        words = ["plan", "--offline", "--base", "main", "-R", "-f", "models", "--resolve", "-o", "markdown"]
        done = subprocess.run(
            [sys.executable, "-m", "slipway.cli.main", *words],
            cwd=repository.folder,
            env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


def _register(folder: Path, rows: int, shift: float) -> None:
    chance = np.random.default_rng(rows)
    scales = np.array([40.0, 900.0, 0.2, 1.5])
    data = (chance.gamma(2.0, 1.0, size=(rows, 4)) * scales).astype(np.float32)
    data[:, 0] += shift
    odds = data[:, 0] / 60 + 3 * data[:, 2] - data[:, 1] / 900 - 2
    frame = pd.DataFrame(data, columns=COLUMNS)
    frame["fraud"] = (chance.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    train, held = frame.iloc[: rows * 4 // 5], frame.iloc[rows * 4 // 5 :]
    model = to_onnx(
        LogisticRegression(max_iter=500).fit(train[COLUMNS].to_numpy(), train["fraud"]),
        data[:1],
        options={"zipmap": False},
    )
    path = folder / "made.onnx"
    path.write_bytes(model.SerializeToString())
    logged = mlflow.onnx.log_model(
        model, name="model", registered_model_name="fraud", pip_requirements=["onnx", "onnxruntime"]
    )
    log_profile(make_profile(train, path, labels="fraud", holdout=held), logged)


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as scratch:
        shown = Path(scratch) / "comment.html"
        shown.write_text(page(comment(Path(scratch))))
        screenshot(shown, PICTURE, width=910, height=980)


if __name__ == "__main__":
    main()
