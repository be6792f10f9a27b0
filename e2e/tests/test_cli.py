"""``kubectl slipway`` on the real cluster: what it says of a resource, and what its commands refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.settings import Settings
from e2e.tests.installation import Installation

NAME = "told"
MANIFEST = f"""\
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: {NAME}
spec:
  model:
    uri: https://models.invalid/model.onnx
"""


@pytest.fixture(scope="module")
def file(installed: Installation, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest whose model nobody has, applied."""
    path = tmp_path_factory.mktemp("cli") / "told.yaml"
    path.write_text(MANIFEST)
    installed.kube.kubectl("apply", "-n", namespace, "-f", str(path))
    return path


def slipway(settings: Settings, namespace: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kubectl-slipway")
    return subprocess.run(
        [program, *words, "-n", namespace, "--kubeconfig", str(settings.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.usefixtures("file")
def test_status_is_drawn_and_given_as_json(settings: Settings, namespace: str) -> None:
    drawn = slipway(settings, namespace, "status", NAME)
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.splitlines()[:2] == [f"{namespace}/{NAME}", "  nothing serves yet"]
    given = slipway(settings, namespace, "status", NAME, "-o", "json")
    assert isinstance(json.loads(given.stdout), dict)


def test_a_plan_of_what_is_there_writes_nothing(settings: Settings, namespace: str, file: Path) -> None:
    planned = slipway(settings, namespace, "plan", "-f", str(file))
    assert planned.returncode == 0, planned.stderr
    assert "is looked up first; its version and digest are not known yet" in planned.stdout


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("command", ["promote", "promote-full", "abort", "pause", "resume"])
def test_a_command_without_a_rollout_is_refused(command: str, settings: Settings, namespace: str) -> None:
    refused = slipway(settings, namespace, command, NAME)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{NAME} has no rollout under way" in refused.stderr


def test_what_is_not_there_is_said(settings: Settings, namespace: str) -> None:
    missing = slipway(settings, namespace, "status", "nobody")
    assert (missing.returncode, missing.stderr) == (
        1,
        f"error: there is no ModelDeployment {namespace}/nobody\n",
    )
