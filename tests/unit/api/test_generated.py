"""Generated files are up to date, and their generators say so when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.api import crd, docs, generated, protos, rbac
from slipway.api.generated import ROOT, write_or_check


@pytest.mark.parametrize("module", [crd, rbac, docs, protos], ids=lambda module: module.__name__)
def test_the_committed_files_are_what_the_generator_makes(module: object) -> None:
    for name, text in module.files().items():  # type: ignore[attr-defined]
        assert (ROOT / name).read_text() == text, f"{name}: run `python -m {module.__name__}`"  # type: ignore[attr-defined]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    return tmp_path


def test_a_difference_fails_the_check_and_nothing_is_written(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "a.txt").write_text("old\n")
    assert write_or_check("some.module", {"a.txt": "new\n", "b/c.txt": "c\n"}, ["--check"]) == 1
    assert (checkout / "a.txt").read_text() == "old\n"
    assert not (checkout / "b").exists()
    said = capsys.readouterr().err
    assert "-old\n+new" in said
    assert "run `python -m some.module`" in said


def test_what_was_written_passes_the_check(checkout: Path) -> None:
    files = {"a.txt": "new\n", "b/c.txt": "c\n"}
    assert write_or_check("some.module", files, []) == 0
    assert (checkout / "b/c.txt").read_text() == "c\n"
    assert write_or_check("some.module", files, ["--check"]) == 0


def test_outside_of_a_checkout_the_generator_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    assert write_or_check("some.module", {"a.txt": "new\n"}, []) == 2
    assert "not a checkout" in capsys.readouterr().err
    assert not (tmp_path / "a.txt").exists()
