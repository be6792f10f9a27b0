"""``slipway plan``: from where it reads, what it refuses, and what its exit code says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.cli.main import main
from slipway.names import API_VERSION, KIND
from tests.unit.cli.conftest import Run, version
from tests.unit.cli.serving import PLACE, RESOURCE, Served
from tests.unit.world import NAME, NAMESPACE, World

COLLECTION = RESOURCE.rpartition("/")[0]


def manifest(name: str = "fraud", namespace: str | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": meta,
        "spec": {"model": {"uri": "mlflow://fraud@champion"}, **spec},
    }


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes objects into one file, as YAML documents; gives its path."""

    def write(*documents: Any, name: str = "models.yaml") -> str:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)

    return write


def offline(*words: str) -> int:
    return main(["plan", "--offline", *words])


def planned(said: str) -> list[str]:
    return [line for line in said.splitlines() if not line.startswith(" ")]


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}


def test_documents_and_lists_are_read_and_others_left_aside(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"apiVersion": API_VERSION, "kind": f"{KIND}List", "items": [manifest("d")]}
    many = {"apiVersion": "v1", "kind": "List", "items": [SERVICE, manifest("b", "other"), own, "text"]}
    assert offline("-f", write(None, SERVICE, manifest("a"), many, manifest("c"))) == 0
    assert planned(capsys.readouterr().out) == ["default/a", "other/b", "default/d", "default/c"]


def test_standard_input_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(manifest("a"))))
    assert offline("-f", "-", "-f", write(manifest("b"))) == 0
    assert planned(capsys.readouterr().out) == ["default/a", "default/b"]
    monkeypatch.setattr("sys.stdin", io.StringIO("kind: Service"))
    assert offline("-f", "-") == 1
    assert f"standard input holds no {KIND} of {API_VERSION}" in capsys.readouterr().err


