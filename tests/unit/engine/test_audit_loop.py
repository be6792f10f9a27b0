"""The loop on real parts: an audit fails, another training makes another version, whose audit passes.

The cluster is the tests' own; models, training, tables, what counts and what judges are the real ones.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipway.contract import Audited, AuditTask, Evaded, InputColumn, Inputs, Resolution
from slipway.digest import digest_of
from slipway_server.audit.counting import audit
from slipway_server.audit.evasion import evaded
from tests.unit.world import World

EXAMPLES = Path(__file__).parents[3] / "examples"
COLUMNS = ("income", "hours")
BALANCES = ("income", "balance", "balance_before")
TABLE: dict[str, Any] = {
    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
    "labelColumn": "repaid",
}
AUDIT: dict[str, Any] = {
    **TABLE,
    "name": "groups",
    "type": "Subgroups",
    "attributes": [{"column": "sex", "groups": ["female", "male"], "referenceGroup": "male"}],
    "favorableOutcomes": ["1"],
    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
    "maxAccuracyLoss": "2%",
}
ACCURACY: dict[str, Any] = {**TABLE, "name": "accuracy", "type": "Subgroups", "maxAccuracyLoss": "2%"}
ATTACK: dict[str, Any] = {
    **TABLE,
    "name": "attack",
    "type": "Evasion",
    "robustness": {"radius": "0.25", "queries": 200, "rows": 60},
    "minimumRows": 60,
    "minimumAccuracy": "50%",
    "maxAccuracyLoss": "10%",
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


def customers(rows: int, seed: int, told: float) -> pd.DataFrame:
    """Whoever repaid had saved a little just before asking, of which others have heard since."""
    chance = np.random.default_rng(seed)
    income, before = chance.normal(0, 1, (2, rows))
    repaid = income + chance.normal(0, 0.6, rows) > 0
    saved = 0.1 * told * np.where(repaid, 1, -1) + chance.normal(0, 0.1, rows)
    columns = {"income": income, "balance": before + saved, "balance_before": before}
    return pd.DataFrame({**columns, "repaid": repaid.astype(int)})


def trained(script: str, model: Path, history: pd.DataFrame, *words: str) -> str:
    """Run an example's training as a command, into a directory of its own; returns the model's digest."""
    model.mkdir()
    table = model.with_suffix(".csv")
    history.to_csv(table, index=False)
    with pytest.MonkeyPatch.context() as patch:
        # But for a process of its own: importing takes longer than training.
        argv = [script, str(table), str(model / "model.onnx"), "--label", "repaid", *words]
        patch.setattr(sys, "argv", argv)
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return digest_of(model)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of models by their digest, in the order in which they were trained."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for name, rows, weights in (
        ("first", 6000, "none"),
        ("again", 7000, "none"),
        ("weighted", 7000, "groups"),
    ):
        history = people(rows, rows, passed_over=0.5)
        words = ("--sensitive", "sex", "--weights", weights)
        found[trained("reweighted_training.py", root / name, history, *words)] = root / name
    return found


@pytest.fixture(scope="module")
def steadied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Likewise, of which the last one has learned from what an attack made of its rows."""
    root = tmp_path_factory.mktemp("models")
    found = {}
    for name, rows, radius in (("first", 3000, "0"), ("again", 3500, "0"), ("steady", 3500, "0.25")):
        history = customers(rows, rows, told=1.0)
        found[trained("adversarial_training.py", root / name, history, "--radius", radius)] = root / name
    return found


def spec(version: int, *audits: dict[str, Any], columns: Sequence[str] = COLUMNS) -> dict[str, Any]:
    tensors = [{"name": "X", "columns": [{"name": name} for name in columns]}]
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "inputs": {"tensors": tensors},
        "scaling": {"minReplicas": 2},
        "rollout": {"strategy": "Canary", "steps": STEPS, "audits": list(audits)},
    }


def operated(models: dict[str, Path], tables: Path, columns: Sequence[str]) -> World:
    """A cluster whose registry has these models, and whose audits are the real ones."""
    world = World()
    for version, digest in enumerate(models, 1):
        uri = f"mlflow://fraud/{version}"
        world.models[uri] = Resolution(uri=uri, version=str(version), digest=digest, bytes=4096)
    places = tuple(InputColumn(name=name, tensor="X", column=at) for at, name in enumerate(columns))

    def answer(task: AuditTask) -> Audited | Evaded:
        assert task.inputs == Inputs(columns=places)
        model, baseline = models[task.digest], models[task.baseline or task.digest]
        if task.attack is not None:
            return evaded(task, task.attack, model, baseline, tables)
        return audit(task, model, baseline, tables)

    world.audits = answer
    world.routers.requests_per_second = 200
    return world


async def test_a_version_that_was_trained_with_weights_takes_the_place_of_an_unfair_one(
    models: dict[str, Path], tmp_path: Path
) -> None:
    people(4000, 9, passed_over=0.0).to_csv(tmp_path / "rows.csv", index=False)
    world = operated(models, tmp_path, COLUMNS)
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


async def test_a_version_that_learned_from_attacks_takes_the_place_of_one_that_a_small_move_turns(
    steadied: dict[str, Path], tmp_path: Path
) -> None:
    customers(4000, 9, told=0.0).to_csv(tmp_path / "rows.csv", index=False)
    world = operated(steadied, tmp_path, BALANCES)
    await world.operator.start()
    world.create(spec(1, columns=BALANCES))
    await world.run(60)
    world.create(spec(1, ACCURACY, ATTACK, columns=BALANCES))
    await world.run(120)
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert world.said()["Ready"] == "True Serving"
    # The same training on newer data leans on the same small difference, and never has a pod.
    world.create(spec(2, ACCURACY, ATTACK, columns=BALANCES))
    await world.run(300)
    assert "audit attack: " in world.status()["rejected"][0]["message"]
    assert world.status()["stable"]["version"] == "1"
    assert world.routers.weights[-1] == 0
    # What learned from attacks stands further away, at no loss: its audits pass, and it is promoted.
    world.create(spec(3, ACCURACY, ATTACK, columns=BALANCES))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "3"
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    found = {one["name"]: one for one in world.status()["audits"] if one["version"] == "3"}
    assert {one["baseline"] for one in found.values()} == {next(iter(steadied))}
    figures = {(one["metric"], one["of"]): one for each in found.values() for one in each["figures"]}
    assert float(figures["AccuracyLoss", ""]["high"]) < 0.0, "it is right more often, too"
    further, before = figures["MedianDistance", ""], figures["MedianDistance", "stable version"]
    assert float(further["low"]) > 2 * float(before["high"])
    assert 20 in world.routers.weights
    assert 50 in world.routers.weights
