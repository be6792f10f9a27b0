"""Argo CD's health check and actions, run by a real Lua of the version that Argo CD speaks."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaError, LuaRuntime  # type: ignore[import-untyped]

from release import argocd
from slipway.api.types import ModelDeployment
from slipway.cli.command import asked
from slipway.cli.errors import CommandError
from slipway.core.observed import Fault
from slipway.core.resource import read

FOLDER = Path(__file__).parents[2] / "charts/slipway/argocd/slipway.dev/ModelDeployment"
CASES = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]


def health(resource: dict[str, Any]) -> dict[str, str]:
    """What Argo CD would show."""
    answer = run_lua((FOLDER / "health.lua").read_text(), resource)
    return {"status": answer["status"], "message": answer["message"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_a_resource_has_the_health_that_its_case_names(case: dict[str, Any]) -> None:
    resource = yaml.safe_load((FOLDER / case["inputPath"]).read_text())
    ModelDeployment.model_validate(resource)
    assert health(resource) == case["healthStatus"]


def test_every_sample_has_a_case() -> None:
    samples = {f"testdata/{path.name}" for path in (FOLDER / "testdata").iterdir()}
    assert samples == {case["inputPath"] for case in CASES}


def test_healthy_means_that_ready_holds_for_the_last_change() -> None:
    serving = yaml.safe_load((FOLDER / "testdata/serving.yaml").read_text())
    assert health(serving)["status"] == "Healthy"
    for status in ("False", "Unknown"):
        serving["status"]["conditions"][0]["status"] = status
        assert health(serving)["status"] == "Progressing"
    serving["status"]["conditions"].pop(0)
    assert health(serving)["status"] == "Progressing"


def test_a_change_that_was_not_seen_yet_comes_before_everything_else() -> None:
    for case in CASES:
        resource = yaml.safe_load((FOLDER / case["inputPath"]).read_text())
        resource["metadata"]["generation"] += 1
        assert health(resource)["status"] == "Progressing"


ACTIONS = FOLDER / "actions"
ACTION_CASES = yaml.safe_load((ACTIONS / "action_test.yaml").read_text())
#: As Argo CD's API server is known to the one of Kubernetes.
ARGO_CD = "system:serviceaccount:argocd:argocd-server"


def resource_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def discovered(resource: dict[str, Any]) -> list[dict[str, Any]]:
    answer = run_lua((ACTIONS / "discovery.lua").read_text(), resource)
    return [
        {"name": name, "disabled": action["disabled"], "displayName": action["displayName"]}
        for name, action in answer.items()
    ]


def annotations_after(action: str, resource: dict[str, Any]) -> dict[str, str]:
    answer = run_lua((ACTIONS / action / "action.lua").read_text(), resource)
    return dict(answer["metadata"]["annotations"] or {})


def run_lua(script: str, resource: dict[str, Any]) -> Any:
    """As Argo CD runs scripts that come from its settings: the base and the table library, no other."""
    lua = LuaRuntime(register_eval=False)
    lua.execute("getmetatable('').__index = nil; string, math, io, debug, coroutine = nil")
    lua.globals()["obj"] = lua.table_from(resource, recursive=True)
    return lua.execute(script)


@pytest.mark.parametrize(
    "case", ACTION_CASES["discoveryTests"], ids=lambda case: Path(case["inputPath"]).stem
)
def test_a_resource_offers_the_actions_that_its_case_names(case: dict[str, Any]) -> None:
    offered = discovered(resource_of(ACTIONS / case["inputPath"]))
    assert sorted(offered, key=str) == sorted(case["result"], key=str)


@pytest.mark.parametrize("case", ACTION_CASES["actionTests"], ids=str)
def test_an_action_makes_of_a_resource_what_its_case_names(case: dict[str, Any]) -> None:
    resource = resource_of(ACTIONS / case["inputPath"])
    if "expectedErrorMessage" in case:
        with pytest.raises(LuaError) as refused:
            annotations_after(case["action"], resource)
        assert str(refused.value) == case["expectedErrorMessage"]
        return
    expected = resource_of(ACTIONS / case["expectedOutputPath"])
    assert annotations_after(case["action"], resource) == expected["metadata"]["annotations"]
    expected["metadata"]["annotations"] = resource["metadata"]["annotations"]
    assert expected == resource, "an action changes annotations and nothing else"


def test_every_sample_of_the_actions_is_what_an_operator_writes_and_has_a_case() -> None:
    samples = {path.name for path in (ACTIONS / "testdata").iterdir()}
    cases = [*ACTION_CASES["discoveryTests"], *ACTION_CASES["actionTests"]]
    named = {
        Path(case[key]).name for case in cases for key in ("inputPath", "expectedOutputPath") if key in case
    }
    assert samples == named
    for name in samples:
        found = read(resource_of(ACTIONS / "testdata" / name))
        assert (found.status_fault, isinstance(found.spec, Fault)) == (None, False), name


def samples_of_rollouts() -> Iterator[tuple[str, dict[str, Any]]]:
    """The samples, and what becomes of the one that waits by other steps, strategies, commands and phases."""
    for path in sorted((ACTIONS / "testdata").iterdir()):
        yield path.stem, resource_of(path)
    waiting = resource_of(ACTIONS / "testdata/waiting.yaml")
    for strategy in ("RollingUpdate", "Canary", "BlueGreen", "Shadow"):
        for step in range(5):
            changed = deepcopy(waiting)
            changed["spec"]["rollout"] = {"strategy": strategy}
            changed["status"]["rollout"]["step"] = step
            yield f"{strategy} at {step}", changed
    held = deepcopy(waiting)
    held["spec"]["rollout"]["paused"] = True
    yield "held by the spec", held
    for words in ("bbbbbbbbbb.1", "bbbbbbbbbb.1/alice", "bbbbbbbbbb.12", "bbbbbbbbbb", "another.1"):
        paused = deepcopy(waiting)
        paused["metadata"]["annotations"]["slipway.dev/pause"] = words
        yield f"paused by {words}", paused
    bare = deepcopy(waiting)
    del bare["metadata"]["annotations"], bare["status"]["rollout"]["step"]
    yield "without annotations", bare


@pytest.mark.parametrize(("name", "resource"), list(samples_of_rollouts()), ids=lambda one: str(one)[:30])
def test_argo_cd_offers_and_writes_what_the_command_line_would(name: str, resource: dict[str, Any]) -> None:
    offered = {action["name"]: not action["disabled"] for action in discovered(resource)}
    assert set(offered) == set(argocd.ACTIONS)
    for action in argocd.ACTIONS:
        if action == "pause" and offered["resume"] and not offered["pause"]:
            continue  # Once is enough of a button; kubectl slipway pause may be repeated.
        written = accepted(action, resource)
        assert offered[action] is (written is not None), f"{name}: {action}"
        if written is not None:
            after = {**resource["metadata"].get("annotations", {}), **written}
            kept = {key: value for key, value in after.items() if value is not None}
            assert annotations_after(action, deepcopy(resource)) == kept


def accepted(action: str, resource: dict[str, Any]) -> dict[str, str | None] | None:
    """What `kubectl slipway` would write, or None where it refuses."""
    try:
        return asked(action, read(resource), ARGO_CD)[0]
    except CommandError:
        return None


def test_the_patch_of_argocd_cm_holds_each_script_as_it_is() -> None:
    data = yaml.safe_load((FOLDER.parents[1] / "argocd-cm.yaml").read_text())["data"]
    actions = yaml.safe_load(data["resource.customizations.actions.slipway.dev_ModelDeployment"])
    assert (
        data["resource.customizations.health.slipway.dev_ModelDeployment"]
        == (FOLDER / "health.lua").read_text()
    )
    assert actions["discovery.lua"] == (ACTIONS / "discovery.lua").read_text()
    written = {each["name"]: each["action.lua"] for each in actions["definitions"]}
    assert written == {path.parent.name: path.read_text() for path in ACTIONS.glob("*/action.lua")}
