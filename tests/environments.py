"""Environments of their own for programs whose packages do not go together with ours."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cluster.settings import read_settings


def uv(cache: Path) -> str:
    """The program uv, of the machine or else of the cache."""
    found = shutil.which("uv") or next((str(path) for path in cache.glob("uv-*/bin/uv")), None)
    assert found is not None, "uv is neither on PATH nor in the cache: run `make .venv/synced`"
    return found


def python_with(requirements: Path, name: str, *, compiled: bool = False) -> Path:
    """The interpreter of an environment with the packages of a locked list, installed by the first call.

    ``compiled``: with bytecode, as images have it; elsewhere each start may have to make it.
    """
    cache = read_settings().cache
    seen = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"{name}-{seen}"
    if not (folder / "complete").exists():
        program = uv(cache)
        python = str(folder)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([program, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        install = [program, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-deps"]
        more = ["--compile-bytecode"] if compiled else []
        subprocess.run([*install, *more, "-r", requirements], check=True)
        (folder / "complete").touch()
    return folder / "bin/python"
