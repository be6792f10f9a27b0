"""``slipway plan --base``: what a branch changes, by git, told by the operator's own plan."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from tests.unit.cli.conftest import Run, version
from tests.unit.cli.repository import Repository, manifest
from tests.unit.cli.serving import Served
from tests.unit.world import NAME, World


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Where main has fraud and old, and the branch work begins."""
    made = Repository(tmp_path / "repository")
    made.commit({"models/fraud.yaml": manifest(), "models/old.yaml": manifest("old"), "notes.yaml": "a: [1"})
    made.branch()
    monkeypatch.chdir(made.folder)
    return made


def plans(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    """By name, what is planned without a cluster."""
    capsys.readouterr()
    main(["plan", "--offline", "--base", "main", "-R", "-f", ".", "-o", "json", *words])
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)["items"]}


def test_only_what_the_branch_changes_is_planned(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    repository.write({"models/new.yaml": manifest("new")})
    assert set(plans(capsys)) == {"fraud", "new"}
    assert main(["plan", "--offline", "--base", "main", "-f", "models/old.yaml"]) == 0
    assert "no ModelDeployment differs from main" in capsys.readouterr().err


def test_what_main_got_since_is_none_of_the_branchs(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    repository.git("switch", "--quiet", "main")
    repository.commit({"models/old.yaml": manifest("old", scaling={"minReplicas": 9})})
    repository.git("switch", "--quiet", "work")
    assert set(plans(capsys)) == {"fraud"}


def test_a_comment_in_a_file_changes_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"models/fraud.yaml": f"# explained\n{manifest()}"})
    assert plans(capsys) == {}


def test_the_base_is_taken_to_be_what_serves(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write({"models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    found = plans(capsys)["fraud"]
    assert (found["newRevision"], found["revision"]) == (
        False,
        "the one at the base stays: no pod is restarted",
    )
    changed = {one["kind"]: one["fields"] for one in found["changes"] if one["verb"] != "unchanged"}
    assert changed.pop("HorizontalPodAutoscaler") == ["spec.minReplicas"]
    assert changed.keys() == {"PodDisruptionBudget"}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"uri": "mlflow://fraud@challenger"}},
        {"model": {"uri": "mlflow://fraud@champion", "digest": f"sha256:{'a' * 64}"}},
        {"runtime": {"resources": {"requests": {"cpu": "2"}}}},
    ],
    ids=["another-model", "a-pinned-digest", "other-pods"],
)
def test_what_pods_differ_in_is_a_new_revision_with_the_steps_of_its_rollout(
    repository: Repository, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    repository.write({"models/fraud.yaml": manifest(**change)})
    found = plans(capsys)["fraud"]
    assert found["newRevision"]
    assert found["revision"] == "a new one, next to the one at the base"
    assert found["steps"][0] == "10% of the traffic"
    verbs = {(one["kind"], one["name"]): one["verb"] for one in found["changes"]}
    assert verbs["Deployment", "fraud-REVISION"] == "create"
    assert verbs["Deployment", "fraud-STABLE"] == "unchanged"


def test_a_digest_that_is_pinned_is_told(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    digest = f"sha256:{'a' * 64}"
    repository.write({"models/fraud.yaml": manifest(model={"uri": "mlflow://fraud/2", "digest": digest})})
    assert f"it must have the digest {digest}" in plans(capsys)["fraud"]["model"]


def test_one_that_no_file_has_any_more_is_removed(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"models/old.yaml": None})
    found = plans(capsys)["old"]
    assert "no file has it any more" in found["removed"]
    words = ["plan", "--offline", "--base", "main", "-R", "-f", "models", "--detailed-exitcode"]
    assert main(words) == 3


def test_a_file_that_moved_is_the_same_one(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"models/old.yaml": None, "models/within/old.yaml": manifest("old")})
    assert plans(capsys) == {}
    repository.write({"models/within/old.yaml": manifest("old", scaling={"minReplicas": 3})})
    found = plans(capsys)["old"]
    assert (found["removed"], found["newRevision"]) == ("", False)


