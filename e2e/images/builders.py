"""Docker and buildah, each behind the same two verbs."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.cluster.command import run, step
from e2e.cluster.errors import ClusterError
from e2e.images.base import Base, make_base, name_base
from e2e.images.catalog import Image

#: The base where an image registry can be reached; the Dockerfiles' own default, for both roles.
REGISTRY_BASE = "docker.io/library/python:3.11-slim-bookworm"
#: Where a machine says which certificates it trusts, by program; the first that is set is passed on.
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PREPARE_SECONDS = 600.0
BUILD_SECONDS = 1800.0
STEPS_KEPT = 300
#: From this version on Docker's client has BuildKit in a component of its own.
BUILDX_SINCE = 23


@dataclass(frozen=True)
class Bases:
    """Image references for the Dockerfiles' BASE and BUILD_BASE; `key` changes with what they hold."""

    key: str
    run: str
    build: str


class Builder(Protocol):
    """A program that builds Dockerfiles."""

    @property
    def name(self) -> str:
        """What users call it."""

    def made_key(self) -> str | None:
        """Key of what images stand on here, where it is made already; nothing is changed."""

    def bases(self) -> Bases:
        """What images stand on here, made or pulled if need be."""

    def build(self, image: Image, bases: Bases, context: Path, archive: Path) -> None:
        """Build an image from a folder and write it as a docker-archive that carries its name."""


def choose_builder(cache: Path) -> Builder:
    """What SLIPWAY_BUILDER names; else Docker where its engine answers and it has BuildKit; else buildah.

    ClusterError says what to install.
    """
    asked = os.environ.get("SLIPWAY_BUILDER") or None
    if asked not in (None, "docker", "buildah"):
        raise ClusterError(
            f"SLIPWAY_BUILDER={asked!r}: use docker or buildah, or unset it to have one chosen"
        )
    missing = None if asked == "buildah" else _what_docker_lacks()
    if asked != "buildah" and missing is None:
        return DockerBuilder(cache)
    if asked == "docker":
        raise ClusterError(f"SLIPWAY_BUILDER=docker, but {missing}")
    if os.geteuid() != 0:
        raise ClusterError(
            f"images need Docker ({missing}), or root to build with buildah (run as root)"
            if missing
            else "buildah needs root: run as root, or unset SLIPWAY_BUILDER"
        )
    _install_missing("buildah", "debootstrap")
    return BuildahBuilder(cache)


@dataclass(frozen=True)
class DockerBuilder:
    """Docker with BuildKit."""

    cache: Path
    name: str = "docker"

    def made_key(self) -> str | None:
        if self._has(REGISTRY_BASE):
            return REGISTRY_BASE
        own = name_base(self.cache / "images")
        return own.key if all(map(self._has, own.archives())) else None

    def bases(self) -> Bases:
        registry = Bases(REGISTRY_BASE, REGISTRY_BASE, REGISTRY_BASE)
        if self._has(REGISTRY_BASE):
            return registry
        own = name_base(self.cache / "images")
        if not all(map(self._has, own.archives())):
            if self._pull():
                return registry
            self._import(own)
        return Bases(own.key, *own.archives())

    def build(self, image: Image, bases: Bases, context: Path, archive: Path) -> None:
        run(
            ["docker", "build", *_arguments(image, bases), "--network=host", "--progress=plain", context],
            env={"DOCKER_BUILDKIT": "1"},
            timeout=BUILD_SECONDS,
        )
        run(["docker", "save", "--output", archive, image.name])

    def _has(self, name: str) -> bool:
        return _succeeds(["docker", "image", "inspect", name])

    def _pull(self) -> bool:
        with step(f"asking the registry for {REGISTRY_BASE}"):
            return _succeeds(["docker", "pull", REGISTRY_BASE])

    def _import(self, own: Base) -> None:
        if os.geteuid() != 0:
            raise ClusterError(
                f"{REGISTRY_BASE} cannot be pulled, and making a base without a registry needs root"
            )
        _install_missing("debootstrap")
        make_base(own)
        for name, tar in own.archives().items():
            run(["docker", "import", tar, name])


@dataclass(frozen=True)
class BuildahBuilder:
    """buildah as root, with a store of its own so that the machine's other images stay untouched."""

    cache: Path
    name: str = "buildah"

    def made_key(self) -> str | None:
        own = name_base(self.cache / "images")
        return own.key if own.run.exists() and own.build.exists() else None

    def bases(self) -> Bases:
        self._tidy()
        base = name_base(self.cache / "images")
        make_base(base)
        for name, tar in base.archives().items():
            if not _succeeds(self._argv("inspect", "--type=image", name)):
                container = run(self._argv("from", "scratch")).strip()
                run(self._argv("add", "--quiet", container, str(tar), "/"))
                run(self._argv("commit", "--quiet", "--rm", container, name))
        return Bases(base.key, *base.archives())

    def build(self, image: Image, bases: Bases, context: Path, archive: Path) -> None:
        run(
            self._argv(
                "build",
                *_arguments(image, bases),
                "--isolation=chroot",
                "--network=host",
                "--layers",
                str(context),
            ),
            timeout=BUILD_SECONDS,
        )
        run(self._argv("push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}"))

    def _tidy(self) -> None:
        """Every build leaves a few steps behind; many of them cost more to search than to build anew."""
        run(self._argv("rm", "--all"))
        if len(run(self._argv("images", "--all", "--quiet", "--no-trunc")).split()) > STEPS_KEPT:
            run(self._argv("rmi", "--all", "--force"))

    def _argv(self, *words: str) -> list[str]:
        store = self.cache / "images" / "store"
        # What is mounted now, forgotten when the machine starts; each store needs its own.
        running = Path("/run/slipway") / hashlib.sha256(str(store).encode()).hexdigest()[:12]
        return ["buildah", f"--root={store}", f"--runroot={running}", *words]


def _what_docker_lacks() -> str | None:
    """What is missing to build with Docker, with the way to it; None where nothing is."""
    if not shutil.which("docker") or not _succeeds(["docker", "info"]):
        return "Docker does not answer: install it and start its engine"
    if _succeeds(["docker", "buildx", "version"]):
        return None
    version = run(["docker", "version", "--format", "{{.Client.Version}}"])
    major = version.strip().partition(".")[0]
    if major.isdecimal() and int(major) < BUILDX_SINCE:
        return None
    return "Docker's client has no buildx: install the package docker-buildx or docker-buildx-plugin"


def _arguments(image: Image, bases: Bases) -> list[str]:
    words = [
        f"--build-arg=BASE={bases.run}",
        f"--build-arg=BUILD_BASE={bases.build}",
        f"--file={image.root / image.dockerfile}",
        f"--target={image.target}",
        f"--tag={image.name}",
    ]
    if certificates := next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None):
        words.append(f"--secret=id=ca,src={certificates}")
    return words


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False, timeout=PREPARE_SECONDS).returncode == 0


def _install_missing(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"{' and '.join(missing)} missing: install with your package manager, or use Docker"
        )
    with step(f"installing {' '.join(missing)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=quiet, timeout=PREPARE_SECONDS)
        argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
        run(argv, env=quiet, timeout=PREPARE_SECONDS)
