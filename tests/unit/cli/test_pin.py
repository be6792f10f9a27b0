"""``slipway pin``: what it writes into files, and what the cluster makes of that.

What stores answer is tried in ``tests/models/test_pinned_files.py``.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from slipway.cli.edits import edited, pinned
from slipway.cli.errors import CommandError
from slipway.cli.main import main
from slipway.cli.parts import parts_of
from slipway.core.resolution import is_pinned
from tests.unit.cli.conftest import SPEC, Run, World
from tests.unit.cli.serving import PLACE, Served
from tests.unit.cli.test_how_it_is_called import HEAVY, imported
from tests.unit.world import NAME, NAMESPACE, resolution

ALIAS = "mlflow://fraud@champion"
FIRST, SECOND = (resolution(number) for number in (1, 2))
HEAD = f"apiVersion: slipway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {NAME}}}\nspec:\n"


@pytest.fixture
async def world() -> World:
    """The alias means version 1, which serves."""
    world = World()
    await world.operator.start()
    world.models[ALIAS] = FIRST
    world.create({"model": {"uri": ALIAS}, **SPEC})
    await world.run(60)
    assert world.status()["stable"]["version"] == "1"
    return world


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As the world's ModelDeployment was applied from."""
    path = tmp_path / "fraud.yaml"
    path.write_text(f"# ours\n{HEAD}  model:\n    uri: {ALIAS}  # follows\n  rollout: {{strategy: Canary}}\n")
    return path


def read(file: Path) -> str:
    return file.read_text()


def write(file: Path, text: str) -> None:
    file.write_text(text)


#: ``spec.model`` as people write it, and as it is pinned; $ stands for the digest.
WRITTEN = {
    "a block": ("\n    uri: %\n    refreshSeconds: 0", "\n    uri: %\n    digest: $\n    refreshSeconds: 0"),
    "quotes": ("\n    uri: '%'", "\n    uri: '%'\n    digest: $"),
    "double quotes": ('\n      uri: "%"', '\n      uri: "%"\n      digest: $'),
    "quoted keys": ('\n    "uri": "%"', '\n    "uri": "%"\n    "digest": "$"'),
    "comments": (
        "  # ours\n    uri: %   # it moves\n    # below",
        "  # ours\n    uri: %   # it moves\n    digest: $\n    # below",
    ),
    "one line": (" { uri: %,refreshSeconds: 0 }", " { uri: %, digest: $,refreshSeconds: 0 }"),
    "JSON": (' {"uri": "%"}', ' {"uri": "%", "digest": "$"}'),
    "JSON on lines": (
        ' {\n      "uri": "%",\n      "refreshSeconds": 0\n    }',
        ' {\n      "uri": "%",\n      "digest": "$",\n      "refreshSeconds": 0\n    }',
    ),
    "an old digest": (
        "\n    digest: sha256:old # of 3\n    uri: %",
        "\n    digest: $ # of 3\n    uri: %",
    ),
    "an empty digest": ("\n    uri: %\n    digest: # none", "\n    uri: %\n    digest: $ # none"),
    "no digest in JSON": (' {"uri": "%", "digest": null}', ' {"uri": "%", "digest": "$"}'),
}


def changed(text: str) -> str:
    """The text with its one model pinned to version 1."""
    [part] = parts_of("fraud.yaml", text)
    return edited(text, pinned(text, part, "mlflow://fraud/1", FIRST.digest))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(("before", "after"), WRITTEN.values(), ids=WRITTEN)
def test_the_uri_and_the_digest_change_where_they_stand_and_nothing_else_does(
    before: str, after: str, line_end: str
) -> None:
    def whole(model: str, uri: str) -> str:
        text = f"# ä\n---\n{HEAD}  model:{model}\n  scaling: {{minReplicas:   2}}\n---\nkind: Other\n"
        return text.replace("%", uri).replace("$", FIRST.digest).replace("\n", line_end)

    assert changed(whole(before, ALIAS)) == whole(after, "mlflow://fraud/1")


def test_line_ends_are_kept_in_a_file(file: Path, run: Run) -> None:
    file.write_bytes(f"{HEAD}  model:\n    uri: {ALIAS}\n".replace("\n", "\r\n").encode())
    assert run("pin", str(file), "--from-cluster") == 0
    new = f"{HEAD}  model:\n    uri: mlflow://fraud/1\n    digest: {FIRST.digest}\n"
    assert file.read_bytes() == new.replace("\n", "\r\n").encode()


def test_a_file_without_a_last_line_end_stays_without() -> None:
    new = f"{HEAD}  model:\n    uri: mlflow://fraud/1\n    digest: {FIRST.digest}"
    assert changed(f"{HEAD}  model:\n    uri: {ALIAS}") == new


