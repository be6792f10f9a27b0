"""``slipway check``: faults by file and line, in the forms that pull requests and editors read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from e2e import snippets
from e2e.tests.schema_cases import with_value
from slipway.cli.main import main
from slipway.cli.markdown import MOST
from tests.unit.cli.test_schema_without_a_cluster import OF_SPEC, example

ROOT = Path(__file__).parents[3]
ACTION = ROOT / ".github" / "actions" / "check" / "action.yml"
BAD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
# A comment, and a document that is somebody else's before it.
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: fraud
spec:
  model:
    uri: mlflow://fraud@champion
  scaling:
    maxReplicas: 9999
"""


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["check", *words])
    return code, capsys.readouterr().out


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "fraud.yaml"
    path.parent.mkdir()
    path.write_text(BAD)
    return path


def test_a_fault_is_told_with_its_file_line_and_column(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(capsys, str(bad))
    assert code == 1
    assert f"{bad}:14:5: spec.scaling.maxReplicas: Invalid value: 9999: " in out


@pytest.mark.parametrize("case", OF_SPEC[::7], ids=str)
def test_what_the_api_server_refuses_is_refused_in_its_words(
    case: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {key: part for key, part in example(case.place).items() if key != "status"}  # type: ignore[attr-defined]
    path = tmp_path / "made.yaml"
    path.write_text(yaml.safe_dump(with_value(case.place, case.accepts, whole)))  # type: ignore[attr-defined]
    assert check(capsys, str(path)) == (0, "")
    path.write_text(yaml.safe_dump(with_value(case.place, case.refuses, whole)))  # type: ignore[attr-defined]
    code, out = check(capsys, str(path))
    assert code == 1
    assert case.says in out  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("kind: ModelDeployment\napiVersion: slipway.dev/v9\n", "2:1", "this version knows"),
        (
            "kind: ModelDeployment\napiVersion: slipway.dev/v1alpha1\nspec: {}\n",
            "1:1",
            "metadata.name: Required value\n",
        ),
        ("kind: ModelDeployment\n  bad: [\n", "2:6", "no YAML"),
        (
            BAD.replace("maxReplicas: 9999", "maxReplica: 5"),
            "14:5",
            'unknown field "spec.scaling.maxReplica"',
        ),
        (
            BAD.replace("    uri: mlflow://fraud@champion", "    refreshSeconds: 5"),
            "11:3",
            "spec.model.uri: Required",
        ),
        (
            f"{BAD.replace(': 9999', ': 3')}---\n{BAD.replace(': 9999', ': 3')}",
            "24:3",
            "is in this file twice",
        ),
    ],
)
def test_a_fault_that_has_no_field_is_told_at_the_nearest_one(
    text: str, place: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made.yaml"
    path.write_text(text)
    code, out = check(capsys, str(path))
    assert code == 1
    assert out.startswith(f"{path}:{place}: ")
    assert words in out


def test_items_of_a_list_and_a_flow_of_json_have_lines_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, item = yaml.safe_load_all(BAD)
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [item]}, indent=1))
    code, out = check(capsys, str(path))
    assert code == 1
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "maxReplicas" in text)
    assert out.startswith(f"{path}:{line}:")


