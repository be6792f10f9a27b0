from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from slipway.digest import DigestError, digest_of, digest_of_sums, sha256_of


def test_one_file_has_the_digest_of_its_bytes_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "any name.onnx").write_bytes(b"model")
    assert digest_of(tmp_path) == "sha256:" + hashlib.sha256(b"model").hexdigest()


def test_several_files_have_the_digest_of_what_sha256sum_prints(tmp_path: Path) -> None:
    names = ["model.onnx", "a/weights.bin", "a.txt", "Z", "é/ü.bin", "a-b", "\N{GRINNING FACE}", "｡"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 3)
    (tmp_path / "empty").mkdir()
    printed = subprocess.run(
        ["sha256sum", *sorted(names, key=os.fsencode)], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    assert printed.count(b"\n") == len(names)
    assert digest_of(tmp_path) == "sha256:" + hashlib.sha256(printed).hexdigest()


def test_a_renamed_moved_or_changed_file_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    before = digest_of(tmp_path)
    (tmp_path / "a").write_bytes(b"2")
    (tmp_path / "b").write_bytes(b"1")
    swapped = digest_of(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    renamed = digest_of(tmp_path)
    assert len({before, swapped, renamed}) == 3


def test_the_order_in_which_sums_come_does_not_matter(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        (tmp_path / name).write_bytes(name.encode())
    sums = {name: sha256_of(tmp_path / name) for name in ("z", "x", "y")}
    assert digest_of_sums(sums) == digest_of(tmp_path)


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DigestError, match="no files"):
        digest_of(tmp_path)


def test_a_symbolic_link_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("/etc/hostname")
    with pytest.raises(DigestError, match=r"model\.onnx is not a regular file"):
        digest_of(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\rb"])
def test_a_name_that_sha256sum_would_escape_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(DigestError, match="rename"):
        digest_of(tmp_path)
