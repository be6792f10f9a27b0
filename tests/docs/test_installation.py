"""The recipes that install Slipway: what they build and push is what the chart then runs."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import snippets
from e2e.snippets import ROOT
from tests.docs.notes import notes
from tests.unit.test_chart import CHART, environment, helm_program, pod

RECIPE = [
    command.text
    for command in snippets.commands("README.md")
    if command.program in ("export", "for", "docker", "helm")
]
#: Writes down what it is called with; there is no Docker engine in a test, and no cluster.
DOCKER = '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >> "$RECORD"; printf "\\n" >> "$RECORD"\n'
#: Renders what it would install, with the flags it is given.
HELM = (
    "#!/bin/sh\n"
    'while [ "$1" != slipway ]; do shift; done; shift\n'
    'exec "$REAL_HELM" template slipway "$@" --kube-version=v1.34.4 > "$RENDERED"\n'
)


class Followed:
    """A recipe as a reader runs it: what was built, what was pushed, and what is installed."""

    def __init__(self, folder: Path, typed: list[str], **variables: str) -> None:
        programs, self._record, rendered = folder / "bin", folder / "record", folder / "rendered"
        programs.mkdir()
        for name, script in (("docker", DOCKER), ("helm", HELM)):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        self._record.touch()
        environment = {
            **os.environ,
            **variables,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RECORD": str(self._record),
            "RENDERED": str(rendered),
            "REAL_HELM": helm_program(),
        }
        script = "\n".join(["set -euo pipefail", *typed])
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.manifests: list[dict[str, Any]] = [
            one for one in yaml.load_all(rendered.read_text(), Loader=yaml.CSafeLoader) if one
        ]

    @property
    def calls(self) -> list[list[str]]:
        return [line.split("\0")[:-1] for line in self._record.read_text().splitlines()]

    @property
    def built(self) -> dict[str, str]:
        """Stage of the Dockerfile by the tag that it got."""
        found = {}
        for words in self.calls:
            if words[0] == "build":
                found[words[words.index("--tag") + 1]] = words[words.index("--target") + 1]
        return found

    @property
    def pushed(self) -> set[str]:
        return {words[1] for words in self.calls if words[0] == "push"}

    @property
    def images(self) -> dict[str, str]:
        """What runs, by its part."""
        [container] = pod(self.manifests)["containers"]
        told = environment(self.manifests)
        return {
            "operator": container["image"],
            "server": told["SLIPWAY_SERVER_IMAGE"],
            "audit": told["SLIPWAY_AUDIT_IMAGE"],
            "router": told["SLIPWAY_ROUTER_IMAGE"],
        }


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return Followed(tmp_path_factory.mktemp("readme"), RECIPE)


def test_the_readmes_recipe_installs_exactly_what_it_pushed(readme: Followed) -> None:
    assert {stage: tag for tag, stage in readme.built.items()} == readme.images
    assert readme.pushed == set(readme.built) == set(readme.images.values())
    stages = re.findall(r"^FROM .* AS ([\w-]+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(readme.built.values()) <= set(stages)


def test_the_tag_is_the_version_that_all_parts_have(readme: Followed) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == version
    assert {image.rpartition(":")[2] for image in readme.images.values()} == {version}


def test_the_charts_own_recipe_installs_what_the_readmes_pushed(readme: Followed, tmp_path: Path) -> None:
    [recipe] = [command.text for command in snippets.commands("charts/slipway/README.md")]
    [registry] = [text.partition("=")[2] for text in RECIPE if text.startswith("export REGISTRY=")]
    assert Followed(tmp_path, [recipe], REGISTRY=registry).images == readme.images


def test_values_that_the_recipe_sets_do_what_it_says(readme: Followed) -> None:
    assert environment(readme.manifests)["SLIPWAY_MLFLOW_TRACKING_URI"] == "http://mlflow.mlflow:5000"
    assert "--namespace slipway-system --create-namespace" in RECIPE[-1]


def test_the_flag_for_a_registry_with_credentials_is_one_that_the_chart_has(tmp_path: Path) -> None:
    [flag] = re.findall(r"`(--set imagePullSecrets\S+=NAME)`", (ROOT / "README.md").read_text())
    found = Followed(tmp_path, [*RECIPE[:-1], f"{RECIPE[-1]} {flag}"]).manifests
    assert pod(found)["imagePullSecrets"] == [{"name": "NAME"}]
    assert environment(found)["SLIPWAY_IMAGE_PULL_SECRETS"] == "NAME"


def test_the_notes_serve_a_model_where_it_is_watched() -> None:
    for flags, namespace in (
        ((), "default"),
        (("--set", "watchNamespaces={payments,search}"), "payments"),
    ):
        found = notes(*flags)
        [manifest] = map(yaml.safe_load, found.manifests)
        assert manifest["metadata"]["namespace"] == namespace
        for command in found.commands:
            if command.program == "kubectl" and "fraud" in command.text and "<<EOF" not in command.text:
                assert f"-n {namespace} " in f"{command.text} "
        assert f"http://fraud.{namespace}" in found.text


def test_what_kubectl_get_is_shown_to_print_has_the_columns_of_the_crd() -> None:
    crd = yaml.safe_load((ROOT / "crds/slipway.dev_modeldeployments.yaml").read_text())
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    usual = ["NAME", *(one["name"].upper() for one in columns if not one.get("priority"))]
    [shown] = [
        command.output
        for command in snippets.commands("README.md")
        if command.text.startswith("kubectl get mdep")
    ]
    assert shown.splitlines()[0].split() == usual
