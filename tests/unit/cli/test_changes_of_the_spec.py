"""``slipway set-model`` and ``slipway undo``, and what the operator makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.cli.changes import replacing
from slipway.cli.errors import CommandError
from slipway.cli.undo import earlier, restored
from slipway.core.resource import read
from slipway.core.revision import Revision, revision_from
from tests.unit.cli.conftest import Run, version
from tests.unit.cli.serving import PLACE, Served
from tests.unit.world import NAME, World

DIGEST = "sha256:" + "3" * 64


def spec(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.kube.find(*PLACE)["spec"]
    return found


async def test_set_model_writes_the_uri_and_the_operator_serves_it(
    world: World, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("set-model", NAME, "mlflow://fraud/3") == 0
    assert spec(world)["model"]["uri"] == "mlflow://fraud/3"
    said = capsys.readouterr()
    assert said.out == f"{NAME}: spec.model.uri is mlflow://fraud/3; it was mlflow://fraud/2\n"
    assert said.err == ""
    await world.run(60)
    assert world.status()["canary"]["version"] == "3"


async def test_set_model_takes_the_digest_of_the_old_model_away(world: World, run: Run) -> None:
    assert run("set-model", NAME, "mlflow://fraud/3", "--digest", DIGEST) == 0
    assert spec(world)["model"]["digest"] == DIGEST
    assert run("set-model", NAME, "mlflow://fraud/1") == 0
    assert "digest" not in spec(world)["model"]


async def test_a_dry_run_says_what_would_be_and_changes_nothing(
    world: World, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before = world.writes()
    assert run("set-model", NAME, "mlflow://fraud/3", "--dry-run", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["spec"]["model"]["uri"] == "mlflow://fraud/3"
    assert run("undo", NAME, "--dry-run") == 0
    assert f"{NAME} would go back to revision" in capsys.readouterr().out
    assert world.writes() == before


async def test_set_model_to_what_is_there_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("set-model", NAME, "mlflow://fraud/2") == 0
    assert capsys.readouterr().out == f"{NAME}: spec.model.uri is mlflow://fraud/2 already\n"


async def test_what_the_api_server_refuses_is_told_in_its_words(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    message = 'ModelDeployment.slipway.dev "fraud" is invalid: spec.model.uri: uri must start with mlflow://'
    body = json.dumps({"kind": "Status", "message": message}).encode()
    cluster.answer = lambda method, _: (422, "application/json", body) if method == "PATCH" else None
    assert run("set-model", NAME, "s3://bucket") == 1
    assert f"error: ModelDeployment payments/fraud: {message}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mark", "writer"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "x"}}, "Flux"),
    ],
)
@pytest.mark.parametrize("command", [("set-model", NAME, "mlflow://fraud/3"), ("undo", NAME)])
async def test_whoever_writes_from_git_is_named(
    world: World,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    mark: dict[str, Any],
    writer: str,
    command: tuple[str, ...],
) -> None:
    world.kube.find(*PLACE)["metadata"].update(mark)
    assert run(*command) == 0
    assert (
        f"warning: {writer} writes this ModelDeployment; make the same change in Git"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("where", ["annotations", "labels"])
async def test_marks_of_others_are_nobody_who_writes(
    world: World, run: Run, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    marks = {"team": "risk", "app.kubernetes.io/managed-by": "Helm", "example.com/argocd.argoproj.io": "x"}
    world.kube.find(*PLACE)["metadata"][where] = marks
    assert run("set-model", NAME, "mlflow://fraud/3") == 0
    assert capsys.readouterr().err == ""


async def test_undo_of_a_rollout_goes_back_to_what_serves(
    world: World, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    stable = world.status()["stable"]["revision"]
    assert run("undo", NAME) == 0
    assert spec(world)["model"]["uri"] == "mlflow://fraud/1"
    said = capsys.readouterr().out
    assert f"{NAME} goes back to revision {stable}, version 1" in said
    assert (
        "it was mlflow://fraud/2, which `kubectl slipway set-model fraud mlflow://fraud/2` sets again" in said
    )
    await world.run(120)
    assert world.status()["stable"]["revision"] == stable
    assert "canary" not in world.status()
    assert not world.status().get("rejected"), "nobody found version 2 bad"


async def test_undo_of_what_serves_goes_back_to_what_served_before(world: World, run: Run) -> None:
    first = world.status()["stable"]["revision"]
    assert run("promote-full", NAME) == 0
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    assert run("undo", NAME) == 0
    await world.run(120)
    assert world.status()["stable"]["revision"] == first, "within the rollback window: no steps"


async def test_undo_writes_the_runtime_of_that_time(world: World, run: Run) -> None:
    assert run("promote-full", NAME) == 0
    await world.run(120)
    world.create({**version(2), "runtime": {"threads": 4, "nodeSelector": {"disk": "ssd"}}})
    await world.run(60)
    assert run("undo", NAME, "-o", "name") == 0
    assert spec(world).get("runtime", {}) == {}
    assert spec(world)["rollout"] == version(2)["rollout"], "the rest stays"


async def test_undo_to_a_revision_that_is_not_there_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("undo", NAME, "--to-revision", "nothing") == 1
    assert "fraud has no revision nothing any more (spec.rollout.historyLimit)" in capsys.readouterr().err


async def test_undo_hits_no_spec_that_has_changed_since_it_looked(
    world: World, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.after_get = lambda _: world.create(version(3))
    assert run("undo", NAME) == 1
    assert "has just changed; look at it again" in capsys.readouterr().err
    assert spec(world)["model"]["uri"] == "mlflow://fraud/3"


async def test_undo_goes_to_no_revision_that_was_rejected(
    world: World, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = world.status()["canary"]["revision"]
    assert run("abort", NAME) == 0
    await world.run(120)
    assert run("undo", NAME, "--to-revision", bad) == 1
    assert f"revision {bad} was rejected: " in capsys.readouterr().err
    assert run("undo", NAME) == 0
    assert spec(world)["model"]["uri"] == "mlflow://fraud/1", "what serves, and not what was rejected"


def manifest(**status: Any) -> dict[str, Any]:
    meta = {"name": "fraud", "namespace": "payments", "uid": "u", "generation": 2}
    return {"metadata": meta, "spec": {"model": {"uri": "mlflow://fraud/1"}}, "status": status}


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"observedGeneration": 2}, "fraud has no earlier revision that was stable"),
        ({"observedGeneration": 1}, "the operator has not seen the newest change of fraud yet"),
        ({"observedGeneration": 2, "rollout": 7}, "the status of fraud cannot be read"),
    ],
)
def test_undo_without_a_way_back_is_refused(status: dict[str, Any], says: str) -> None:
    live = manifest(**status)
    with pytest.raises(CommandError, match=says):
        earlier(read(live), live, [], None)


def revision(**more: Any) -> Revision:
    model = {"uri": "mlflow://fraud/1", "version": "1", "digest": DIGEST, "bytes": 1}
    return revision_from({"model": model, "runtime": {"threads": 2}, "credentials": None, **more})


def test_a_restored_spec_has_credentials_and_inputs_of_the_revision_alone() -> None:
    now = {
        "model": {"uri": "x", "refreshSeconds": 5, "credentials": {"secretRef": {"name": "new"}}},
        "inputs": {"tensors": []},
        "card": {"owner": "me"},
    }
    assert restored(now, revision()) == {
        "model": {"uri": "mlflow://fraud/1", "refreshSeconds": 5, "digest": DIGEST},
        "card": {"owner": "me"},
        "runtime": {"threads": 2},
    }
    inputs = {"tensors": [{"name": "x", "columns": [{"name": "age", "type": "Integer"}]}]}
    found = restored(now, revision(credentials="old", inputs=inputs))
    assert found["model"]["credentials"] == {"secretRef": {"name": "old"}}
    assert found["inputs"] == inputs


@pytest.mark.parametrize(
    ("live", "wanted", "patch"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"b": 1, "c": None}}),
        ({"a": 7}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        (None, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_patch_takes_away_what_is_not_wanted(live: Any, wanted: Any, patch: Any) -> None:
    assert replacing(live, wanted) == patch
