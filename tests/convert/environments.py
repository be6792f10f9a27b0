"""Environments of their own for frameworks that are too large for everybody's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.server.running import ROOT

#: Runs commands, and prints the exit code and the words of each.
CONVERTING = """
import contextlib, io, json, sys
from slipway.cli.main import main

said = {}
for name, command in json.load(open("commands.json")).items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = main(["convert", *command])
    said[name] = [code, out.getvalue()]
json.dump(said, open("converted.json", "w"))
"""


def environment(folder: Path, extra: str, *packages: str) -> Path:
    """The interpreter of a fresh environment with an extra of this project, as locked, and packages."""
    uv = shutil.which("uv")
    if uv is None:
        cache = Path(os.environ.get("SLIPWAY_CACHE") or Path.home() / ".cache/slipway")
        uv = str(max(cache.glob("uv-*/bin/uv")))
    needs, target = folder / "requirements.txt", folder / "venv"
    export = [
        "export",
        "--quiet",
        "--frozen",
        "--no-dev",
        "--extra",
        extra,
        "--no-emit-project",
        "--no-hashes",
    ]
    subprocess.run([uv, *export, "--output-file", needs], cwd=ROOT, check=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, target], check=True)
    python = target / "bin/python"
    install = ["pip", "install", "--quiet", "--python", python, "--requirements", needs, *packages]
    subprocess.run([uv, *install], check=True)
    return python


def run(python: Path, folder: Path, *arguments: str) -> str:
    """What Python prints in a folder, with this tree's packages; AssertionError has its last words."""
    ran = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def converted(python: Path, folder: Path, commands: dict[str, list[str]]) -> dict[str, tuple[int, str]]:
    """The exit code and the words of ``slipway convert`` with each of these arguments."""
    (folder / "commands.json").write_text(json.dumps(commands))
    run(python, folder, "-c", CONVERTING)
    return {
        name: (code, words)
        for name, (code, words) in json.loads((folder / "converted.json").read_text()).items()
    }
