"""``kubectl slipway`` from its command line to the API server, and what the operator then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.api.types import API_VERSION, KIND
from slipway.cli import status
from slipway.cli.main import main
from slipway.engine.store import Key
from tests.unit.cli.conftest import version
from tests.unit.cli.serving import PLACE, RESOURCE, Served
from tests.unit.world import NAME, NAMESPACE, World


def run(cluster: Served, *words: str) -> int:
    return main([*words, "--kubeconfig", str(cluster.kubeconfig)])


def annotations(world: World) -> dict[str, str]:
    found: dict[str, str] = world.kube.find(*PLACE)["metadata"].get("annotations", {})
    return found


def after(world: World, command: str) -> object:
    """What there is to be seen of a command's effect."""
    found = world.status()
    return {
        "promote": found.get("canaryWeight", 0),
        "promote-full": found["stable"]["version"],
        "abort": [one["revision"] for one in found.get("rejected", ())],
        "pause": found.get("rollout", {}).get("phase"),
    }[command]


@pytest.mark.parametrize("command", ["promote", "promote-full", "abort"])
async def test_a_command_is_carried_out_by_the_operator(
    world: World, cluster: Served, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    rollout, canary = world.status()["rollout"], world.status()["canary"]["revision"]
    value = f"{rollout['id']}/{rollout['step']}" if command == "promote" else rollout["id"]
    assert run(cluster, command, NAME) == 0
    assert annotations(world)[f"slipway.dev/{command}"] == value
    assert rollout["id"] in capsys.readouterr().out
    await world.run(120)
    assert after(world, command) == {"promote": 50, "promote-full": "2", "abort": [canary]}[command]


async def test_pause_and_resume_set_and_take_away_their_annotation(world: World, cluster: Served) -> None:
    rollout = world.status()["rollout"]["id"]
    assert run(cluster, "pause", NAME) == 0
    assert annotations(world)["slipway.dev/pause"] == rollout
    assert run(cluster, "resume", NAME) == 0
    assert "slipway.dev/pause" not in annotations(world)


async def test_retry_lets_the_rejected_revision_in_again(world: World, cluster: Served) -> None:
    assert run(cluster, "abort", NAME) == 0
    await world.run(120)
    [rejected] = world.status()["rejected"]
    assert run(cluster, "retry", NAME) == 0
    assert annotations(world)["slipway.dev/retry"] == rejected["id"]
    await world.run(60)
    assert world.status()["canary"]["revision"] == rejected["revision"]


@pytest.mark.parametrize("command", ["promote", "promote-full", "abort", "pause"])
async def test_a_command_hits_no_resource_that_has_changed_since_it_looked(
    world: World, cluster: Served, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """So that none can hit a later rollout; what to do is said."""
    cluster.after_get = lambda _: world.create(version(3))
    assert run(cluster, command, NAME) == 1
    assert f"ModelDeployment {NAMESPACE}/{NAME} has just changed; look at it again" in capsys.readouterr().err
    assert annotations(world) == {}


async def test_a_command_is_carried_out_though_the_status_changes_meanwhile(
    world: World, cluster: Served
) -> None:
    live = world.kube.find(*PLACE)

    def write_status(number: int) -> None:
        if number < 4:
            live["metadata"]["resourceVersion"] = str(int(live["metadata"]["resourceVersion"]) + 1000)

    cluster.after_get = write_status
    assert run(cluster, "pause", NAME) == 0
    assert annotations(world)["slipway.dev/pause"] == world.status()["rollout"]["id"]
    assert len([path for method, path in cluster.asked if method == "PATCH"]) == 4


async def test_the_cluster_is_that_of_the_context_which_was_asked_for(
    cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """The current context leads to nobody; so what answers is the one that was asked for."""
    text = cluster.kubeconfig.read_text().replace("current-context: one", "current-context: other")
    text = text.replace("clusters: [", 'clusters: [{name: gone, cluster: {server: "http://127.0.0.1:1"}}, ')
    other = f"{{name: other, context: {{cluster: gone, user: me, namespace: {NAMESPACE}}}}}, "
    cluster.kubeconfig.write_text(text.replace("contexts: [", f"contexts: [{other}"))
    assert run(cluster, "status", NAME, "--context", "one") == 0
    assert f"{NAMESPACE}/{NAME}" in capsys.readouterr().out
    assert cluster.asked == [("GET", RESOURCE)]


async def test_status_as_json_is_the_resource_as_it_is(
    world: World, cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cluster, "status", NAME, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == world.kube.find(*PLACE)


async def test_watching_goes_on_and_draws_what_changed(
    world: World, cluster: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "INTERVAL", 0.01)

    def change(looks: int) -> None:
        if looks == 3:
            weight = {"canaryWeight": 33}
            world.kube.edit(PLACE, lambda live: live["status"].update(weight), "slipway-status")
        if looks == 6:
            world.kube.drop(PLACE)

    cluster.after_get = change
    assert run(cluster, "status", NAME, "--watch") == 1
    drawn = capsys.readouterr()
    assert cluster.asked.count(("GET", RESOURCE)) >= 7
    assert drawn.out.index(" 20%  version 2") < drawn.out.index(" 33%  version 2")
    assert drawn.err.strip() == f"error: there is no ModelDeployment {NAMESPACE}/{NAME}"


def written(folder: Path, spec: dict[str, Any]) -> str:
    path = folder / "fraud.json"
    metadata = {"name": NAME}
    path.write_text(json.dumps({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}))
    return str(path)


@pytest.mark.parametrize(("least", "code"), [(1, 0), (0, 1)])
async def test_the_exit_code_of_a_plan_says_whether_the_spec_can_be_read(
    world: World, cluster: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], least: int, code: int
) -> None:
    before = world.writes()
    spec = {**version(2), "scaling": {"minReplicas": least}}
    assert run(cluster, "plan", "-f", written(tmp_path, spec)) == code
    assert ("  invalid: spec.scaling.minReplicas" in capsys.readouterr().out) == (code == 1)
    assert world.writes() == before


async def test_the_server_image_that_is_given_is_the_one_that_is_planned(
    world: World, cluster: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after an upgrade of the chart: compared with what is there, the image is what differs."""
    assert world.operator.store.children(Key(NAMESPACE, NAME))
    file = written(tmp_path, version(2))
    assert run(cluster, "plan", "-f", file) == 0
    same = capsys.readouterr().out
    assert run(cluster, "plan", "-f", file, "--server-image", "example.com/server:9") == 0
    other = capsys.readouterr().out
    assert "containers[0].image" not in same
    assert "containers[0].image" in other


async def test_a_login_page_in_place_of_the_api_server_is_called_one(
    cluster: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    page = b"<html><title>Sign in</title></html>"
    cluster.answer = lambda *_: (200, "text/html", page)
    for words in (("status", NAME), ("abort", NAME), ("report", NAME)):
        assert run(cluster, *words) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: ModelDeployment {NAMESPACE}/{NAME}: what answered is no API server:")
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "content",
    [b"{ broken", b"\x80\x81\x00binary", b"just text", b"[1, 2]", b"", b"clusters: 7\ncontexts: text\n"],
)
def test_a_file_that_is_no_kubeconfig_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    assert main(["status", NAME, "--kubeconfig", str(path)]) == 1
    assert capsys.readouterr().err.startswith("error: no cluster to ask: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x81\x00", "cannot be read"),
        (
            f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: text\n".encode(),
            "metadata of a ModelDeployment must be",
        ),
        (
            f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: [a]\n".encode(),
            "metadata of a ModelDeployment must be",
        ),
        (
            f"apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: 7}}\n".encode(),
            "without metadata.name",
        ),
    ],
)
def test_a_file_that_cannot_be_planned_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    path = tmp_path / "fraud.yaml"
    path.write_bytes(content)
    assert main(["plan", "--offline", "-f", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says in said


@pytest.mark.parametrize("command", ["promote", "approve"])
async def test_a_command_bears_the_name_of_who_gave_it_and_is_carried_out(
    world: World, cluster: Served, command: str
) -> None:
    cluster.user = "system:serviceaccount:ci:alice"
    rollout = world.status()["rollout"]
    assert run(cluster, command, NAME) == 0
    # An operator that knows nothing of names, as one that was rolled back to, reads the first one.
    meant = f"{rollout['id']}/{rollout['step']}"
    assert annotations(world)["slipway.dev/promote"] == meant
    assert annotations(world)["slipway.dev/promote-by"] == f"{meant}/{cluster.user}"
    await world.run(60)
    assert world.status()["canaryWeight"] == 50


@pytest.mark.parametrize(
    ("before", "after"), [("bob", "bob,alice"), ("alice", "alice"), ("bob,alice", "bob,alice")]
)
@pytest.mark.parametrize("words", [("set-model", NAME, "mlflow://fraud/3"), ("undo", NAME)])
def test_a_change_of_the_spec_says_who_proposes_it_where_that_is_recorded(
    world: World, cluster: Served, words: tuple[str, ...], before: str, after: str
) -> None:
    cluster.user = "alice"
    world.annotate("slipway.dev/proposed-by", before)
    assert run(cluster, *words) == 0
    said = annotations(world)
    assert said["slipway.dev/proposed-by"] == after
