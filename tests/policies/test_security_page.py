"""The commands of the page on security, as printed, by kubectl on a real API server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from e2e import snippets
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import Tools
from tests.policies.conftest import ROLLOUT, Installed
from tests.policies.control_plane import ADMIN_TOKEN

PAGE = "docs/security.md"


def test_the_guide_does_what_it_says(installed: Installed, tmp_path: Path) -> None:
    installed.api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "payments"}})
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
        "clusters": [
            {"name": "it", "cluster": {"server": installed.api.address, "insecure-skip-tls-verify": True}}
        ],
        "users": [{"name": "me", "user": {"token": ADMIN_TOKEN}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    tools = str(Tools(read_settings().cache).kubernetes())
    environment = {
        **os.environ,
        "KUBECONFIG": str(tmp_path / "config"),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    # Whose keys these are, the page makes by other programs (tests/models/test_signing.py).
    (tmp_path / "release.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    commands = [command for command in snippets.commands(PAGE) if command.program == "kubectl"]
    assert len(commands) == 5
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command.text, done.stderr)
    status = {"rollout": ROLLOUT}
    keys = {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}
    signed = {"model": {"uri": "mlflow://fraud/1", "verify": {"signature": keys}}}
    proposed = {"slipway.dev/proposed-by": "admin"}
    model = installed.model("payments", signed, status=status, annotations=proposed)
    change = {
        "metadata": {
            "annotations": {
                "slipway.dev/promote": "bbbbbbbbbb.1/1",
                "slipway.dev/promote-by": "bbbbbbbbbb.1/1/carol",
            }
        }
    }
    answer = installed.api.by("carol", "risk-officers").ask(
        "PATCH", model.path, change, "application/merge-patch+json"
    )
    assert answer.code == 200, answer
    assert installed.api.by("carol").ask("GET", model.path).code == 403
