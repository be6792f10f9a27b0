"""Argo CD's health check, run by a real Lua of the version that Argo CD speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]

from slipway.api.types import ModelDeployment

FOLDER = Path(__file__).parents[2] / "charts/slipway/argocd/slipway.dev/ModelDeployment"
CASES = yaml.safe_load((FOLDER / "health_test.yaml").read_text())["tests"]


def health(resource: dict[str, Any]) -> dict[str, str]:
    """What Argo CD would show."""
    lua = LuaRuntime(register_eval=False)
    lua.globals()["obj"] = lua.table_from(resource, recursive=True)
    answer = lua.execute((FOLDER / "health.lua").read_text())
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
