"""The commands of the page on security, as printed, by kubectl on a real API server."""

from __future__ import annotations

from pathlib import Path

from e2e import snippets
from tests.policies.conftest import ROLLOUT, Installed
from tests.policies.reader import Reader

PAGE = "docs/security.md"


def test_the_guide_does_what_it_says(installed: Installed, tmp_path: Path) -> None:
    installed.api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "payments"}})
    reader = Reader(installed.api, tmp_path)
    # Whose keys these are, the page makes by other programs (tests/models/test_signing.py).
    (tmp_path / "release.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    commands = [command for command in snippets.commands(PAGE) if command.program == "kubectl"]
    assert len(commands) == 5
    for command in commands:
        reader.types(command.text)
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
