"""Workflows of GitHub, as the tools that read them see them; no runner runs them here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import ACTIONLINT, Tools
from release.assets import ROOT
from release.chart import IMAGES

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RELEASE = ROOT / ".github/workflows/release.yml"


def test_actionlint_finds_nothing() -> None:
    program = Tools(read_settings().cache).install(ACTIONLINT)
    done = subprocess.run([program, "-no-color", *WORKFLOWS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_zizmor_finds_nothing_unsafe() -> None:
    program = Path(sys.executable).parent / "zizmor"
    words = ["--offline", "--no-progress", "--color=never", "--persona=pedantic", ".github"]
    done = subprocess.run([program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for one in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one


def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(RELEASE.read_text())["jobs"]
    return found


def test_every_image_of_the_chart_is_built_for_both_architectures_and_published() -> None:
    matrix = jobs()["image"]["strategy"]["matrix"]
    assert tuple(matrix["image"]) == IMAGES
    assert {one["arch"] for one in matrix["include"]} == set(matrix["arch"]) == {"amd64", "arm64"}
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(IMAGES) <= set(targets)
    joined = next(step["run"] for step in jobs()["publish"]["steps"] if "Join" in step.get("name", ""))
    assert f"for image in {' '.join(IMAGES)}; do" in joined


def test_no_job_may_do_more_than_it_says() -> None:
    whole = yaml.safe_load(RELEASE.read_text())
    assert whole["permissions"] == {}
    writes = {
        name: {scope for scope, level in job["permissions"].items() if level == "write"}
        for name, job in jobs().items()
    }
    assert writes == {
        "assets": {"id-token", "attestations"},
        "image": {"packages"},
        "publish": {"contents", "packages", "id-token"},
        "python": {"id-token"},
    }


def test_the_workflow_calls_what_there_is() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for step in jobs()["assets"]["steps"]:
        for target in re.findall(r"\bmake (?:--silent )?([\w./-]+)", step.get("run", "")):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    version = re.search(r"^UV_VERSION := (.*)$", makefile, re.MULTILINE)
    assert version is not None
    assert f"uv=={version[1]}" in RELEASE.read_text()
