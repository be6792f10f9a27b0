"""Audits that move rows, through the engine: held, judged, cached and compared as those of groups."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.contract import Attack, Audited, AuditTask, Evaded, Smoothing, Withstood
from tests.unit.engine.test_audits import DATA, Answer, every_strategy, fair, has_pods, of_version, result
from tests.unit.engine.test_audits import spec as spec_of
from tests.unit.world import World

NOISE: dict[str, Any] = {
    "name": "noise",
    "type": "CertifiedSmoothing",
    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}, "digest": DATA},
    "labelColumn": "repaid",
    "robustness": {"radius": "0.25", "noise": "0.5", "fixedColumns": ["age"]},
    "minimumAccuracy": "60%",
}


def spec(version: int, strategy: str = "RollingUpdate", **more: Any) -> dict[str, Any]:
    made = spec_of(version, strategy)
    made["rollout"]["audits"] = [{**NOISE, **more}]
    return made


def withstood(task: AuditTask, stand: int, before: int | None = None, rows: int = 200) -> Withstood:
    """Of so many rows the first ones stand."""
    hits = tuple(990 if place < stand else 500 for place in range(rows))
    theirs = tuple(990 if place < (before or stand) else 500 for place in range(rows))
    return Withstood(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=task.dataDigest or DATA,
        hits=hits,
        baselineHits=theirs if task.baseline else None,
    )


def standing(task: AuditTask) -> Withstood:
    return withstood(task, 190)


async def serving(strategy: str = "RollingUpdate", **more: Any) -> World:
    world = World()
    world.audits = standing
    await world.operator.start()
    world.create(spec(1, strategy, **more))
    world.routers.requests_per_second = 100
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    return world


async def test_the_pod_is_asked_what_the_audit_says_and_what_goes_without_saying() -> None:
    world = await serving()
    [task] = world.audited
    assert task.smoothing == Smoothing(noise=0.5, samples=1000, rows=200, fixedColumns=("age",))
    assert (task.label, task.baseline) == ("repaid", None)
    assert result(world, 1)["rows"] == 200
    assert {each["metric"] for each in result(world, 1)["figures"]} == {
        "CertifiedAccuracy",
        "MedianCertifiedRadius",
    }


@every_strategy
async def test_a_version_that_noise_upsets_is_rejected_before_it_has_a_pod(strategy: str) -> None:
    world = await serving(strategy, minimumAccuracy="60%", maxAccuracyLoss="10%")
    world.audits = of_version(2, lambda task: withstood(task, 130, 190), standing)
    world.create(spec(2, strategy, minimumAccuracy="60%", maxAccuracyLoss="10%"))
    served: list[bool] = []
    world.kube.listeners.append(lambda *_: served.append(has_pods(world, 2)))
    await world.run(300)
    [rejection] = world.status()["rejected"]
    assert rejection["message"].startswith("audit noise: 30% (")
    assert "with the stable version and stand no more, more than 10%" in rejection["message"]
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == "1"
    assert not any(served)


async def test_a_version_that_stands_as_well_goes_on_and_is_not_audited_twice() -> None:
    world = await serving(maxAccuracyLoss="10%")
    world.create(spec(2, maxAccuracyLoss="10%"))
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    asked = len(world.audited)
    await world.restart()
    await world.run(600)
    assert len(world.audited) == asked == 2


async def test_few_rows_hold_a_version() -> None:
    world = await serving()
    world.audits = of_version(2, lambda task: withstood(task, 60, rows=60), standing)
    world.create(spec(2))
    await world.run(300)
    assert world.said()["RevisionReady"] == "Unknown Suspended"
    assert "60 rows were moved of the 100 needed" in world.message("Suspended")
    assert not has_pods(world, 2)


async def test_another_radius_is_another_audit() -> None:
    world = await serving()
    world.create(spec(1, robustness={"radius": "0.1", "noise": "0.5"}))
    await world.run(120)
    assert len(world.audited) == 2


def _of_groups(task: AuditTask) -> Audited:
    return fair(task)


def _other_model(task: AuditTask) -> Withstood:
    return standing(task).model_copy(update={"digest": f"sha256:{'9' * 64}"})


def _other_table(task: AuditTask) -> Withstood:
    return standing(task).model_copy(update={"dataDigest": f"sha256:{'9' * 64}"})


def _more_copies_than_asked_for(task: AuditTask) -> Withstood:
    return standing(task).model_copy(update={"hits": (1001,) * 200})


@pytest.mark.parametrize("answer", [_of_groups, _other_model, _other_table, _more_copies_than_asked_for])
async def test_an_answer_to_something_else_is_not_believed(answer: Answer) -> None:
    world = await serving()
    world.audits = of_version(2, answer, standing)
    world.create(spec(2))
    await world.run(120)
    assert world.said()["RevisionReady"] == "False AuditError"
    assert not has_pods(world, 2)


EVASION: dict[str, Any] = {
    "type": "Evasion",
    "robustness": {"radius": "0.25", "fixedColumns": ["age"]},
    "maxAccuracyLoss": "10%",
}


def attacked(task: AuditTask, nearest: int = 300) -> Evaded:
    return Evaded(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=task.dataDigest or DATA,
        distances=(nearest,) * 200,
        baselineDistances=(300,) * 200 if task.baseline else None,
    )


async def test_a_version_that_an_attack_gets_nearer_to_is_rejected() -> None:
    world = World()
    world.audits = of_version(2, lambda task: attacked(task, 200), attacked)
    await world.operator.start()
    world.create(spec(1, **EVASION))
    world.routers.requests_per_second = 100
    await world.run(120)
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    [task] = world.audited
    assert task.attack == Attack(queries=1000, rows=200, fixedColumns=("age",))
    assert task.smoothing is None
    world.create(spec(2, **EVASION))
    await world.run(300)
    assert "stand no more, more than 10%" in world.status()["rejected"][0]["message"]
    assert world.said()["Ready"] == "True Serving"
    assert not has_pods(world, 2)


async def test_counts_of_noise_say_nothing_of_an_attack() -> None:
    world = World()
    world.audits = standing
    await world.operator.start()
    world.create(spec(1, **EVASION))
    await world.run(120)
    assert world.said()["AuditsPassed"] == "Unknown AuditError"


async def test_counts_of_noise_say_nothing_of_groups() -> None:
    world = World()
    world.audits = standing
    await world.operator.start()
    world.create(spec_of(1))
    await world.run(120)
    assert world.said()["AuditsPassed"] == "Unknown AuditError"
    assert not has_pods(world, 1)
