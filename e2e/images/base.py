"""A base for the images where no image registry is within reach: Debian and its Python, from packages."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.command import run, step

SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
#: What only a build needs: the wheels that `python3 -m venv` installs pip from, and the module that does.
BUILD_ONLY = ("usr/share/python-wheels", "usr/lib/python3.11/ensurepip")
#: What no container reads; copyright files stay.
UNREAD = (
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/bug",
)
#: Folders that are emptied of files, since dpkg and apt expect to find them.
EMPTIED = ("var/cache", "var/lib/apt/lists", "var/log", "tmp", "run", "dev")
#: The same rules for packages that an image adds with apt.
DPKG_RULES = "".join(f"path-exclude=/{folder}/*\n" for folder in (*UNREAD, "usr/share/doc")) + (
    "path-include=/usr/share/doc/*/copyright\n"
)
RECIPE = 1


@dataclass(frozen=True)
class Base:
    """Two root file systems as tar files: what images stand on, and the same with what builds need."""

    key: str
    run: Path
    build: Path

    def archives(self) -> dict[str, Path]:
        """Both files, the one that images stand on first, by the names that builders give them."""
        return {f"slipway.dev/base:{self.key}": self.run, f"slipway.dev/build-base:{self.key}": self.build}


def mirror() -> str:
    """Debian's mirror, or the one that SLIPWAY_DEBIAN_MIRROR names."""
    return os.environ.get("SLIPWAY_DEBIAN_MIRROR") or "http://deb.debian.org/debian"


def name_base(folder: Path) -> Base:
    """Where in `folder` both tar files are, or are to be."""
    recipe = (RECIPE, SUITE, PACKAGES, BUILD_ONLY, UNREAD, EMPTIED, DPKG_RULES)
    key = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    return Base(key, folder / f"base-{key}.tar", folder / f"build-base-{key}.tar")


def make_base(base: Base) -> None:
    """Make both tar files, unless they are there; needs root and debootstrap."""
    if base.run.exists() and base.build.exists():
        return
    folder = base.run.parent
    folder.mkdir(parents=True, exist_ok=True)
    with (
        step(f"base of the images: Debian {SUITE} with Python, from {mirror()}"),
        tempfile.TemporaryDirectory(dir=folder, prefix="base-") as scratch,
    ):
        root = Path(scratch) / "root"
        make_root(root, PACKAGES)
        write_tar(root, base.build)
        for path in BUILD_ONLY:
            shutil.rmtree(root / path)
        write_tar(root, base.run)


def make_root(root: Path, packages: Sequence[str]) -> None:
    """Make a root file system of Debian with these packages, without what no container reads."""
    included = ",".join(packages)
    # Its mounts end with it, also where it is interrupted.
    apart = ("unshare", "--mount", "--propagation", "private")
    run([*apart, "debootstrap", "--variant=minbase", f"--include={included}", SUITE, root, mirror()])
    _slim(root)


def _slim(root: Path) -> None:
    for path in UNREAD:
        shutil.rmtree(root / path, ignore_errors=True)
    for path in EMPTIED:
        for found in (root / path).rglob("*"):
            if found.is_symlink() or not found.is_dir():
                found.unlink()
    for found in (root / "usr/share/doc").rglob("*"):
        if found.name != "copyright" and not found.is_dir():
            found.unlink()
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(DPKG_RULES)
    # debootstrap copies the machine's own; a container gets its own from the kubelet.
    for path in ("etc/resolv.conf", "etc/hostname"):
        (root / path).unlink(missing_ok=True)


def write_tar(root: Path, target: Path) -> None:
    """Write a root file system as a tar file."""
    unfinished = target.with_suffix(".part")
    with tarfile.open(unfinished, "w") as archive:
        archive.add(root, arcname=".")
    unfinished.rename(target)