def test_what_needs_quotes_gets_them() -> None:
    text = f"{HEAD}  model: {{uri: {ALIAS}}}\n"
    [part] = parts_of("fraud.yaml", text)
    for uri in ("https://a.example/b c", "https://a.example/a,b", "https://a.example/b:", "it's"):
        [again] = parts_of("", edited(text, pinned(text, part, uri, FIRST.digest)))
        assert again.value["spec"]["model"] == {"uri": uri, "digest": FIRST.digest}


#: What cannot be changed where it stands.
ELSEWHERE = {
    "an anchor": f"  model:\n    uri: &here {ALIAS}\n",
    "an alias": f"  runtime: {{image: &one '{ALIAS}'}}\n  model: {{uri: *one}}\n",
    "a merge": f"  model: {{<<: {{uri: '{ALIAS}'}}}}\n",
    "several lines": f"  model:\n    uri: >-\n      {ALIAS}\n",
    "a broken line": '  model:\n    uri: "mlflow://\\\n      fraud@champion"\n',
    "a shared model": f"  card: &all {{uri: '{ALIAS}'}}\n  model: *all\n",
}


@pytest.mark.parametrize("spec", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_does_not_stand_in_one_place_is_refused_with_its_line(spec: str) -> None:
    with pytest.raises(CommandError, match=r"fraud[.]yaml:[0-9]: .*stands: write it out, in one line"):
        changed(HEAD + spec)


def test_the_line_is_that_of_the_field() -> None:
    with pytest.raises(CommandError, match=r"fraud[.]yaml:6: spec[.]model[.]uri of fraud is written by"):
        changed(HEAD + ELSEWHERE["an anchor"])


def test_a_field_that_is_there_twice_is_refused(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{HEAD}  model:\n    uri: mlflow://other@x\n    uri: {ALIAS}\n"
    file.write_text(text)
    assert run("pin", str(file), "--from-cluster") == 1
    assert f"{file}: {NAME}: spec.model has a field twice" in capsys.readouterr().err
    assert file.read_text() == text


def test_each_of_several_documents_is_pinned_and_told_and_other_kinds_are_left(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    done = f"{HEAD}  model: {{uri: mlflow://fraud/3, digest: {SECOND.digest}}}\n".replace(NAME, "old", 1)
    item = json.dumps({**yaml.safe_load(HEAD), "spec": {"model": {"uri": ALIAS}}})
    text = f"{file.read_text()}---\nkind: Secret\nmodel: {{uri: {ALIAS}}}\n---\n{done}---\n"
    text += f'{{"kind": "List", "items": [{item}]}}\n'
    file.write_text(text)
    assert run("pin", str(file), "--from-cluster") == 0
    new = f"mlflow://fraud/1, {FIRST.digest}"
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: {NAME}: {ALIAS} is now {new}",
        f"{file}: old: mlflow://fraud/3 is pinned",
        f"{file}: {NAME}: {ALIAS} is now {new}",
    ]
    secret, rest = file.read_text().split("kind: Secret\n")
    assert secret.count("mlflow://fraud/1") == 1
    assert rest.startswith(f"model: {{uri: {ALIAS}}}\n---\n{done}---\n")
    [*_, many] = yaml.safe_load_all(file.read_text())
    assert many["items"][0]["spec"]["model"] == {"uri": "mlflow://fraud/1", "digest": FIRST.digest}


async def test_nothing_changes_in_the_cluster_by_applying_what_is_pinned(
    world: World, file: Path, run: Run
) -> None:
    before = world.status()
    assert run("pin", str(file), "--from-cluster") == 0
    world.create({"model": yaml.safe_load(read(file))["spec"]["model"], **SPEC})
    await world.run(60)
    assert world.status()["stable"] == before["stable"]
    assert "canary" not in world.status()
    world.models[ALIAS] = SECOND
    await world.run(120)
    assert world.status()["stable"] == before["stable"], "it follows nothing any more"


async def test_a_version_that_was_rejected_is_not_pinned_but_what_serves(
    world: World, file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    world.models[ALIAS] = SECOND
    await world.run(120)
    assert run("pin", str(file), "--from-cluster", "--check") == 1
    said = capsys.readouterr().err
    assert f"warning: {NAMESPACE}/{NAME}: version 2 is on its way; pinned is version 1, which serves" in said
    assert run("abort", NAME) == 0
    await world.run(120)
    assert world.status()["model"]["version"] == "2"
    capsys.readouterr()
    assert run("pin", str(file), "--from-cluster") == 0
    assert "uri: mlflow://fraud/1  # follows" in read(file)
    assert capsys.readouterr().err == ""


async def test_what_does_not_serve_yet_is_not_pinned(
    world: World, file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read(file).replace(ALIAS, "mlflow://fraud/2")
    write(file, text)
    world.create({"model": {"uri": "mlflow://fraud/2"}, **SPEC})
    for seconds in (0, 60):
        await world.run(seconds)
        assert run("pin", str(file), "--from-cluster") == 1
        said = capsys.readouterr().err
        assert "what its spec asks for does not serve in the cluster yet" in said
        assert f"kubectl slipway status {NAME} -n {NAMESPACE} --wait" in said
    assert read(file) == text
    assert run("promote-full", NAME) == 0
    await world.run(120)
    capsys.readouterr()
    assert run("pin", str(file), "--from-cluster") == 0
    assert capsys.readouterr().out == f"{file}: {NAME}: mlflow://fraud/2 now has the digest {SECOND.digest}\n"


def test_a_file_that_was_not_applied_is_not_pinned(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text().replace("champion", "challenger"))
    assert run("pin", str(file), "--from-cluster") == 1
    assert f"the cluster has another spec.model.uri, {ALIAS}: apply the file first" in capsys.readouterr().err


def test_another_namespace_and_a_status_that_cannot_be_read_are_refused(
    world: World, cluster: Served, file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text().replace(f"name: {NAME}", f"name: {NAME}, namespace: other"))
    assert run("pin", str(file), "--from-cluster", "-n", NAMESPACE) == 1
    assert f"{NAME} is of namespace other, and --namespace is {NAMESPACE}" in capsys.readouterr().err
    missing = json.dumps({"kind": "Status", "message": "not found"}).encode()
    cluster.answer = lambda _, path: (404, "application/json", missing) if "/other/" in path else None
    assert run("pin", str(file), "--from-cluster") == 1
    assert f"there is no ModelDeployment other/{NAME}" in capsys.readouterr().err
    file.write_text(file.read_text().replace("other", NAMESPACE))
    world.kube.find(*PLACE)["status"]["stable"] = 7
    assert run("pin", str(file), "--from-cluster") == 1
    assert f"{NAMESPACE}/{NAME}: status.stable: " in capsys.readouterr().err


def test_a_check_writes_nothing_and_tells_by_its_exit_code(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text()
    assert run("pin", str(file), "--from-cluster", "--check") == 1
    assert capsys.readouterr().out == (f"{file}: {NAME}: {ALIAS} would be mlflow://fraud/1, {FIRST.digest}\n")
    assert file.read_text() == before
    assert run("pin", str(file), "--from-cluster") == 0
    assert run("pin", str(file), "--from-cluster", "--check") == 0


def test_what_is_pinned_asks_nobody(
    file: Path, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pin", str(file), "--from-cluster") == 0
    text = file.read_text()
    cluster.asked.clear()
    capsys.readouterr()
    assert run("pin", str(file), "--check", "--from-cluster") == 0
    assert main(["pin", str(file)]) == 0
    assert capsys.readouterr().out == 2 * f"{file}: {NAME}: mlflow://fraud/1 is pinned\n"
    assert (cluster.asked, file.read_text()) == ([], text)
    assert imported("pin", "--check", str(file)) & (HEAVY | {"httpx", "obstore"}) == set()


def test_a_difference_is_shown_as_one_and_not_written(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_text()
    assert run("pin", str(file), "--from-cluster", "--diff") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == [f"--- {file}", f"+++ {file}"]
    assert [line for line in said.out.splitlines()[2:] if line[0] in "+-"] == [
        f"-    uri: {ALIAS}  # follows",
        "+    uri: mlflow://fraud/1  # follows",
        f"+    digest: {FIRST.digest}",
    ]
    assert said.err == ""
    assert file.read_text() == before
    assert run("pin", str(file), "--from-cluster", "--diff", "--check") == 1
    file.write_text(before.rstrip("\n"))
    assert run("pin", str(file), "--from-cluster", "--diff") == 0
    assert "\\ No newline at end of file\n" in capsys.readouterr().out


def test_what_was_and_what_is_are_told_to_programs(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("pin", str(file), "--from-cluster", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    [one] = told.pop("items")
    assert told == {"apiVersion": "v1", "kind": "List"}
    after = {"uri": "mlflow://fraud/1", "digest": FIRST.digest}
    before = {"uri": ALIAS, "digest": None}
    shown = {"metadata": {"name": NAME}, "source": str(file), "changed": True}
    assert one == {**shown, "before": before, "after": after}
    assert run("pin", str(file), "--from-cluster", "-o", "yaml") == 0
    told = yaml.safe_load(capsys.readouterr().out)
    [one] = told.pop("items")
    assert told == {"apiVersion": "v1", "kind": "List"}
    assert one == {**shown, "before": after, "after": after, "changed": False}
    assert run("pin", str(file), "--from-cluster", "-o", "name") == 0
    assert capsys.readouterr().out == f"modeldeployment.slipway.dev/{NAME}\n"


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let standard input be a text."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_standard_input_goes_to_standard_output_pinned(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text()
    feed(monkeypatch, text)
    assert run("pin", "-", "--from-cluster") == 0
    said = capsys.readouterr()
    assert said.out == text.replace(
        f"{ALIAS}  # follows", f"mlflow://fraud/1  # follows\n    digest: {FIRST.digest}"
    )
    assert said.err.startswith(f"standard input: {NAME}: {ALIAS} is now mlflow://fraud/1")
    feed(monkeypatch, text)
    assert run("pin", "-", "--from-cluster", "--check", "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)["items"][0]["source"] == "standard input"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-", "-o", "json"), "give -o with --check, or files"),
        (("x.yaml", "--diff", "-o", "json"), "--diff and -o both go to standard output"),
        (("none.yaml",), "none.yaml cannot be read"),
    ],
)
def test_what_cannot_be_asked_together_is_refused(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", *words]) == 1
    assert says in capsys.readouterr().err


def test_a_folder_has_much_that_is_not_pinned(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file.parent / "models"
    (folder / "within").mkdir(parents=True)
    (folder / "within/fraud.yaml").write_text(file.read_text())
    (folder / "notes.yaml").write_text("a: [1")
    (folder / "template.yaml").write_text("{{ if .x }}\nkind: ModelDeployment\n{{ end }}\n")
    (folder / "patch.yaml").write_text(HEAD + "  scaling: {minReplicas: 3}\n")
    assert run("pin", str(folder), "--from-cluster") == 1
    said = capsys.readouterr().err
    assert f"{folder} holds no ModelDeployment of slipway.dev/v1alpha1 with a model" in said
    assert "template.yaml: left aside, as a template is no manifest yet" in said
    assert run("pin", "-R", str(folder), "--from-cluster") == 0
    assert "mlflow://fraud/1" in (folder / "within/fraud.yaml").read_text()
    assert run("pin", str(folder / "template.yaml"), "--from-cluster") == 1
    assert "cannot be read" in capsys.readouterr().err


def test_nothing_is_written_unless_everything_can_be(file: Path, run: Run) -> None:
    before = file.read_text()
    other = file.with_name("other.yaml")
    other.write_text(before.replace(NAME, "other"))
    assert run("pin", str(file), str(other), "--from-cluster") == 1
    assert file.read_text() == before


def test_a_file_that_cannot_be_written_is_named(
    file: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may write any file but one that is sealed.
    sealed = os.memfd_create("fraud", os.MFD_ALLOW_SEALING)
    os.write(sealed, file.read_bytes())
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    path = Path(f"/proc/self/fd/{sealed}")
    assert run("pin", str(path), "--from-cluster") == 1
    assert f"{path} cannot be written: Operation not permitted" in capsys.readouterr().err
    assert path.read_bytes() == file.read_bytes()
    os.close(sealed)


@pytest.mark.parametrize(
    ("uri", "is_one"),
    [
        (ALIAS, False),
        ("mlflow://fraud/7", True),
        ("oci://ghcr.io/shop/fraud:v7", False),
        ("oci://ghcr.io/shop/fraud", False),
        (f"oci://ghcr.io/shop/fraud@sha256:{'a' * 64}", True),
        ("dvc://github.com/shop/models/fraud.onnx@main", False),
        (f"dvc://github.com/shop/models/fraud.onnx@{'a' * 40}", True),
        ("dvc://github.com/shop/models?artifact=fraud&version=1.2.3", False),
        ("s3://models/fraud.onnx", False),
        ("s3://models/fraud.onnx?versionId=7", True),
        ("gs://models/fraud.onnx", False),
        ("gs://models/fraud.onnx#7", True),
        ("az://lake/models/fraud.onnx", True),
        ("https://a.example/fraud.onnx", True),
        ("pvc://models/fraud.onnx", True),
    ],
)
def test_a_uri_says_by_its_form_whether_it_is_a_pin(uri: str, is_one: bool) -> None:
    assert is_pinned(uri) is is_one


def test_a_volume_and_a_spec_that_cannot_be_read_have_a_next_step(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for uri, more, says in (
        ("pvc://claim/model.onnx", "", "is on a volume of the cluster: give --from-cluster"),
        (ALIAS, "  scaling: 7\n", "spec.scaling: "),
    ):
        file.write_text(f"{HEAD}  model: {{uri: '{uri}'}}\n{more}")
        assert main(["pin", str(file)]) == 1
        assert f"error: {file}: {NAME}: " in (said := capsys.readouterr().err)
        assert says in said


def test_an_extra_that_is_not_installed_is_named(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("slipway.local.looked_up", "slipway.models.mlflow", "httpx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert main(["pin", str(file)]) == 1
    said = capsys.readouterr().err
    assert "httpx is not installed: pip install 'slipway-serving[serve]', or take what serves" in said
