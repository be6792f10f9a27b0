"""The page on `slipway serve`: its commands print what it shows, and what they print works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from e2e import snippets
from e2e.snippets import Command
from tests.unit.local.serving import Serve, until

PAGE = "docs/serve.md"
SERVE = [command for command in snippets.commands(PAGE) if command.program == "slipway"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the models that the page names."""
    features, target = load_iris(return_X_y=True)
    fitted = LogisticRegression(max_iter=500).fit(features, target)
    model = to_onnx(fitted, features[:1].astype(np.float32))
    onnx.save(model, tmp_path / "fraud.onnx")
    model.doc_string = "the next one"
    onnx.save(model, tmp_path / "next.onnx")
    return tmp_path


def masked(line: str) -> str:
    """Without what differs from run to run: versions, folders, ports, times and counts."""
    line = re.sub(r"\b[0-9a-f]{12}\b", "VERSION", line)
    line = re.sub(r"of (/[^ ]+/)", "of FOLDER/", line)
    line = re.sub(r"localhost:[0-9]+", "localhost:PORT", line)
    return line if line.startswith("curl") else re.sub(r"[0-9]+([.:][0-9]+)*", "N", line)


@pytest.mark.parametrize("command", SERVE, ids=str)
def test_a_command_prints_what_the_page_shows_and_its_request_is_answered(
    command: Command, folder: Path
) -> None:
    serve = Serve(folder, *command.text.split()[2:])
    try:
        typed = serve.curl()
        wanted = [masked(line) for line in command.output.splitlines()]

        def as_shown() -> bool:
            done = subprocess.run(["bash", "-c", f"{typed} --silent --fail"], capture_output=True, text=True)
            assert '"outputs"' in done.stdout, done
            return set(wanted) <= {masked(line) for line in serve.lines}

        until(as_shown, 60, lambda: f"{command.output}\n{serve.output}")
        assert [masked(line) for line in serve.lines][: wanted.index(masked(typed)) + 1] == (
            wanted[: wanted.index(masked(typed)) + 1]
        )
    finally:
        assert serve.end() == 0


def test_the_page_shows_one_model_and_a_canary() -> None:
    assert ["--split" in command.text for command in SERVE] == [False, True]
    assert all(command.output for command in SERVE)
