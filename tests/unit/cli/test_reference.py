"""The page of the command line is what the parser says, and its examples run."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from e2e.snippets import Command, commands
from slipway.api.generated import ROOT
from slipway.cli.main import main
from slipway.cli.parser import COMMANDS
from slipway.cli.reference import PATH, files, subparsers
from tests.unit.cli.conftest import version
from tests.unit.cli.serving import Served
from tests.unit.world import NAME, NAMESPACE, World

EXAMPLES = [command for command in commands(PATH) if not command.text.startswith("pip ")]
#: Run elsewhere: they take a training set, pods that answer, models, or what is KServe's.
ELSEWHERE = {
    "convert": "tests/convert/test_convert.py",
    "convert-manifest": "tests/unit/cli/test_convert_manifest.py",
    "pin": "tests/models/test_pinned_files.py",
    "profile": "tests/profiling/test_profile.py",
    "report": "tests/unit/report/test_live.py",
    "serve": "tests/docs/test_serve_page.py",
    "sign": "tests/models/test_signing.py",
    "verify": "tests/models/test_signing.py",
}


def test_the_page_is_what_the_generator_makes() -> None:
    for name, text in files().items():
        assert (ROOT / name).read_text() == text, "run `python -m slipway.cli.reference`"


def test_every_command_and_argument_is_on_the_page() -> None:
    page = (ROOT / PATH).read_text()
    for name, command in subparsers().items():
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        shared = page.partition("## Which cluster")[2].partition("\n## ")[0]
        for action in command._actions:
            for option in action.option_strings[-1:]:
                assert option == "--help" or f"`{option}" in part + shared, (name, option)


def test_every_command_has_an_example() -> None:
    typed = {command.text.partition("slipway ")[2].split()[0] for command in EXAMPLES}
    assert typed == set(COMMANDS)


@pytest.fixture
def here(world: World, cluster: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """A folder with what the examples name, and a kubeconfig that leads to the world."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config/fish/completions").mkdir(parents=True)
    document = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}}
    text = yaml.safe_dump({**document, "spec": version(3)})
    (tmp_path / "models").mkdir()
    for name in ("fraud.yaml", "models/fraud.yaml"):
        (tmp_path / name).write_text(text)
    for words in (
        ("init", "--quiet"),
        (
            "-c",
            "user.name=me",
            "-c",
            "user.email=me@example.com",
            "commit",
            "--quiet",
            "--allow-empty",
            "-mx",
        ),
        ("update-ref", "refs/remotes/origin/main", "HEAD"),
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    program = tmp_path / "bin/slipway"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m slipway.cli.main "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("command", EXAMPLES, ids=str)
async def test_an_example_runs_as_printed(command: Command, here: Path, world: World) -> None:
    assert (NAME, NAMESPACE) == ("fraud", "payments"), "what the page says"
    typed = command.text.partition("  # ")[0]
    words = shlex.split(typed)
    if words[1] in ELSEWHERE:
        assert (ROOT / ELSEWHERE[words[1]]).is_file()
        return
    revisions = world.kube.all("ControllerRevision")
    first = min(revisions, key=lambda one: one["revision"])["metadata"]["name"].removeprefix(f"{NAME}-")
    typed = typed.replace("6f1d2c3b4a", first)
    await prepare(world, words[1])
    if words[1] == "status" and len(words) > 3 and words[3] in ("--watch", "--wait"):
        typed += " --timeout 0s"
    if set("|<>") & set(typed):
        environment = {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}"}
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-ec", typed],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return
    code = main([*shlex.split(typed)[1:], *where(words[1])])
    # Doctor finds much missing here.
    assert code == (3 if "--timeout" in typed or words[1] == "doctor" else 0)


def where(command: str) -> list[str]:
    """The client reads KUBECONFIG once, when it is imported; so a test says it each time."""
    known = [option for action in subparsers()[command]._actions for option in action.option_strings]
    return ["--kubeconfig", os.environ["KUBECONFIG"]] if "--kubeconfig" in known else []


async def prepare(world: World, command: str) -> None:
    """Bring the rollout to where the command has something to do."""
    if command == "retry":
        assert main(["abort", NAME, *where("abort")]) == 0
        await world.run(120)
    if command == "key":
        access = {"apiKeys": {"secretRef": {"name": "fraud-keys"}}}
        world.create({**version(2), "access": access})
        assert main(["key", "new", NAME, "shop", *where("key")]) == 0
    if command == "resume":
        assert main(["pause", NAME, *where("pause")]) == 0