def test_a_folder_is_read_without_what_is_no_manifest(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bad.parent / "chart.yaml").write_text("{{ if .Values.x }}\nkind: ModelDeployment\n{{ end }}\n")
    (bad.parent / "other.yaml").write_text("a: [1\n")
    (bad.parent / "notes.txt").write_text("ModelDeployment: [")
    (bad.parent / "within").mkdir()
    (bad.parent / "within" / "good.yaml").write_text(BAD.replace(": 9999", ": 3"))
    assert main(["check", "-R", str(bad.parent)]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "chart.yaml: left aside" in err
    assert "2 ModelDeployments in 4 files, 1 faults" in err
    bad.unlink()
    assert check(capsys, "-R", str(bad.parent)) == (0, "")


def test_a_path_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.yaml"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_json_and_sarif_say_the_same(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [plain] = json.loads(check(capsys, str(bad), "--format", "json")[1])
    assert (plain["file"], plain["line"], plain["name"]) == (str(bad), 14, "fraud")
    sarif = json.loads(check(capsys, str(bad), "--format", "sarif")[1])
    assert sarif["version"] == "2.1.0"
    [run] = sarif["runs"]
    [result] = run["results"]
    assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert result["message"]["text"] == plain["message"]
    [location] = result["locations"]
    assert location["physicalLocation"]["region"] == {"startLine": 14, "startColumn": 5}
    (bad.parent / "fine.yaml").write_text(BAD.replace(": 9999", ": 3"))
    assert json.loads(check(capsys, str(bad.parent / "fine.yaml"), "--format", "json")[1]) == []


def test_annotations_escape_what_would_end_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a,b:c%.yaml"
    path.write_text(BAD.replace("maxReplicas: 9999", '"x\\n::warning::y%": 1'))
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    _, out = check(capsys, str(path), "--format", "github")
    [line] = out.splitlines()
    assert line.startswith(
        f"::error file={tmp_path}/a%2Cb%3Ac%25.yaml,line=14,col=5,title=fraud::unknown field"
    )
    assert line.count("\n") == 0
    assert "%0A" in line
    assert "y%25" in line
    assert "1 ModelDeployments, 1 faults" in summary.read_text()


def many(count: int) -> str:
    return "---\n".join(BAD.replace("name: fraud", f"name: m{number}") for number in range(count))


def test_github_is_given_as_many_annotations_as_it_shows_of_a_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten; and of a run 50, so that five such steps are seen whole."""
    path, summary = tmp_path / "many.yaml", tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    path.write_text(many(10))
    _, out = check(capsys, str(path), "--format", "github")
    assert [line.partition(",")[0] for line in out.splitlines()] == [f"::error file={path}"] * 10
    path.write_text(many(12))
    status, out = check(capsys, str(path), "--format", "github")
    lines = out.splitlines()
    assert status == 1
    assert [",title=m8::" in lines[8], len([line for line in lines if line.startswith("::error ")])] == [
        True,
        10,
    ]
    told = "and 3 more faults, in 1 files: the log of this step has them, and the run's summary"
    assert lines[9] == f"::error title=slipway check::{told}"
    stopped = lines[10].removeprefix("::stop-commands::")
    assert stopped != lines[10]
    assert [line.partition(":")[0] for line in lines[11:-1]] == [str(path)] * 3
    assert lines[-1] == f"::{stopped}::", "what comes after may give commands again"
    assert summary.read_text().count("Invalid value: 9999") == 10 + 12


def test_a_fault_beyond_the_annotations_is_no_command_to_the_runner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made.yaml"
    evil = BAD.replace("maxReplicas: 9999", '"x\\n::set-env name=A::b": 1').replace("name: fraud", "name: z")
    path.write_text(f"{many(10)}---\n{evil}")
    lines = check(capsys, str(path), "--format", "github")[1].splitlines()
    [given] = [number for number, line in enumerate(lines) if line.startswith("::set-env")]
    [stopped] = [number for number, line in enumerate(lines) if line.startswith("::stop-commands::")]
    assert stopped < given < len(lines) - 1


def test_a_long_summary_is_cut_below_what_a_comment_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, summary = tmp_path / "many.yaml", tmp_path / "summary.md"
    path.write_text(many(900))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert check(capsys, str(path), "--format", "github")[0] == 1
    text = summary.read_text()
    assert 60_000 < len(text) <= MOST
    assert text.rstrip().endswith("more.")


@pytest.mark.parametrize(("more", "told"), [(0, 2), (-1, 1)])
def test_a_summary_is_as_long_as_it_may_be_and_no_longer(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: int,
    told: int,
) -> None:
    path, summary = tmp_path / "many.yaml", tmp_path / "summary.md"
    path.write_text(many(2))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    check(capsys, str(path), "--format", "github")
    # Before the last row there has to be room for it, or for the line that tells of it.
    most = len(summary.read_text()) + len("\n… and 1 more.\n")
    summary.unlink()
    monkeypatch.setattr("slipway.cli.check.MOST", most + more)
    check(capsys, str(path), "--format", "github")
    rows = [line for line in summary.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == told


def test_markup_in_a_summary_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, summary = tmp_path / "made.yaml", tmp_path / "summary.md"
    path.write_text(BAD.replace("maxReplicas: 9999", '"<img src=x>|`![a](b)": 1'))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    check(capsys, str(path), "--format", "github")
    assert "\\<img src=x\\>\\|\\`!\\[a\\](b)" in summary.read_text()


def steps() -> dict[str, str]:
    return {step["name"]: step["run"] for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]}


def test_the_action_checks_what_it_is_given_and_takes_no_input_into_its_script(
    bad: Path, tmp_path: Path
) -> None:
    assert "${{" not in "".join(steps().values())
    runner = tmp_path / "runner"
    (runner / "slipway" / "bin").mkdir(parents=True)
    (runner / "slipway" / "bin" / "slipway").symlink_to(Path(sys.executable).parent / "slipway")
    environment = {
        **os.environ,
        "RUNNER_TEMP": str(runner),
        "PATHS": f"{bad.parent}\n\n$(touch {tmp_path}/owned)\n",
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()["Check"]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert not (tmp_path / "owned").exists()
    environment["PATHS"] = str(bad.parent)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps()["Check"]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(f"::error file={bad},line=14,col=5,title=fraud::")


def test_the_pages_workflows_and_hook_name_what_is_there() -> None:
    *workflows, hooks = (
        yaml.safe_load(block.text) for block in snippets.blocks("docs/github.md") if block.language == "yaml"
    )
    assert len(workflows) == 2
    for workflow in workflows:
        [*_, step] = workflow["jobs"]["models"]["steps"]
        place = ROOT / step["uses"].partition("@")[0].removeprefix("OWNER/slipway/") / "action.yml"
        assert step["with"].keys() <= yaml.safe_load(place.read_text())["inputs"].keys()
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hooks["repos"][0]["hooks"] == [{"id": hook["id"]}]


def test_the_page_shows_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [typed] = [one for one in snippets.commands("docs/github.md") if one.program == "slipway"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fraud.yaml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    code, out = check(capsys, *typed.text.split()[2:])
    assert (code, out.strip()) == (1, typed.output.strip())


def test_the_hook_runs_this_command() -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == "slipway check"
    assert hook["additional_dependencies"] == [".[cli]"]
