"""Environments of their own for programs whose packages do not go together with ours."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.cluster.settings import read_settings


def python_with(requirements: Path, name: str) -> Path:
    """The interpreter of an environment with the packages of a locked list, installed by the first call."""
    cache = read_settings().cache
    seen = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"{name}-{seen}"
    if not (folder / "complete").exists():
        uv = shutil.which("uv") or next((str(path) for path in cache.glob("uv-*/bin/uv")), None)
        assert uv is not None, "uv is neither on PATH nor in the cache: run `make .venv/synced`"
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "--no-deps"]
        subprocess.run([*install, "-r", requirements], check=True)
        (folder / "complete").touch()
    return folder / "bin/python"
