"""A repository of ModelDeployments, with a branch that changes them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway.names import API_VERSION, KIND


def manifest(name: str = "fraud", **spec: Any) -> str:
    """One ModelDeployment in a file."""
    meta = {"name": name, "namespace": "payments"}
    whole = {"model": {"uri": "mlflow://fraud@champion"}, "rollout": {"strategy": "Canary"}} | spec
    return yaml.safe_dump({"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": whole})


class Repository:
    """One in a folder, with a branch main."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "A. N. Other")
        self.git("config", "user.email", "other@example.com")

    def git(self, *words: str) -> None:
        """Run git."""
        subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True)

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files, or remove those without a text."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)

    def commit(self, files: Mapping[str, str | None]) -> None:
        """Write files, and commit them."""
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=a change")

    def branch(self, name: str = "work") -> None:
        """Go on in another branch."""
        self.git("switch", "--quiet", "--create", name)
