"""What the cluster's Prometheus and Alertmanager are configured with, as their own tools read it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from e2e import services
from e2e.cluster.tools import AMTOOL, PROMTOOL, GoProgram
from e2e.prometheus import hurried_rules
from tests.observability.rig import program

IMAGE = "slipway.dev/thing@sha256:0"


@pytest.mark.parametrize(
    ("name", "tool", "words"),
    [
        ("prometheus", PROMTOOL, ("check", "config", "prometheus.yml")),
        ("alertmanager", AMTOOL, ("check-config", "alertmanager.yml")),
    ],
)
def test_the_tool_accepts_the_configuration_of(
    name: str, tool: GoProgram, words: tuple[str, ...], tmp_path: Path
) -> None:
    objects = {each["kind"]: each for each in services.manifests(name, IMAGE)}
    for file, text in objects["ConfigMap"]["data"].items():
        (tmp_path / file).write_text(text.replace(f"/etc/{name}", str(tmp_path)))
    done = subprocess.run([program(tool), *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
    [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == IMAGE


def test_another_configuration_makes_other_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    def annotations() -> dict[str, str]:
        [deployment] = [
            each for each in services.manifests("alertmanager", IMAGE) if each["kind"] == "Deployment"
        ]
        found: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return found

    before = annotations()
    assert annotations() == before
    monkeypatch.setattr(services, "WAIT", "11s")
    assert annotations() != before


def test_hurried_rules_differ_in_their_patience_alone() -> None:
    shipped, hurried = (
        yaml.safe_load(text)
        for text in (services.RULES.read_text(), hurried_rules(services.RULES.read_text(), "10s"))
    )
    waits = set()
    for one, other in zip(shipped["groups"], hurried["groups"], strict=True):
        for rule, copy in zip(one["rules"], other["rules"], strict=True):
            waits.add((rule.pop("for", None), copy.pop("for", None)))
    assert shipped == hurried
    assert waits == {
        (None, None),
        ("0m", "0m"),
        *((wait, "10s") for wait in ("2m", "5m", "10m", "15m", "1h", "24h")),
    }
