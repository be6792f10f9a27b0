"""The loop on real parts: an audit fails, a training with weights makes another version, whose audit passes.

The cluster is the tests' own; models, training, tables, what counts and what judges are the real ones.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.contract import Audited, AuditTask, InputColumn, Inputs, Resolution
from slipway.digest import digest_of
from slipway_server.audit.counting import audit
from tests.unit.world import World

SCRIPT = Path(__file__).parents[3] / "examples" / "reweighted_training.py"
COLUMNS = ("income", "hours")
AUDIT: dict[str, Any] = {
    "name": "groups",
    "type": "Subgroups",
    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
    "labelColumn": "repaid",
    "attributes": [{"column": "sex", "groups": ["female", "male"], "referenceGroup": "male"}],
    "favorableOutcomes": ["1"],
    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
    "maxAccuracyLoss": "2%",
}
STEPS = [{"setWeight": 20}, {"analysis": {}}, {"setWeight": 50}]


def people(rows: int, seed: int, passed_over: float) -> pd.DataFrame:
    """Who repays depends on income alone; of the women who would, a share was passed over."""
    chance = np.random.default_rng(seed)
    women = chance.random(rows) < 0.5
    income = chance.normal(0, 1, rows)
    hours = chance.normal(40, 4, rows) - 10 * women
    repaid = income + chance.normal(0, 0.4, rows) > 0
    repaid &= ~(women & (chance.random(rows) < passed_over))
    sexes = np.where(women, "female", "male")
    return pd.DataFrame({"income": income, "hours": hours, "sex": sexes, "repaid": repaid.astype(int)})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of models by their digest, in the order in which they were trained."""
    root = tmp_path_factory.mktemp("models")
    history = root / "train.csv"
    people(6000, 1, passed_over=0.5).to_csv(history, index=False)
    found = {}
    for name, weights in (("first", "none"), ("again", "none"), ("weighted", "groups")):
        (root / name).mkdir()
        if name == "again":
            people(7000, 2, passed_over=0.5).to_csv(history, index=False)
        words = [str(history), str(root / name / "model.onnx"), "--label", "repaid", "--sensitive", "sex"]
        with pytest.MonkeyPatch.context() as patch:
            # As a command, but for a process of its own: importing takes longer than training.
            patch.setattr(sys, "argv", [str(SCRIPT), *words, "--weights", weights])
            runpy.run_path(str(SCRIPT), run_name="__main__")
        found[digest_of(root / name)] = root / name
    return found


def spec(version: int, *audits: dict[str, Any]) -> dict[str, Any]:
    tensors = [{"name": "X", "columns": [{"name": name} for name in COLUMNS]}]
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "inputs": {"tensors": tensors},
        "scaling": {"minReplicas": 2},
        "rollout": {"strategy": "Canary", "steps": STEPS, "audits": list(audits)},
    }


async def test_a_version_that_was_trained_with_weights_takes_the_place_of_an_unfair_one(
    models: dict[str, Path], tmp_path: Path
) -> None:
    people(4000, 9, passed_over=0.0).to_csv(tmp_path / "rows.csv", index=False)
    world = World()
    for version, digest in enumerate(models, 1):
        uri = f"mlflow://fraud/{version}"
        world.models[uri] = Resolution(uri=uri, version=str(version), digest=digest, bytes=4096)

    def answer(task: AuditTask) -> Audited:
        assert task.inputs == Inputs(
            columns=tuple(InputColumn(name=name, tensor="X", column=at) for at, name in enumerate(COLUMNS))
        )
        return audit(task, models[task.digest], models[task.baseline or task.digest], tmp_path)

    world.audits = answer
    world.routers.requests_per_second = 200
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    # Audits are asked for once a version serves: it is told of, and serves on.
    world.create(spec(1, AUDIT))
    await world.run(60)
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert world.said()["Ready"] == "True Serving"
    # The same training on newer data is as unfair, and never has a pod.
    world.create(spec(2, AUDIT))
    await world.run(300)
    assert world.status()["rejected"][0]["message"].startswith("audit groups: sex: DisparateImpactRatio 0.")
    assert world.status()["stable"]["version"] == "1"
    assert world.routers.weights[-1] == 0
    # With weights it treats groups alike, at no loss: its audit passes, then its canary, and it is promoted.
    world.create(spec(3, AUDIT))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "3"
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    found = next(one for one in world.status()["audits"] if one["version"] == "3")
    assert found["baseline"] == next(iter(models))
    loss = next(one for one in found["figures"] if (one["metric"], one["of"]) == ("AccuracyLoss", ""))
    assert float(loss["high"]) < 0.0, "it is right more often, too"
    assert 20 in world.routers.weights
    assert 50 in world.routers.weights
