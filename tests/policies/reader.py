"""Somebody with a shell, kubectl, this command line and the API server of these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import Tools
from tests.policies.control_plane import ADMIN_TOKEN, Api


@dataclass(frozen=True)
class Reader:
    """Types commands in a folder, as an administrator."""

    api: Api
    folder: Path
    namespace: str = "default"

    def types(self, command: str) -> str:
        """What it prints; AssertionError with its last words where it fails."""
        (self.folder / "config").write_text(json.dumps(self._config()))
        programs = (Tools(read_settings().cache).kubernetes(), Path(sys.executable).parent)
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env={**os.environ, "KUBECONFIG": str(self.folder / "config"), "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _config(self) -> dict[str, object]:
        where = {"server": self.api.address, "insecure-skip-tls-verify": True}
        return {
            "current-context": "here",
            "contexts": [
                {"name": "here", "context": {"cluster": "it", "user": "me", "namespace": self.namespace}}
            ],
            "clusters": [{"name": "it", "cluster": where}],
            "users": [{"name": "me", "user": {"token": ADMIN_TOKEN}}],
        }
