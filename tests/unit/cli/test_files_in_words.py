"""What is said of files that cannot be read, whole, and which of a folder and of a branch are read at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.cli.base import differing
from slipway.cli.errors import CommandError
from slipway.cli.manifests import check_namespace, documents, files_of, read_all, text_of
from tests.unit.cli.repository import Repository, manifest

API = "slipway.dev/v1alpha1"
ONE = {"apiVersion": API, "kind": "ModelDeployment", "metadata": {"name": "fraud"}}


def refused(document: Any) -> str:
    with pytest.raises(CommandError) as found:
        list(documents("a.yaml", yaml.safe_dump(document)))
    return str(found.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"apiVersion": "slipway.dev/v9"},
            f"a ModelDeployment of apiVersion 'slipway.dev/v9'; this version knows {API}",
        ),
        (
            {"metadata": "fraud"},
            "metadata of a ModelDeployment must be an object with a name, not 'fraud'",
        ),
        ({"metadata": None}, "a ModelDeployment without metadata.name"),
        ({"metadata": {"name": ""}}, "a ModelDeployment without metadata.name"),
        ({"metadata": {"name": 1}}, "a ModelDeployment without metadata.name"),
        (
            {"metadata": {"name": "fraud", "namespace": ""}},
            "metadata.namespace of fraud must be a name",
        ),
        (
            {"metadata": {"name": "fraud", "namespace": 1}},
            "metadata.namespace of fraud must be a name",
        ),
    ],
)
def test_a_resource_that_cannot_be_meant_is_refused_in_full_words(
    changed: dict[str, Any], words: str
) -> None:
    assert refused({**ONE, **changed}) == f"a.yaml: {words}"
    assert refused({"kind": "List", "items": [{**ONE, **changed}]}) == f"a.yaml: {words}"
    assert refused({"kind": "ModelDeploymentList", "items": [{**ONE, **changed}]}) == f"a.yaml: {words}"


def test_other_documents_are_left_aside() -> None:
    text = yaml.safe_dump_all([None, "text", {"kind": "Secret"}, {"kind": "List"}, ONE])
    assert [one.manifest for one in documents("a.yaml", text)] == [ONE]


@pytest.mark.parametrize("text", ["a: [", "a: 2026-13-45", "&a [*a]: b"])
def test_what_is_no_yaml_is_told_with_its_file(text: str) -> None:
    with pytest.raises(CommandError, match=r"^a\.yaml cannot be read: .+"):
        list(documents("a.yaml", text))


def test_a_folder_is_read_by_the_names_of_its_files_and_deeper_only_where_asked(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "d.txt", "in/e.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "folder.yaml").mkdir()

    def found(*, recursive: bool) -> list[str]:
        paths = files_of(str(tmp_path), recursive=recursive)
        return [str(Path(one).relative_to(tmp_path)) for one in paths]

    assert found(recursive=False) == ["a.yml", "b.yaml", "c.json"]
    assert found(recursive=True) == ["a.yml", "b.yaml", "c.json", "in/e.yaml"]
    assert files_of("-", recursive=True) == ["-"]
    assert files_of(str(tmp_path / "d.txt"), recursive=False) == [str(tmp_path / "d.txt")]


def test_standard_input_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("kind: Secret"))
    with pytest.raises(CommandError) as found:
        read_all(["-"], recursive=False)
    assert str(found.value) == f"standard input holds no ModelDeployment of {API}"


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    for name in ("a", "b"):
        with pytest.raises(CommandError) as found:
            text_of(str(tmp_path / name))
        assert str(found.value).startswith(f"{tmp_path / name} cannot be read: ")


@pytest.mark.parametrize(("own", "asked"), [(None, "a"), ("a", None), ("a", "a")])
def test_a_namespace_is_as_it_was_asked_for(own: str | None, asked: str | None) -> None:
    check_namespace("a.yaml", {"metadata": {"name": "fraud", "namespace": own}}, asked)


def test_another_namespace_than_the_one_that_was_asked_for_is_refused() -> None:
    with pytest.raises(CommandError) as found:
        check_namespace("a.yaml", {"metadata": {"name": "fraud", "namespace": "a"}}, "b")
    assert str(found.value) == "a.yaml: fraud is of namespace a, and --namespace is b"


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Where main has two files, and a branch goes on."""
    made = Repository(tmp_path / "repository")
    made.commit({"models/fraud.yaml": manifest(), "models/in/credit.yaml": manifest("credit")})
    made.branch()
    monkeypatch.chdir(made.folder)
    return made


