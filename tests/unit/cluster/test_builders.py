"""Which program builds images, and that the archives of one are found by the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.errors import ClusterError
from e2e.images.archives import build
from e2e.images.base import name_base
from e2e.images.builders import BuildahBuilder, DockerBuilder, choose_builder
from e2e.images.catalog import IMAGES
from tests.unit.cluster.fake_programs import Machine


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """A machine on which root has Docker's client, buildah and debootstrap."""
    for name in ("docker", "buildah", "debootstrap"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLIPWAY_BUILDER", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def made(**facts: Any) -> Machine:
        machine = Machine(**facts)
        monkeypatch.setattr("subprocess.run", machine.run)
        return machine

    return made


@pytest.mark.parametrize(
    ("facts", "builder"),
    [
        ({"buildx": True}, "docker"),
        # Before version 23 BuildKit was part of the client.
        ({"buildx": False, "client": "20.10.24+dfsg1"}, "docker"),
        ({"buildx": False, "client": "23.0.0"}, "buildah"),
        ({"buildx": False, "client": "28.2.2"}, "buildah"),
        ({"buildx": False, "client": "master-dockerproject"}, "buildah"),
        ({"engine": False}, "buildah"),
    ],
)
def test_docker_builds_where_it_can(
    on: Callable[..., Machine], tmp_path: Path, facts: dict[str, Any], builder: str
) -> None:
    on(**facts)
    assert choose_builder(tmp_path).name == builder


@pytest.mark.parametrize("name", ["docker", "buildah"])
def test_a_variable_names_the_builder(
    on: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    on()
    monkeypatch.setenv("SLIPWAY_BUILDER", name)
    assert choose_builder(tmp_path).name == name


@pytest.mark.parametrize(
    ("asked", "facts", "user", "advice"),
    [
        ("podman", {}, 0, r"SLIPWAY_BUILDER='podman': use docker or buildah"),
        ("docker", {"buildx": False}, 0, r"SLIPWAY_BUILDER=docker, but .* no buildx: install"),
        ("docker", {"engine": False}, 0, r"SLIPWAY_BUILDER=docker, but .* start its engine"),
        ("buildah", {}, 1000, r"run as root, or unset SLIPWAY_BUILDER"),
        ("", {"buildx": False}, 1000, r"no buildx: install .* or root"),
        ("", {"engine": False}, 1000, r"start its engine.* or root"),
    ],
)
def test_a_builder_that_cannot_build_is_an_error_that_says_the_way_to_one(
    on: Callable[..., Machine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    facts: dict[str, Any],
    user: int,
    advice: str,
) -> None:
    on(**facts)
    monkeypatch.setenv("SLIPWAY_BUILDER", asked)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(ClusterError, match=advice):
        choose_builder(tmp_path)


def test_an_archive_that_one_builder_made_is_found_with_the_other(
    on: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = name_base(tmp_path / "images")
    machine = on(images=list(own.archives()))
    own.run.parent.mkdir()
    own.run.touch()
    own.build.touch()
    image = replace(IMAGES[0], root=tmp_path, inputs=())
    (tmp_path / "Dockerfile").touch()
    (tmp_path / ".dockerignore").touch()
    written: list[str] = []

    def write(builder: Any, *parts: Any) -> None:
        written.append(builder.name)
        parts[-1].touch()

    monkeypatch.setattr(BuildahBuilder, "build", write)
    monkeypatch.setattr(BuildahBuilder, "bases", lambda _: DockerBuilder(tmp_path).bases())
    monkeypatch.setattr(DockerBuilder, "build", write)
    monkeypatch.setenv("SLIPWAY_BUILDER", "buildah")
    (first,) = build([image], tmp_path)
    monkeypatch.setenv("SLIPWAY_BUILDER", "docker")
    (second,) = build([image], tmp_path)
    assert first == second
    assert written == ["buildah"]
    assert not machine.called("docker", "build")
