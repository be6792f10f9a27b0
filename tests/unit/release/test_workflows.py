"""Workflows of GitHub, as the tools that read them see them; no runner runs them here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import ACTIONLINT, Tools
from release.advisories import EXPORT
from release.assets import ROOT
from release.chart import CUDA_IMAGE, IMAGES
from release.holes import BITNAMI, PYPI

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
    runners = {one["arch"]: one["runner"] for one in matrix["include"] if "image" not in one}
    assert set(runners) == set(matrix["arch"]) == {"amd64", "arm64"}
    # Another image than those of the matrix is a build of its own, and takes nothing from them.
    assert [one for one in matrix["include"] if "image" in one] == [
        {"image": CUDA_IMAGE, "arch": "amd64", "runner": runners["amd64"]}
    ]
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {*IMAGES, CUDA_IMAGE} <= set(targets)


@pytest.mark.parametrize("image", [*IMAGES, CUDA_IMAGE])
def test_architectures_are_joined_signed_and_named_as_they_were_pushed(image: str, tmp_path: Path) -> None:
    """The step itself, with programs that write down what they are called with."""
    calls = tmp_path / "calls"
    for name, answer in (("docker", '"sha256:0"'), ("cosign", "")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} \"$@\" >> {calls}\necho '{answer}'\n")
        program.chmod(0o755)
    joined = next(step["run"] for step in jobs()["registry"]["steps"] if "Join" in step.get("name", ""))
    told = tmp_path / "outputs"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REGISTRY": "ghcr.io/Shop/Slipway"}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", joined],
        env={**environment, "VERSION": "1.0.0", "GITHUB_OUTPUT": str(told)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    name = f"ghcr.io/shop/slipway/{image}"
    of_each = [f"{name}:1.0.0-amd64", *([f"{name}:1.0.0-arm64"] if image != CUDA_IMAGE else [])]
    made = calls.read_text().splitlines()
    assert f"docker buildx imagetools create --tag {name}:1.0.0 {' '.join(of_each)}" in made
    assert f"cosign sign --yes --recursive {name}@sha256:0" in made
    assert f"{image}=sha256:0" in told.read_text().splitlines()
    # As it is handed on to what says where it comes from.
    assert jobs()["registry"]["outputs"][image] == f"${{{{ steps.images.outputs.{image} }}}}"


def test_all_that_is_pushed_is_signed_and_it_is_said_where_it_comes_from() -> None:
    pushed = set(jobs()["registry"]["outputs"])
    assert pushed == {*IMAGES, CUDA_IMAGE, "chart", "crds"}
    assert set(jobs()["provenance"]["strategy"]["matrix"]["pushed"]) == pushed
    steps = "".join(step.get("run", "") for step in jobs()["registry"]["steps"])
    for digest in ("$name@$digest", "$charts/slipway@$chart", "$crds@$crd"):
        assert re.search(rf'cosign sign --yes (--recursive )?"{re.escape(digest)}"', steps), digest
    files = [step for step in jobs()["assets"]["steps"] if "attest-build-provenance" in step.get("uses", "")]
    assert files[0]["with"] == {"subject-checksums": "dist/SHA256SUMS"}
    # Nothing is offered before it is signed and known where it comes from.
    assert "provenance" in jobs()["publish"]["needs"]
    assert jobs()["python"]["needs"] == "publish"


def test_every_image_stands_on_the_base_that_was_looked_up_once() -> None:
    build = next(step for step in jobs()["image"]["steps"] if "buildx build" in step.get("run", ""))
    assert build["env"]["BASE"] == "${{ needs.assets.outputs.base }}"
    assert '--build-arg "BASE=$BASE"' in build["run"]
    looked_up = [step for step in jobs()["assets"]["steps"] if step.get("id") == "base"]
    assert ".venv/bin/python -m release base" in looked_up[0]["run"]
    assert RELEASE.read_text().count("release base") == 1


def test_known_holes_are_looked_for_before_anything_is_built() -> None:
    steps = [step.get("run", "") for step in jobs()["assets"]["steps"]]
    (looked,) = [number for number, run in enumerate(steps) if "make holes HOLES=--fresh" in run]
    (built,) = [number for number, run in enumerate(steps) if "release build" in run]
    assert looked < built
    fetched = re.search(r"for ecosystem in (.*); do", steps[looked])
    assert fetched is not None
    assert set(fetched[1].split()) == {PYPI, BITNAMI}
    assert f'"{EXPORT}/$ecosystem/all.zip"' in steps[looked]


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
        "registry": {"packages", "id-token"},
        "provenance": {"packages", "id-token", "attestations"},
        "publish": {"contents", "id-token"},
        "python": {"id-token"},
    }


def test_the_workflow_calls_what_there_is() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for step in jobs()["assets"]["steps"]:
        for target in re.findall(r"\bmake (?:--silent )?([\w./-]+)", step.get("run", "")):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


INSTALL = re.compile(r"^.*\bpip\"? install\b.*$", re.MULTILINE)
BUILDING = [
    path
    for path in (ROOT / "Makefile", ROOT / "Dockerfile", *WORKFLOWS, *ROOT.glob("e2e/images/*/Dockerfile"))
    if INSTALL.search(path.read_text())
]


def test_what_installs_packages_to_build_with_is_known() -> None:
    names = {str(path.relative_to(ROOT)) for path in BUILDING}
    assert {"Makefile", "Dockerfile", ".github/workflows/release.yml"} <= names


@pytest.mark.parametrize("path", BUILDING, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_builds_is_held_to_hashes(path: Path) -> None:
    text = re.sub(r"\\\n\s*", "", path.read_text())
    for line in INSTALL.findall(text):
        words = line.partition("install")[2]
        # Slipway's own package has no dependencies then.
        own = words.rstrip().endswith(" --no-deps --no-build-isolation --no-cache .")
        assert own or re.search(r" --require-hashes (--target \S+ )?-r \S+", words), line
