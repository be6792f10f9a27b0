"""The repository's own actions, run by a runner of workflows as the page prints them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e import snippets
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import ACT, ACTIONLINT, Tools
from release.assets import ROOT
from tests.unit.cli.github_api import NUMBER, REPOSITORY, GitHub, serving
from tests.unit.cli.repository import Repository, manifest

CHECK, PLAN = (
    block.text
    for block in snippets.blocks("docs/github.md")
    if block.language == "yaml" and "jobs:" in block.text
)
EVIL = "models/$(touch owned)`touch owned`'\";touch owned.yaml"


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with serving() as found:
        yield found


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A clone whose branch changes a model, with files and a branch that a shell would run."""
    made = Repository(tmp_path / "repository")
    made.git("remote", "add", "origin", f"https://github.com/{REPOSITORY}")
    made.commit(
        {
            ".github/workflows/check.yml": CHECK,
            ".github/workflows/plan.yml": PLAN,
            "models/fraud.yaml": manifest(),
        }
    )
    made.git("update-ref", "refs/remotes/origin/main", "main")
    made.branch("$(touch${IFS}owned)")
    made.commit({EVIL: manifest("odd"), "models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    return made


def act(hub: GitHub, repository: Repository, workflow: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow for the pull request."""
    head = {"ref": "$(touch${IFS}owned)"}
    event = {"number": NUMBER, "pull_request": {"number": NUMBER, "base": {"ref": "main"}, "head": head}}
    place = repository.folder.with_name("event.json")
    place.write_text(json.dumps(event))
    command = [Tools(read_settings().cache).install(ACT), "pull_request", "--eventpath", place]
    command += ["--workflows", repository.folder / ".github/workflows" / workflow, "--no-cache-server"]
    command += ["--platform", "ubuntu-latest=-self-hosted", "--env", f"GITHUB_API_URL={hub.url}"]
    command += ["--local-repository", f"https://github.com/OWNER/slipway@main={ROOT}", *words]
    variables = {**os.environ, "XDG_CACHE_HOME": str(repository.folder.with_name("cache"))}
    return subprocess.run(
        command,
        cwd=repository.folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_actionlint_finds_nothing_in_the_pages_workflows(repository: Repository) -> None:
    program = Tools(read_settings().cache).install(ACTIONLINT)
    folder = repository.folder / ".github/workflows"
    done = subprocess.run(
        [program, "-no-color", *folder.iterdir()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    # It finds an injection that is planted.
    step = {"run": "echo ${{ github.head_ref }}"}
    unsafe = yaml.safe_dump(
        {"on": "pull_request", "jobs": {"x": {"runs-on": "ubuntu-latest", "steps": [step]}}}
    )
    done = subprocess.run([program, "-"], input=unsafe, capture_output=True, text=True, check=False)
    assert "github.head_ref" in done.stdout
    assert "potentially untrusted" in done.stdout


@pytest.mark.long
def test_the_pages_workflows_run_comment_once_and_update_it(hub: GitHub, repository: Repository) -> None:
    first = act(hub, repository, "plan.yml", "--secret", "GITHUB_TOKEN=secret")
    assert first.returncode == 0, first.stdout + first.stderr
    [made] = hub.comments
    assert "no pod is restarted" in made["body"]
    assert "payments/odd" in made["body"]
    repository.commit({"models/fraud.yaml": manifest(model={"uri": "mlflow://fraud@challenger"})})
    again = act(hub, repository, "plan.yml", "--secret", "GITHUB_TOKEN=secret")
    assert again.returncode == 0, again.stdout + again.stderr
    assert hub.comments == [made]
    assert "a new one, next to the one at the base" in made["body"]
    assert [method for method, _ in hub.written] == ["POST", "PATCH"]

    # A fork's token may write nothing. The runner shows no secret, wherever it stands.
    hub.readers.add("read-alone")
    hub.tokens["read-alone"] = hub.tokens["secret"]
    repository.commit({"models/fraud.yaml": manifest(scaling={"maxReplicas": 9999})})
    before = made["body"]
    refused = act(hub, repository, "plan.yml", "--secret", "GITHUB_TOKEN=read-alone")
    assert refused.returncode == 1
    assert "pull requests from forks never have" in refused.stdout + refused.stderr
    assert "maxReplicas in body should be less than or equal to 1000" in refused.stdout
    assert made["body"] == before

    checked = act(hub, repository, "check.yml")
    assert checked.returncode == 1
    assert "::error file=models/fraud.yaml" in checked.stdout or "models/fraud.yaml" in checked.stdout
    assert not list(repository.folder.rglob("owned"))
    assert not list(repository.folder.with_name("cache").rglob("owned"))
