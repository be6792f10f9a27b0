"""What each peer needs: an environment of Python or a build of Rust, from its lock, kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

PEERS = Path(__file__).parent / "peers"


class SetUpError(Exception):
    """Something that the benchmark needs is not there; the message says how to get it."""


class LeftOutError(SetUpError):
    """The same of what it can do without."""


def cache() -> Path:
    """``$SLIPWAY_CACHE/bench``, else in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SLIPWAY_CACHE") or Path(home) / "slipway") / "bench"


def check_tools(*programs: str) -> None:
    """Raises :class:`SetUpError` for programs that are missing: of those named, or of all that there are."""
    packages = {"wrk": "wrk", "h2load": "nghttp2-client", "valgrind": "valgrind", "taskset": "util-linux"}
    missing = [packages[program] for program in programs or packages if not shutil.which(program)]
    if missing:
        raise SetUpError(f"missing: {' '.join(missing)} (apt-get install {' '.join(missing)})")
    if not {0, 1} <= os.sched_getaffinity(0):
        raise SetUpError("the server and its load need a core each, 0 and 1, which may not both be used here")


def environment(name: str, interpreters: tuple[str, ...] = ()) -> Path:
    """The interpreter of a peer's environment, made now if its lock changed.

    ``interpreters`` are tried in turn; without any it is the one that runs this.
    """
    lock = PEERS / name / "requirements.txt"
    found = next((path for path in map(shutil.which, interpreters) if path), sys.executable)
    target = cache() / name
    python = target / "bin" / "python"
    stamp = hashlib.sha256(lock.read_bytes() + found.encode()).hexdigest()
    marker = target / "slipway-bench"
    if marker.exists() and marker.read_text() == stamp:
        return python
    uv = shutil.which("uv")
    if uv is None:
        raise SetUpError("missing: uv (pip install uv)")
    print(f"installing the packages of {lock.relative_to(PEERS.parents[2])}", flush=True)
    base = subprocess.check_output([found, "-c", "import sys; print(sys._base_executable)"], text=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    quiet = [uv, "--quiet"]
    _must([*quiet, "venv", "--clear", "--python", base.strip(), str(target)])
    _must([*quiet, "pip", "sync", "--python", str(python), str(lock)])
    marker.write_text(stamp)
    return python


@functools.cache
def crate(name: str) -> Path:
    """Where the programs of a peer in Rust are, built now from its lock if they changed.

    Raises :class:`LeftOutError` where there is no cargo.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise LeftOutError("missing: cargo (https://rustup.rs)")
    target, folder = cache() / name, PEERS / name
    print(f"building {folder.relative_to(PEERS.parents[2])}", flush=True)
    manifest = ("--manifest-path", str(folder / "Cargo.toml"), "--target-dir", str(target))
    # As for a server of one's own: for the processor that it will run on.
    flags = {"RUSTFLAGS": "-C target-cpu=native"}
    _must([cargo, "build", "--quiet", "--release", "--locked", *manifest], flags)
    return target / "release"


def onnxruntime_library() -> Path:
    """The library that is in onnxruntime's own wheel."""
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    return library


def models() -> Path:
    """The directory with all models, made now if their recipe changed."""
    recipe = PEERS / "tools" / "models.py"
    lock = PEERS / "tools" / "requirements.txt"
    stamp = hashlib.sha256(recipe.read_bytes() + lock.read_bytes()).hexdigest()
    target = cache() / f"models-{stamp[:12]}"
    if not target.exists():
        print("making the models", flush=True)
        half = target.with_name(f"{target.name}.half")
        _must([str(environment("tools")), "-W", "ignore", str(recipe), str(half)])
        half.rename(target)
    return target


def _must(command: list[str], more: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(more or {})})
    if done.returncode:
        raise SetUpError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
