"""What is fetched is what was fetched when it was pinned."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.tools import NodeFile, Tools

CONTENT = b"self.onmessage = () => 1\n"
WORKER = NodeFile("@scope/worker", "1.0.0", "shim/index.js", sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that an npm of ours hands out, for no registry hands out two."""
    programs, packed = tmp_path / "bin", tmp_path / "packed.tgz"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(
        f'#!/bin/sh\ntest "$*" = "pack --silent @scope/worker@1.0.0" && cp {packed} x.tgz && echo x.tgz\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return packed


def pack(packed: Path, content: bytes) -> None:
    with tarfile.open(packed, "w:gz") as archive:
        info = tarfile.TarInfo("package/shim/index.js")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def test_a_file_of_npm_is_taken_by_its_hash_alone(tmp_path: Path, registry: Path) -> None:
    tools = Tools(tmp_path / "cache")
    pack(registry, CONTENT + b" ")
    with pytest.raises(
        ClusterError, match=r"index\.js of @scope/worker@1\.0\.0 is not the file with the SHA-256"
    ):
        tools.fetch_npm(WORKER)
    assert list((tmp_path / "cache/tools").iterdir()) == []
    pack(registry, CONTENT)
    assert tools.fetch_npm(WORKER).read_bytes() == CONTENT
    # Once it is there it is taken as it is.
    pack(registry, b"")
    assert tools.fetch_npm(WORKER).read_bytes() == CONTENT
