"""Programs that a release is made with."""

import shutil
import subprocess
from pathlib import Path

from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parents[1]


def run(command: list[str], given: str | None = None) -> str:
    """What the command prints, run in the repository; ReleaseError with what it says where it fails."""
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(command[:4])
        raise ReleaseError(f"`{words} …` failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def uv() -> str:
    """Path of uv; ReleaseError where there is none on the PATH."""
    found = shutil.which("uv")
    if found is None:
        raise ReleaseError('uv is not on the PATH: PATH="$(make --silent uv-folder):$PATH" brings it')
    return found


def exported(*words: str) -> str:
    """The list of packages that uv.lock has for words of `uv export` such as ``--extra server``."""
    plain = ["--quiet", "--frozen", "--offline", "--no-dev", "--no-emit-project", "--no-header"]
    return run([uv(), "export", *plain, *words])