def test_a_folder_is_read_and_its_subfolders_if_asked(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(manifest("b"), name="b.yml")
    write(manifest("a"), name="a.json")
    write("no manifest", name="notes.txt")
    write(manifest("c"), name="deeper/c.yaml")
    folder = str(tmp_path / "files")
    assert offline("-f", folder) == 0
    assert planned(capsys.readouterr().out) == ["default/a", "default/b"]
    assert offline("-R", "-f", folder) == 0
    assert planned(capsys.readouterr().out) == ["default/a", "default/b", "default/c"]


@pytest.mark.parametrize(
    ("documents", "words", "says"),
    [
        ([manifest("a"), manifest("a")], (), "a is there twice"),
        ([manifest("a", "one")], ("-n", "two"), "a is of namespace one, and --namespace is two"),
        (
            [{**manifest("a"), "apiVersion": "slipway.dev/v9"}],
            (),
            "apiVersion 'slipway.dev/v9'; this version knows",
        ),
        ([manifest("a", 7)], (), "metadata.namespace of a must be a name"),  # type: ignore[arg-type]
        ([SERVICE], (), "holds no ModelDeployment"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    write: Write, capsys: pytest.CaptureFixture[str], documents: list[Any], words: tuple[str, ...], says: str
) -> None:
    assert offline(*words, "-f", write(*documents)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err


def test_one_name_in_two_namespaces_is_two(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline("-f", write(manifest("a", "one"), manifest("a", "two"))) == 0
    assert planned(capsys.readouterr().out) == ["one/a", "two/a"]
    assert offline("-n", "one", "-f", write(manifest("a", "one"), manifest("b"))) == 0
    assert planned(capsys.readouterr().out) == ["one/a", "one/b"]


@pytest.mark.parametrize("text", ["a: [", "a: 2001-99-99", "x: &x [*x]"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert offline("-f", str(path)) == 1
    assert capsys.readouterr().err.startswith("error: ")


REFUSED = {
    "typo": ({"scalling": {}}, 'unknown field "spec.scalling"'),
    "scheme": ({"model": {"uri": "ftp://host/model"}}, "uri must start with mlflow://"),
    "bounds": (
        {"scaling": {"minReplicas": 20, "maxReplicas": 10}},
        "minReplicas must not be above maxReplicas",
    ),
    "steps": (
        {"rollout": {"strategy": "RollingUpdate", "steps": [{"setWeight": 5}]}},
        "steps go with strategy Canary, BlueGreen or Shadow",
    ),
    "type": ({"scaling": {"minReplicas": "3"}}, "spec.scaling.minReplicas in body must be of type integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_api_server_would_refuse_is_refused_without_one(
    write: Write, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spec, says = REFUSED[case]
    assert offline("-f", write(manifest("good"), manifest("bad", **spec))) == 1
    said = capsys.readouterr().out
    assert says in said
    assert planned(said) == ["default/good", "default/bad"], "the others are planned all the same"


def test_a_name_that_cannot_be_is_refused(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline("-f", write(manifest("Fraud_Model"))) == 1
    assert "invalid: <nil>: Invalid value: metadata.name must start with a lower" in capsys.readouterr().out


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_api_server_refuses_is_told_in_its_words(
    write: Write, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spec, says = REFUSED[case]
    assert run("plan", "-f", write(manifest("bad", **spec))) == 1
    assert says in capsys.readouterr().out
    assert ("POST", COLLECTION) in cluster.asked


def test_a_new_one_is_created_and_a_live_one_replaced_by_way_of_trial(
    world: World, write: Write, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.writes()
    assert run("plan", "-f", write(manifest("new", **version(1)), manifest(NAME, **version(2)))) == 0
    assert [one for one in cluster.asked if one[0] not in ("GET",)] == [
        ("POST", COLLECTION),
        ("PUT", RESOURCE),
    ]
    created, replaced = cluster.sent
    assert created["metadata"] == {"name": "new", "namespace": NAMESPACE}
    assert replaced["metadata"]["resourceVersion"] == world.kube.find(*PLACE)["metadata"]["resourceVersion"]
    assert world.writes() == before
    said = capsys.readouterr().out
    assert planned(said) == [f"{NAMESPACE}/new", f"{NAMESPACE}/{NAME}"]
    assert "  create    Deployment new-REVISION" in said


def test_a_manifest_is_compared_with_what_is_in_its_own_namespace(
    write: Write, cluster: Served, run: Run
) -> None:
    other = COLLECTION.replace(NAMESPACE, "other")
    cluster.answer = lambda _, path: (
        (404, "application/json", b'{"kind": "Status"}') if other in path else None
    )
    assert run("plan", "-f", write(manifest(NAME, "other"))) == 1
    assert cluster.asked[0] == ("GET", f"{other}/{NAME}")
    assert (f"POST {other}").split() == list(cluster.asked[1])


@pytest.mark.parametrize(("change", "code"), [({}, 0), ({"scaling": {"minReplicas": 4}}, 3)])
async def test_the_detailed_exit_code_says_whether_something_would_change(
    world: World,
    write: Write,
    run: Run,
    change: dict[str, Any],
    code: int,
) -> None:
    assert run("promote-full", NAME) == 0
    await world.run(200)
    file = write(manifest(NAME, **{**version(2), **change}))
    assert run("plan", "-f", file) == 0
    assert run("plan", "--detailed-exitcode", "-f", file) == code


def test_a_plan_as_json_has_every_object(write: Write, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(manifest(NAME, **version(3)), manifest("bad", scalling=1))
    assert run("plan", "-f", file, "-o", "json") == 1
    good, bad = json.loads(capsys.readouterr().out)["items"]
    assert (good["namespace"], good["name"], good["valid"], good["newRevision"]) == (
        NAMESPACE,
        NAME,
        True,
        True,
    )
    assert (good["checkedBy"], good["strategy"], len(good["steps"])) == ("the API server", "Canary", 4)
    assert {"verb": "create", "kind": "Deployment", "name": f"{NAME}-REVISION", "fields": []} in good[
        "changes"
    ]
    assert bad["valid"] is False
    assert 'unknown field "spec.scalling"' in bad["complaints"][0]
    assert run("plan", "-f", file, "-o", "yaml") == 1
    assert [one["name"] for one in yaml.safe_load(capsys.readouterr().out)["items"]] == [NAME, "bad"]
    assert run("plan", "-f", file, "-o", "name") == 1
    assert capsys.readouterr().out.split() == [f"modeldeployment.slipway.dev/{one}" for one in (NAME, "bad")]


def refusing(cluster: Served, code: int, body: bytes, *methods: str) -> None:
    cluster.answer = lambda method, _: (code, "application/json", body) if method in methods else None


def test_who_has_no_right_to_a_dry_run_gets_the_check_of_this_version(
    write: Write, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    message = 'modeldeployments.slipway.dev is forbidden: User "me" cannot create resource'
    refusing(cluster, 403, json.dumps({"kind": "Status", "message": message}).encode(), "POST")
    assert run("plan", "-f", write(manifest("bad", scalling={}))) == 1
    said = capsys.readouterr()
    assert 'unknown field "spec.scalling"' in said.out
    assert (
        f"checked by the CRD of this version, and not by the API server: ModelDeployment {NAMESPACE}/bad: "
        in said.err
    )
    assert message in said.err
    assert run("plan", "-f", write(manifest("good")), "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["checkedBy"] == "the CRD of this version"


def test_a_namespace_that_is_not_there_is_told(
    write: Write, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {
        "kind": "Status",
        "message": 'namespaces "x" not found',
        "details": {"kind": "namespaces", "name": "x"},
    }
    refusing(cluster, 404, json.dumps(status).encode(), "POST")
    assert run("plan", "-f", write(manifest("new"))) == 1
    assert 'namespaces "x" not found' in capsys.readouterr().err


def test_without_the_crd_a_plan_says_that_slipway_is_not_installed(
    write: Write, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing(cluster, 404, b"404 page not found\n", "GET", "POST")
    for words in (("plan", "-f", write(manifest("new"))), ("status", NAME), ("get",), ("undo", NAME)):
        assert run(*words) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "this cluster knows no ModelDeployments: Slipway, or its CRD, is not installed" in said.err


def test_a_status_in_a_file_counts_for_nothing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    found = manifest("a") | {"status": {"stable": {"revision": "x", "version": "9", "digest": "d"}}}
    assert offline("-f", write(found)) == 0
    assert "revision  the first one" in capsys.readouterr().out
