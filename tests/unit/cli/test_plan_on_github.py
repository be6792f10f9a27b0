"""``slipway plan -o github``: one comment on a pull request, over an API as GitHub describes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.main import main
from slipway.cli.markdown import MOST, cell, code, plain
from tests.unit.cli.github_api import BOT, NUMBER, REPOSITORY, GitHub, serving
from tests.unit.cli.repository import Repository, manifest

Plan = Callable[..., int]
PATH = f"/repos/{REPOSITORY}/issues/{NUMBER}/comments"
MARKER = "<!-- slipway plan models -->"


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with serving() as found:
        yield found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Where the branch of a pull request changes fraud."""
    made = Repository(tmp_path / "repository")
    made.commit({"models/fraud.yaml": manifest()})
    made.branch()
    made.commit({"models/fraud.yaml": manifest(model={"uri": "mlflow://fraud@challenger"})})
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    return tmp_path / "summary.md"


@pytest.fixture
def plan(hub: GitHub, repository: Repository, summary: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:  # noqa: ARG001
    """Runs the command as a workflow for a pull request does; gives its exit code."""
    event = summary.with_name("event.json")
    event.write_text(json.dumps({"pull_request": {"number": NUMBER}}))
    for name, value in {
        "GITHUB_API_URL": hub.url,
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_JOB": "models",
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_TOKEN": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    words = ["plan", "--offline", "--base", "main", "-R", "-f", ".", "-o", "github"]
    return lambda *more: main([*words, *more])


def test_one_comment_is_made_and_then_updated(plan: Plan, hub: GitHub, repository: Repository) -> None:
    assert plan() == 0
    [made] = hub.comments
    assert made["body"].startswith(f"{MARKER}\n## Slipway\n")
    assert "a new one, next to the one at the base" in made["body"]
    repository.commit({"models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    assert plan() == 0
    assert hub.comments == [made]
    assert "no pod is restarted" in made["body"]
    assert hub.written == [("POST", PATH), ("PATCH", f"/repos/{REPOSITORY}/issues/comments/{made['id']}")]


def test_a_change_that_was_taken_back_is_told_and_none_gets_no_comment(
    plan: Plan, hub: GitHub, repository: Repository
) -> None:
    plan()
    repository.commit({"models/fraud.yaml": manifest()})
    assert plan() == 0
    [made] = hub.comments
    assert "No ModelDeployment changes" in made["body"]
    hub.comments.clear()
    assert plan() == 0
    assert hub.comments == []


def test_its_own_comment_is_found_among_many_and_nobody_elses_is_written(plan: Plan, hub: GitHub) -> None:
    stolen = hub.add("mallory", f"{MARKER}\nmine")
    for number in range(150):
        hub.add("octocat", f"comment {number}")
    other = hub.add(BOT, "<!-- slipway plan elsewhere -->\nof another job")
    before = [dict(one) for one in hub.comments]
    plan()
    assert hub.comments[:-1] == before
    assert hub.comments[-1]["user"]["login"] == BOT
    plan()
    assert len(hub.comments) == len(before) + 1
    assert [one["body"] for one in (stolen, other)] == [before[0]["body"], before[-1]["body"]]


def test_a_users_token_updates_that_users_comment(
    plan: Plan, hub: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens["personal"] = "release-manager"
    hub.add("mallory", f"{MARKER}\nmine")
    monkeypatch.setenv("GITHUB_TOKEN", "personal")
    plan()
    plan()
    assert [one["user"]["login"] for one in hub.comments] == ["mallory", "release-manager"]


@pytest.mark.parametrize(("scaling", "code"), [({"minReplicas": 3}, 0), ({"maxReplicas": 9999}, 1)])
def test_a_fork_gets_the_summary_and_the_right_exit_code_without_a_comment(
    plan: Plan,
    hub: GitHub,
    repository: Repository,
    summary: Path,
    capsys: pytest.CaptureFixture[str],
    scaling: dict[str, int],
    code: int,
) -> None:
    hub.readers.add("secret")
    repository.commit({"models/fraud.yaml": manifest(scaling=scaling)})
    assert plan() == code
    assert hub.comments == []
    assert summary.read_text().startswith("## Slipway\n")
    assert "payments/fraud" in summary.read_text()
    assert "pull-requests: write, which pull requests from forks never have" in capsys.readouterr().err


def test_without_a_token_or_a_pull_request_github_is_not_asked(
    plan: Plan,
    hub: GitHub,
    summary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "")
    assert plan("--detailed-exitcode") == 3
    assert "GITHUB_TOKEN is not set" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    for event in ("{}", '{"pull_request": null}', "[", "[]"):
        summary.with_name("event.json").write_text(event)
        assert plan() == 0
        assert "this run is for no pull request" in capsys.readouterr().err
    assert hub.asked == []
    assert summary.read_text().count("## Slipway") == 5


@pytest.mark.parametrize("status", [401, 500])
def test_a_github_that_is_unwell_fails_no_plan(
    plan: Plan, hub: GitHub, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    hub.status = status
    assert plan() == 0
    assert f"GitHub answered {status}" in capsys.readouterr().err


def test_a_github_that_is_not_there_fails_no_plan(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    assert plan() == 0
    assert "no comment on the pull request: " in capsys.readouterr().err


def test_a_comment_is_as_long_as_it_may_be_and_says_what_is_left_out(
    plan: Plan, hub: GitHub, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"owner": "o" * 200, "intendedUse": "&" * 2000, "limitations": "l" * 2000}
    repository.write({f"models/m{number}.yaml": manifest(f"m{number}", card=card) for number in range(40)})
    assert plan() == 0
    [made] = hub.comments
    assert 55_000 < len(made["body"]) <= MOST
    assert made["body"].count("<details>") == made["body"].count("</details>") > 5
    assert made["body"].rstrip().endswith("more; the log of the run has all.")
    assert "payments/m39" in capsys.readouterr().out


def test_one_that_is_too_long_alone_is_told_by_its_beginning(
    plan: Plan, hub: GitHub, repository: Repository
) -> None:
    wrong: dict[str, Any] = {f"unknown{number}{'x' * 60}": 1 for number in range(1500)}
    repository.write({"models/fraud.yaml": manifest(**wrong)})
    assert plan() == 1
    [made] = hub.comments
    assert len(made["body"]) < 2000
    assert "**Invalid**" in made["body"]
    assert "Too long to be shown here" in made["body"]


def test_nothing_that_a_pull_request_brings_is_a_command_to_the_runner(
    plan: Plan, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = manifest("x").replace("namespace: payments", 'namespace: "::add-mask::x"')
    repository.write(
        {"models/a\n::error::owned.yaml": evil, "models/b\n::error::owned.yaml": "{{ModelDeployment"}
    )
    plan()
    out, _ = capsys.readouterr()
    first, *rest, last = out.splitlines()
    assert first.startswith("::stop-commands::")
    assert last == f"::{first.removeprefix('::stop-commands::')}::"
    assert any("::add-mask::" in line for line in rest)
    assert last not in rest


def test_markup_mentions_and_references_are_text() -> None:
    assert code("a|b `x`\n<!-- -->") == "`` a|b `x` <!-- --> ``"
    assert cell("a|b") == "`a\\|b`"
    assert code("  ") == ""
    assert plain("<img> @octocat #1 *a* |\nb") == "\\<img\\> @\u200boctocat #\u200b1 \\*a\\* \\| b"
    assert plain("&lt;") == "&amp;lt;"
