"""When an image counts as changed, and which archives are kept."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.images import archives
from e2e.images.catalog import IMAGES, PROMETHEUS, ROOT, Image, content_key

IMAGE = Image("thing", "slipway.dev/thing:dev", Path("Dockerfile"), "thing", ("lock", "code"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "code" / "__pycache__").mkdir(parents=True)
    for name in ("Dockerfile", ".dockerignore", "lock", "code/main.py", "code/__pycache__/main.pyc"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("changed", ["Dockerfile", ".dockerignore", "lock", "code/main.py"])
def test_a_changed_input_changes_the_key(checkout: Path, changed: str) -> None:
    before = content_key(replace(IMAGE, root=checkout), "base")
    (checkout / changed).write_text("other")
    assert content_key(replace(IMAGE, root=checkout), "base") != before


def test_a_changed_mode_name_or_set_of_files_changes_the_key(checkout: Path) -> None:
    keys = {content_key(replace(IMAGE, root=checkout), "base")}
    (checkout / "code/main.py").chmod(0o755)
    keys.add(content_key(replace(IMAGE, root=checkout), "base"))
    (checkout / "code/main.py").rename(checkout / "code/start.py")
    keys.add(content_key(replace(IMAGE, root=checkout), "base"))
    (checkout / "code/more.py").write_text("")
    keys.add(content_key(replace(IMAGE, root=checkout), "base"))
    assert len(keys) == 4


def test_another_base_or_program_changes_the_key(checkout: Path) -> None:
    program = replace(IMAGE, program=PROMETHEUS)
    newer = replace(IMAGE, program=replace(PROMETHEUS, version="other"))
    keys = {content_key(replace(image, root=checkout), "base") for image in (IMAGE, program, newer)}
    assert len(keys | {content_key(replace(IMAGE, root=checkout), "newer base")}) == 4


def test_what_python_leaves_behind_changes_nothing(checkout: Path) -> None:
    before = content_key(replace(IMAGE, root=checkout), "base")
    (checkout / "code/__pycache__/main.pyc").write_text("other")
    (checkout / "code/__pycache__/more.py").write_text("other")
    os.utime(checkout / "code/main.py", (1, 1))
    assert content_key(replace(IMAGE, root=checkout), "base") == before


def test_every_input_of_every_image_is_there_and_reaches_the_build() -> None:
    admitted = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for image in IMAGES:
        assert (ROOT / image.dockerfile).is_file()
        assert set(image.inputs) <= admitted
        assert all((ROOT / given).exists() for given in image.inputs)


def test_the_newest_archives_of_an_image_are_kept_and_no_others(tmp_path: Path) -> None:
    for age in range(6):
        path = tmp_path / f"thing-{age}.tar"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "other-0.tar").touch()
    archives._forget_older(archives.Archive(IMAGE, tmp_path / "thing-4.tar"))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"thing-4.tar", "thing-0.tar", "thing-1.tar", "other-0.tar"}