def changed(*paths: str, recursive: bool = True) -> list[tuple[str, bool, bool]]:
    """File of each that differs, and whether it was there and is there."""
    found = differing("main", paths, recursive=recursive)
    return [(one.source, one.before is not None, one.after is not None) for one in found]


def test_what_a_branch_changed_added_moved_or_removed_is_found(branch: Repository) -> None:
    assert changed(".") == []
    branch.commit({"models/fraud.yaml": manifest(scaling={"minReplicas": 3})})
    branch.write({"models/[new].yaml": manifest("new"), "models/a.txt": manifest("text")})
    assert changed("models", recursive=False) == [
        ("models/fraud.yaml", True, True),
        ("models/[new].yaml", False, True),
    ]
    assert changed("models/[new].yaml") == [("models/[new].yaml", False, True)]
    assert changed("models/a.txt") == [("models/a.txt", False, True)], "it was named"
    branch.commit(
        {"models/in/credit.yaml": None, "models/moved.yaml": manifest("credit", card={"owner": "a"})}
    )
    assert ("models/moved.yaml", True, True) in changed(".")
    branch.commit({"models/moved.yaml": None})
    assert ("models/in/credit.yaml", True, False) in changed(".")
    assert changed("models/in") == [("models/in/credit.yaml", True, False)], "the folder is gone"
    assert changed(".", recursive=False) == []


def test_what_git_ignores_is_not_read(branch: Repository) -> None:
    branch.write({".gitignore": "*.local.yaml", "models/a.local.yaml": manifest("local")})
    assert changed(".") == []


def test_what_has_no_base_is_told(branch: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text(manifest())
    refusals = {
        "-": "standard input has no base to be compared with: name files or folders",
        "nowhere.yaml": "nowhere.yaml cannot be read: there is none, nor was there one at the base",
        str(tmp_path / "outside.yaml"): (
            f"{tmp_path / 'outside.yaml'} is not in the repository {branch.folder}, so that it has no base"
        ),
    }
    for path, words in refusals.items():
        with pytest.raises(CommandError) as found:
            changed(path)
        assert str(found.value) == words
    with pytest.raises(CommandError) as found:
        differing("nobody", ["."], recursive=True)
    assert str(found.value).startswith(
        "git finds no commit that 'nobody' and HEAD share: name a branch that is there, and in a workflow "
        "let actions/checkout have the history, by fetch-depth: 0 ("
    )


def test_a_file_that_cannot_be_read_is_an_error_unless_it_is_a_template_or_of_the_base(
    branch: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    branch.commit({"models/fraud.yaml": "kind: ModelDeployment\na: ["})
    with pytest.raises(CommandError, match=r"^models/fraud\.yaml cannot be read: "):
        changed(".")
    branch.commit({"models/fraud.yaml": "kind: ModelDeployment\na: {{ b }}\nc: ["})
    assert changed(".") == [("models/fraud.yaml", True, False)]
    said = capsys.readouterr().err
    assert said.startswith("models/fraud.yaml: left aside as a template is no manifest yet: ")
    branch.git("branch", "--force", "main", "HEAD")
    branch.commit({"models/fraud.yaml": manifest()})
    assert changed(".") == [("models/fraud.yaml", False, True)]
    assert capsys.readouterr().err.startswith("models/fraud.yaml: left aside at the base: ")
    branch.commit({"models/fraud.yaml": f"{manifest()}---\n{manifest()}"})
    with pytest.raises(CommandError) as found:
        changed(".")
    assert str(found.value) == "models/fraud.yaml: fraud is there twice"
