"""Whether a canary's answers are spread as stable's are in the same looks."""

from __future__ import annotations

import numpy as np
import pytest

from slipway.api.rollout import Analysis, Gate
from slipway.api.rollout_status import MAX_BINS, PredictionStatus
from slipway.core.observed import ArmCount, ObservedTraffic, ServedCount
from slipway.core.rollout.gates import judge_gates
from slipway.core.rollout.looks import with_look
from slipway.core.rollout.new_look import new_look
from slipway.core.rollout.prediction_shift import common_bins, shifts


def look(canary: tuple[int, ...], stable: tuple[int, ...], output: str = "label") -> PredictionStatus:
    return PredictionStatus(output=output, canary=canary, stable=stable)


def test_the_index_is_that_of_the_formula_where_looks_have_one_split() -> None:
    (one,) = shifts([(look((600, 400), (900, 100)),), (look((580, 420), (910, 90)),)], 0.2)
    seen, expected = (1180.5 / 2001, 820.5 / 2001), (1810.5 / 2001, 190.5 / 2001)
    psi = sum((p - q) * np.log(p / q) for p, q in zip(seen, expected, strict=True))
    assert one.drift.psi == pytest.approx(psi, rel=1e-9)
    assert one.drift.noise == pytest.approx(1 / 2000 + 1 / 2000)
    assert one.is_beyond


def test_a_season_that_falls_together_with_a_change_of_weight_is_no_shift() -> None:
    """Simpson's paradox: both answer alike at any time, but the canary had most of the evening."""
    day, evening = (look((90, 10), (8100, 900)),), (look((2500, 2500), (2500, 2500)),)
    (one,) = shifts([day, evening], 0.05)
    assert not one.is_beyond
    assert one.drift.excess < 0.01
    (pooled,) = shifts([(look((2590, 2510), (10600, 3400)),)], 0.05)
    assert pooled.is_beyond


def test_what_is_beyond_the_limit_comes_first_and_then_the_furthest() -> None:
    alike, far = ((500, 500), (500, 500)), ((600, 400), (900, 100))
    further = ((400, 600), (900, 100))
    outputs = (look(*alike, "a"), look(*far, "b"), look(*alike, "c"), look(*further, "d"))
    assert [one.output for one in shifts([outputs], 0.2)] == ["d", "b", "a", "c"]


def test_few_answers_are_no_verdict_however_different() -> None:
    (one,) = shifts([(look((0, 900), (5000, 0)),)], 0.2)
    assert not one.is_known
    assert not one.is_beyond
    assert not one.is_ruled_out


def test_a_shift_is_ruled_out_only_where_one_as_large_as_the_limit_would_have_shown() -> None:
    alike = [(look((500, 500), (500, 500)),)]
    assert shifts(alike, 0.2)[0].is_ruled_out
    assert not shifts(alike, 0.01)[0].is_ruled_out
    assert shifts([(look((50_000, 50_000), (50_000, 50_000)),)], 0.01)[0].is_ruled_out


def test_bins_of_another_profile_are_left_out_and_one_class_alone_cannot_shift() -> None:
    before, now = (look((0, 1000), (1000, 0)),), (look((0, 1000, 0), (0, 1000, 0)),)
    (one,) = shifts([before, now], 0.2)
    assert not one.is_beyond
    assert one.is_ruled_out
    assert shifts([], 0.2) == []
    assert not shifts([(look((0, 0), (0, 0)),)], 0.2)[0].is_known


def test_classes_that_one_profile_alone_names_count_as_other_for_both() -> None:
    canary = {"a": 5, "b": 7, "other": 2, "missing": 1}
    stable = {"a": 50, "c": 7, "other": 20, "missing": 10}
    assert common_bins(canary, stable) == ((5, 1, 9), (50, 10, 27))


def test_intervals_with_other_edges_cannot_be_compared() -> None:
    assert common_bins({"(-inf,1]": 3, "(1,+inf)": 4}, {"(-inf,2]": 3, "(2,+inf)": 4}) is None
    same = {"(-inf,1]": 3, "(1,+inf)": 4}
    assert common_bins(same, same) == ((3, 4, 0), (3, 4, 0))


def test_a_profile_of_many_classes_is_kept_within_the_bounds_of_status() -> None:
    many = {str(number): number for number in range(100)}
    found = common_bins(many, many)
    assert found is not None
    assert len(found[0]) == MAX_BINS
    assert sum(found[0]) == sum(many.values())


def test_a_shift_that_begins_late_is_found_though_all_looks_together_hide_it() -> None:
    good, bad = (look((5000, 5000), (5000, 5000)),), (look((9000, 1000), (5000, 5000)),)
    assert not shifts([good] * 500, 0.2)[0].is_beyond
    (one,) = shifts([good] * 500 + [bad], 0.2)
    assert one.is_beyond
    assert one.drift.rows == 10_000
    (summed,) = shifts([(look((2_500_000, 2_500_000), (2_500_000, 2_500_000)),), bad], 0.2, [500, 1])
    assert summed.drift.psi == one.drift.psi


def test_counts_of_other_bins_are_no_counts_of_these_though_they_are_as_many() -> None:
    other = look((0, 5000), (5000, 0)).model_copy(update={"bins": "a"})
    now = look((1000, 1000), (1000, 1000)).model_copy(update={"bins": "b"})
    (one,) = shifts([(other,)] * 3 + [(now,)], 0.2)
    assert one.drift.rows == 2000
    assert not one.is_beyond


@pytest.mark.parametrize(
    ("canary", "stable", "why"),
    [
        (
            {"output_label": {"a": 900, "b": 100}},
            {"label": {"a": 9000, "b": 1000}, "probabilities": {"(0,1]": 10_000}},
            ": the canary counts 'output_label', and stable 'label' and 'probabilities'",
        ),
        ({}, {"label": {"a": 9}}, ": the canary counts none, and stable 'label'"),
        (
            {"variable": {"(0,1]": 9}},
            {"variable": {"(0,2]": 9}},
            ": both count 'variable', but in other bins",
        ),
        ({}, {}, ""),
    ],
)
def test_answers_that_cannot_be_compared_are_told_with_what_each_counts(
    canary: dict[str, dict[str, int]], stable: dict[str, dict[str, int]], why: str
) -> None:
    gates = (Gate(name="answers", type="PredictionShift"),)
    counts = ObservedTraffic(
        canary=ArmCount(1000),
        stable=ArmCount(9000),
        canary_served=ServedCount(1000, predictions=canary),
        stable_served=ServedCount(9000, predictions=stable),
    )
    look = new_look(gates, counts)
    assert look is not None
    # Looks are summed once there are many.
    for looks in ((look,), with_look([look] * 60, look, gates)):
        (said,) = judge_gates(Analysis(intervalSeconds=5, maxDurationSeconds=60, gates=gates), looks)
        assert (said.verdict, said.message) == (
            "Inconclusive",
            f"no output is counted in the same bins by both revisions{why}",
        )
