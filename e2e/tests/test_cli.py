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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("uri: https", "uri: ftp"), "uri must start with mlflow://"),
        (("spec:\n", "spec:\n  scalling: {}\n"), 'unknown field "spec.scalling"'),
        (
            ("spec:\n", "spec:\n  scaling: {minReplicas: 9, maxReplicas: 2}\n"),
            "minReplicas must not be above",
        ),
    ],
)
@pytest.mark.parametrize("name", [NAME, "new"])
def test_a_plan_refuses_what_the_api_server_refuses(
    settings: Settings,
    namespace: str,
    installed: Installation,
    file: Path,
    tmp_path: Path,
    change: tuple[str, str],
    says: str,
    name: str,
) -> None:
    """For one that is there and for a new one, with a cluster and without."""
    text = file.read_text().replace(*change).replace(f"name: {NAME}", f"name: {name}")
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    for words in ((), ("--offline",)):
        refused = slipway(settings, namespace, "plan", "-f", str(path), *words)
        assert refused.returncode == 1
        assert says in refused.stdout
    assert installed.kube.kubectl("get", "modeldeployment", "-n", namespace, "-o", "name").split() == [
        f"modeldeployment.slipway.dev/{NAME}"
    ]


@pytest.mark.usefixtures("file")
def test_what_is_there_is_listed_and_waited_for(settings: Settings, namespace: str) -> None:
    listed = slipway(settings, namespace, "get", "-o", "name")
    assert (listed.returncode, listed.stdout) == (0, f"modeldeployment.slipway.dev/{NAME}\n")
    waited = slipway(settings, namespace, "status", NAME, "--wait", "--timeout", "1s")
    assert waited.returncode in (1, 3), "nobody has its model"
    told = slipway(settings, namespace, "version", "-o", "json")
    assert json.loads(told.stdout)["crd"] == {
        "installed": True,
        "apiVersion": "slipway.dev/v1alpha1",
        "lacks": [],
        "unknown": [],
    }
    assert json.loads(told.stdout)["operators"]


def test_a_user_who_is_impersonated_has_that_users_rights(settings: Settings, namespace: str) -> None:
    refused = slipway(settings, namespace, "get", "--as", "nobody-at-all", "--as-group", "nothing")
    assert refused.returncode == 1
    assert 'User "nobody-at-all" cannot list resource "modeldeployments"' in refused.stderr


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