def test_the_same_name_for_two_clusters_is_two(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write({"test/fraud.yaml": manifest(), "live/fraud.yaml": manifest()})
    capsys.readouterr()
    assert main(["plan", "--offline", "--base", "main", "-R", "-f", ".", "-o", "name"]) == 0
    assert capsys.readouterr().out.count("fraud") == 2


def test_folders_within_are_left_aside_unless_asked(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write({"models/within/new.yaml": manifest("new"), "models/new.txt": manifest("text")})
    words = ["plan", "--offline", "--base", "main", "-f", "models", "-o", "name"]
    assert (main(words), capsys.readouterr().out) == (0, "")
    assert (main([*words, "-R"]), capsys.readouterr().out.strip()) == (0, "modeldeployment.slipway.dev/new")


def test_a_name_that_a_shell_would_run_is_a_name(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "models/$(touch owned)`touch owned`;'\" \n*.yaml"
    repository.commit({name: manifest("odd")})
    assert set(plans(capsys)) == {"odd"}
    assert not (repository.folder / "owned").exists()


def test_templates_are_left_aside_and_what_is_no_yaml_refused(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write({"models/t.yaml": "{{ if .x }}\nkind: ModelDeployment\n{{ end }}\n"})
    assert main(["plan", "--offline", "--base", "main", "-R", "-f", "."]) == 0
    assert "models/t.yaml: left aside as a template is no manifest yet" in capsys.readouterr().err
    repository.write({"models/t.yaml": "kind: ModelDeployment\n  bad: ["})
    assert main(["plan", "--offline", "--base", "main", "-R", "-f", "."]) == 1
    assert "models/t.yaml cannot be read" in capsys.readouterr().err


def test_what_was_no_yaml_at_the_base_is_as_good_as_new(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("switch", "--quiet", "main")
    repository.commit({"models/bad.yaml": "kind: ModelDeployment\n  bad: ["})
    repository.branch("later")
    repository.write({"models/bad.yaml": manifest("bad")})
    assert plans(capsys)["bad"]["revision"].startswith("the first one")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--base", "nowhere", "-f", "models"], "fetch-depth: 0"),
        (["--base", "--upload-pack=x", "-f", "models"], "git finds no commit"),
        (["--base", "main", "-f", "-"], "standard input has no base"),
        (["--base", "main", "-f", "/"], "is not in the repository"),
        (["--base", "main", "-f", "nowhere.yaml"], "there is none, nor was there one at the base"),
    ],
)
def test_what_has_no_base_is_refused_with_a_next_step(
    repository: Repository,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert main(["plan", "--offline", f"--base={words[1]}", *words[2:]]) == 1
    assert said in capsys.readouterr().err


def test_without_a_repository_or_git_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert main(["plan", "--offline", "--base", "main", "-f", "."]) == 1
    assert "not a git repository" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("git", path=os.environ["PATH"]) is None
    assert main(["plan", "--offline", "--base", "main", "-f", "."]) == 1
    assert "--base needs git" in capsys.readouterr().err


def test_with_a_cluster_what_serves_is_the_clusters(
    repository: Repository, run: Run, world: World, cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert NAME == "fraud"
    repository.commit({"models/fraud.yaml": manifest(**version(3))})
    assert run("plan", "--base", "main", "-R", "-f", ".", "-o", "markdown") == 0
    out = capsys.readouterr().out
    assert "compared with what is in the cluster, and what main has" in out
    stable = world.status()["stable"]
    assert f"next to {stable['revision']} with version 1" in out
    assert f"| **Digest** | `{stable['digest']}` |  |" in out
    assert "1. 20% of the traffic\n2. wait for approval\n" in out
    repository.commit({"models/fraud.yaml": None})
    assert run("plan", "--base", "main", "-R", "-f", ".", "--offline") == 0
    assert cluster.asked


def test_a_comment_tells_of_the_device_that_a_branch_chooses(
    repository: Repository, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}}
    repository.commit({"models/fraud.yaml": manifest(runtime=runtime)})
    assert run("plan", "--offline", "--base", "main", "-R", "-f", ".", "-o", "markdown") == 0
    told = "**Device**: CUDA, with nvidia.com/gpu: 1, by the installation's CUDA image; CPU before."
    assert told in capsys.readouterr().out
