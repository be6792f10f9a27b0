"""What make says on a machine that lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "e2e/prerequisites.py"


def check(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(path)}
    argv = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)


def provide(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_every_missing_program_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    done = check(tmp_path, "--tests", "--browser")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "missing: git (apt-get install git)" in lines
    assert any(line.startswith("missing: Go 1.26 or newer") for line in lines)
    assert any(line.startswith("missing: Node.js 20 or newer with npm") for line in lines)
    assert "missing: Chromium (apt-get install chromium), to look at pages in tests" in lines


def test_a_go_that_is_too_old_counts_as_missing(tmp_path: Path) -> None:
    provide(tmp_path, "git", "exit 0")
    provide(tmp_path, "go", "echo go version go1.19.8 linux/amd64")
    done = check(tmp_path, "--tests")
    assert done.returncode == 1
    assert "Go 1.26 or newer" in done.stderr
    assert "git" not in done.stderr


def test_nothing_is_said_where_all_is_there(tmp_path: Path) -> None:
    provide(tmp_path, "git", "exit 0")
    provide(tmp_path, "go", "echo go version go1.26.8 linux/amd64")
    provide(tmp_path, "docker", "exit 0")
    for name in ("node", "npm"):
        provide(tmp_path, name, "exit 0")
    provide(tmp_path, "chromium", "exit 0")
    done = check(tmp_path, "--tests", "--cluster", "--browser")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_laptop_with_docker_needs_no_browser_for_the_demo_nor_for_tests_without_a_cluster(
    tmp_path: Path,
) -> None:
    provide(tmp_path, "git", "exit 0")
    provide(tmp_path, "go", "echo go version go1.26.8 linux/amd64")
    provide(tmp_path, "docker", "exit 0")
    for name in ("node", "npm"):
        provide(tmp_path, name, "exit 0")
    done = check(tmp_path, "--cluster", "--tests")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_alone_needs_no_go(tmp_path: Path) -> None:
    provide(tmp_path, "git", "exit 0")
    done = check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cluster_needs_an_engine_that_answers_or_a_machine_that_can_be_a_node(tmp_path: Path) -> None:
    provide(tmp_path, "git", "exit 0")
    provide(tmp_path, "go", "echo go version go1.26.8 linux/amd64")
    provide(tmp_path, "docker", "exit 1")
    done = check(tmp_path, "--cluster")
    assert done.returncode == 1
    assert "a Docker engine that answers `docker info`, or" in done.stderr
