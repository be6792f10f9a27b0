"""Counters of pods that come, go, restart and do not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.monitoring.windows import MOST_SERIES, Mark, Names, Row, Tally, begin, increase, remember


def total(*looks: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    tally = begin(looks[0])
    for look in looks[1:]:
        tally = tally.add(look)
    return tally.totals


def test_what_pods_counted_before_one_looked_is_not_counted() -> None:
    assert total({"a": {"x": 7, "y": 1}}, {"a": {"x": 9, "y": 1}}) == {"x": 2, "y": 0}


def test_pods_add_up() -> None:
    assert total({"a": {"x": 0}, "b": {"x": 5}}, {"a": {"x": 2}, "b": {"x": 8}}) == {"x": 5}


def test_a_pod_that_comes_later_counts_from_its_start() -> None:
    assert total({"a": {"x": 3}}, {"a": {"x": 4}, "b": {"x": 10}}) == {"x": 11}


def test_a_pod_that_restarted_counts_from_0_again() -> None:
    assert total({"a": {"x": 10}}, {"a": {"x": 4}}, {"a": {"x": 6}}) == {"x": 6}


def test_a_counter_that_overtook_what_it_was_is_known_by_another_that_fell() -> None:
    assert total({"a": {"x": 3, "y": 50}}, {"a": {"x": 20, "y": 1}}) == {"x": 20, "y": 1}


def test_a_pod_that_did_not_answer_once_loses_and_repeats_nothing() -> None:
    assert total({"a": {"x": 1}}, {}, {"a": {"x": 4}}) == {"x": 3}


def test_a_pod_that_is_gone_leaves_what_it_counted() -> None:
    tally = begin({"a": {"x": 0.0}}).add({"a": {"x": 4.0}}).add({}, gone={"a"})
    assert tally.totals == {"x": 4}
    assert tally.last == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.lists(st.sampled_from("xyz"), max_size=20), st.sampled_from("srn")
        ),
        max_size=40,
    )
)
def test_restarts_and_missed_answers_never_change_the_sum(history: list[tuple[str, list[str], str]]) -> None:
    """Three replicas count events; some restart right after they were looked at, some are not looked at."""
    truth: Counter[str] = Counter()
    pods = {name: Counter[str]({"x": 0, "y": 0, "z": 0}) for name in "abc"}
    lives = dict.fromkeys("abc", 0)
    tally = begin({f"{name}/0": dict(pod) for name, pod in pods.items()})
    for name, events, what in history:
        pods[name].update(events)
        truth.update(events)
        run = f"{name}/{lives[name]}"
        if what != "n":
            tally = tally.add({run: dict(pods[name])})
        if what == "r":
            lives[name] += 1
            pods[name] = Counter({"x": 0, "y": 0, "z": 0})
    tally = tally.add({f"{name}/{lives[name]}": dict(pod) for name, pod in pods.items()})
    assert {name: tally.totals[name] for name in "xyz"} == {name: truth[name] for name in "xyz"}


@pytest.mark.parametrize("most", [0.0, 65_535.0, 65_536.0, 2.0**32 - 1, 2.0**32, 2.0**53, 0.5, 1e6 + 0.25])
def test_a_row_holds_every_count_exactly(most: float) -> None:
    counts = {"x": most, "y": 1.0}
    row = Row(counts, Names())
    assert dict(row) == counts
    assert all(isinstance(value, float) for value in row.values())
    assert row.is_same(Row({**counts, "x": most}, Names(row._names.table)))


def marks(*points: tuple[float, float], span: float = 1e9, spacing: float = 0.0) -> tuple[Mark[str], ...]:
    kept: tuple[Mark[str], ...] = ()
    for at, value in points:
        kept = remember(kept, Mark(at, {"x": value}), span, spacing)
    return kept


def test_a_window_lies_between_the_last_marks_at_its_ends() -> None:
    found = increase(marks((0, 1), (60, 3), (120, 9), (180, 10)), 90, 180)
    assert found is not None
    assert (found.counts, found.seconds) == ({"x": 7}, 120)


def test_a_series_that_was_not_there_at_the_start_counts_whole() -> None:
    kept = (Mark(0.0, {"x": 1.0}), Mark(60.0, {"x": 2.0, "y": 5.0}))
    found = increase(kept, 0, 60)
    assert found is not None
    assert found.counts == {"x": 1, "y": 5}


def test_a_window_that_no_mark_reaches_back_to_is_none() -> None:
    assert increase(marks((60, 1), (120, 2)), 0, 120) is None
    assert increase(marks((60, 1)), 60, 120) is None
    assert increase((), 0, 1) is None


def test_only_what_a_window_may_need_is_remembered() -> None:
    kept = marks(*((60.0 * minute, minute) for minute in range(600)), span=3600, spacing=300)
    assert len(kept) <= 15
    found = increase(kept, kept[-1].at - 3600, kept[-1].at)
    assert found is not None
    assert 3600 <= found.seconds <= 3900
    assert found.counts["x"] == found.seconds / 60


def test_marks_come_in_order() -> None:
    with pytest.raises(ValueError, match="comes after"):
        remember(marks((60, 1)), Mark(0.0, {"x": 1.0}), 60)


def test_a_tally_is_not_changed_by_adding() -> None:
    before: Tally[str] = begin({"a": {"x": 1.0}})
    before.add({"a": {"x": 5.0}})
    assert before.totals == {"x": 0}


def test_series_beyond_what_a_model_server_has_are_not_remembered() -> None:
    tally = begin({"a": {"honest": 1.0}})
    names: Names[str] = Names()
    for scrape in range(4):
        shown = {"honest": 2.0 + scrape, **{f"{scrape}-{number}": 1.0 for number in range(MOST_SERIES // 2)}}
        tally = tally.add({"a": Row(shown, names)})
    assert len(names) == MOST_SERIES
    assert len(tally.totals) <= MOST_SERIES
    assert "honest" in tally.totals
