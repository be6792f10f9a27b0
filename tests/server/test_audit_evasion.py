"""``slipway-audit`` with attacks of ART: how near they get to a linear model is known, and so are bounds."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from slipway.contract import NOT_EVADED, Attack, AuditTask, Evaded
from tests.server.test_audit import PLACES, Pod, numbers_of, people, pod, wide, write
from tests.server.test_audit_smoothing import above, columns

__all__ = ["pod"]

ASKED = Attack(queries=1000, rows=10)


def task(digest: str, attack: Attack = ASKED, **more: Any) -> AuditTask:
    asked: dict[str, Any] = {"file": "rows.csv", "label": "repaid", "inputs": PLACES}
    return AuditTask(digest=digest, attack=attack, **{**asked, **more})


def evaded(pod: Pod, asked: AuditTask) -> Evaded:
    found = pod.run(asked)
    assert isinstance(found, Evaded), found
    return found


@pytest.mark.parametrize("attack", ["HopSkipJump", "Boundary"])
def test_an_attack_gets_as_near_to_a_linear_model_as_its_boundary_is_and_no_nearer(
    pod: Pod, attack: Any
) -> None:
    """The distance to a plane is known: nothing nearer is wrong, and 1,000 queries find it."""
    rows = people(10)
    model, made = wide(people(seed=1))
    write(pod.table, rows)
    found = evaded(pod, task(pod.model(made), ASKED.model_copy(update={"attack": attack})))
    deviations = numbers_of(rows).astype(float).std(axis=0)
    sides = np.where([row["repaid"] for row in rows], 1, -1)
    margins = sides * model.decision_function(numbers_of(rows))
    distances = np.maximum(margins / np.linalg.norm(model.coef_[0] * deviations), 0.0)
    for told, true in zip(found.distances, distances, strict=True):
        if told == NOT_EVADED:
            # The table's own values end before the boundary is reached.
            assert true > 0.5
        elif true == 0.0:
            assert told == 0
        else:
            assert 0.998 * true - 0.002 <= told / 1000 <= 1.1 * true + 0.01
    assert sum(told != NOT_EVADED for told in found.distances) >= 8
    assert found.baselineDistances is None


def test_both_models_are_attacked_at_the_same_rows_and_the_same_again(pod: Pod) -> None:
    write(pod.table, people(300))
    _, made = wide(people(seed=1))
    _, other = wide([row for row in people(seed=2) if row["sex"] == "male"])
    quick = ASKED.model_copy(update={"queries": 300})
    digest = pod.model(made)
    same = evaded(pod, task(digest, quick, baseline=pod.model(made, "baseline")))
    assert same.distances == same.baselineDistances
    differ = evaded(pod, task(digest, quick, baseline=pod.model(other, "baseline")))
    assert differ.distances == same.distances != differ.baselineDistances
    assert len(same.distances) == ASKED.rows


def test_points_keep_to_the_bounds_of_a_column(pod: Pod) -> None:
    write(pod.table, [{**row, "repaid": 0} for row in people(10)])
    digest = pod.model(above(85.0))
    reach = {"minimum": 18.0, "maximum": 90.0}
    assert max(evaded(pod, task(digest, inputs=columns(age=reach))).distances) < NOT_EVADED
    short = {"minimum": 18.0, "maximum": 85.0}
    assert set(evaded(pod, task(digest, inputs=columns(age=short))).distances) == {NOT_EVADED}
    # People are 79 at most: without bounds, columns stay within what the table has.
    assert set(evaded(pod, task(digest)).distances) == {NOT_EVADED}


@pytest.mark.parametrize("bound", [{"minimum": 200.0}, {"maximum": -5.0}])
def test_a_table_beyond_the_one_bound_of_a_column_can_be_attacked(pod: Pod, bound: dict[str, float]) -> None:
    write(pod.table, [{**row, "repaid": int("minimum" in bound)} for row in people(10)])
    found = evaded(pod, task(pod.model(above(85.0)), inputs=columns(age=bound)))
    assert set(found.distances) == {NOT_EVADED}


def test_points_of_whole_numbers_are_whole_and_the_distance_is_to_them(pod: Pod) -> None:
    rows = [{"income": 0.1 * place, "age": place % 2, "repaid": place % 2} for place in range(10)]
    write(pod.table, rows)
    digest = pod.model(above(0.3))
    whole = {"type": "Integer", "minimum": 0.0, "maximum": 1.0}
    found = evaded(pod, task(digest, inputs=columns(age=whole)))
    # A deviation is a half, and from 0 to 1 there is nothing between: two of them, whatever income does.
    assert min(found.distances) == 2000


@pytest.mark.parametrize(
    "how",
    [
        {"attack": ASKED.model_copy(update={"fixedColumns": ("age",)})},
        {"inputs": columns(age={"enum": ("18", "19")})},
    ],
)
def test_what_nobody_can_move_is_not_moved(pod: Pod, how: dict[str, Any]) -> None:
    write(pod.table, [{**row, "repaid": int(row["age"] > 50)} for row in people(10)])
    digest = pod.model(above(50.0))
    assert min(evaded(pod, task(digest)).distances) < NOT_EVADED
    assert set(evaded(pod, task(digest, **how)).distances) == {NOT_EVADED}


def test_an_empty_cell_stays_empty_and_a_row_that_is_wrong_as_it_is_has_no_distance(pod: Pod) -> None:
    rows = [{"income": "" if place == 3 else place - 4.5, "age": place, "repaid": 0} for place in range(10)]
    write(pod.table, rows)
    fixed = ASKED.model_copy(update={"fixedColumns": ("age",)})
    found = evaded(pod, task(pod.model(above(0.0, 0)), fixed))
    assert found.distances[3] == NOT_EVADED
    assert set(found.distances[5:]) == {0}
    assert all(0 < each < NOT_EVADED for each in (*found.distances[:3], found.distances[4]))


def test_an_image_without_attacks_says_which_image_has_them(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pod.table, people(10))
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    assert "the chart's audit.image.repository" in pod.refused(task(pod.model(above(0.0))))
