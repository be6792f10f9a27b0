"""The notebooks of examples/ run from top to bottom, one after the other, as a reader runs them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from e2e.browser import screenshot
from e2e.cluster.settings import Settings
from e2e.cluster.tools import Tools
from e2e.tests.registry import Registry
from slipway.api.generated import ROOT

NOTEBOOKS = ROOT / "examples" / "notebooks"
#: A later one goes on where an earlier one ended.
ORDER = ("release-a-model", "watch-a-canary", "audit-fairness")
ARTIFACTS = ROOT / "build" / "artifacts"


def run(name: str, folder: Path, variables: dict[str, str]) -> Any:
    """The notebook with the outputs of a run; AssertionError with the cell that failed."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    return client.execute(env={**os.environ, **variables})


def shown(notebook: Any, kind: str) -> list[str]:
    """What its cells show, of one media type."""
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", {})
    ]


def version_of(notebook: Any) -> str:
    """The version that it registered."""
    [found] = [text.strip("'") for text in shown(notebook, "text/plain") if re.fullmatch(r"'\d+'", text)]
    return str(found)


@pytest.mark.usefixtures("installed")
def test_the_notebooks_release_promote_and_audit_a_model(
    settings: Settings, mlflow: Registry, namespace: str, tmp_path: Path
) -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(ORDER)
    variables = {
        "NAMESPACE": namespace,
        "KUBECONFIG": str(settings.kubeconfig),
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Tools(settings.cache).bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    release, canary, audit = (run(name, tmp_path, variables) for name in ORDER)
    assert "100% of the answers are scikit-learn's own" in shown(release, "text/plain")[-1]
    assert f"version {version_of(release)}" in shown(release, "text/html")[-2]
    assert "rollout" in " ".join(shown(canary, "text/html"))
    assert "goes on from step" in " ".join(shown(canary, "text/plain"))
    assert f"version {version_of(canary)}" in shown(canary, "text/html")[-1]
    assert "DisparateImpactRatio" in " ".join(shown(audit, "text/plain"))
    assert "favorable, of all" in (tmp_path / "loans-report.html").read_text()
    for name, notebook in zip(ORDER, (release, canary, audit), strict=True):
        page = tmp_path / f"{name}.html"
        exporter = HTMLExporter()  # type: ignore[no-untyped-call]
        page.write_text(exporter.from_notebook_node(notebook)[0])
        picture = ARTIFACTS / f"notebook-{name}.png"
        screenshot(page, picture, width=1100, height=2400)
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20, "the page shows something"
