"""Differences of routers' counters: no whole life is ever one look, and no count is lost below nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.observed import ArmCount, ObservedTraffic
from slipway.core.resource import Resource, read
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState, RouterState
from slipway.engine.observers.tally import Tally

TRAFFIC = ObservedTraffic(
    routers=1, synced_routers=1, weights=frozenset({10}), receiving=frozenset({"a", "b"})
)


def resource(looked: str = "2026-11-24T12:00:00Z") -> Resource:
    revision = {"version": "1", "digest": f"sha256:{'0' * 64}", "replicas": 1, "readyReplicas": 1}
    rollout = {
        "phase": "Progressing",
        "revision": "b",
        "id": "b.1",
        "startedAt": "2026-11-24T12:00:00Z",
        "stepStartedAt": "2026-11-24T12:00:00Z",
        "lookedAt": looked,
    }
    found = read(
        {
            "metadata": {"name": "fraud", "namespace": "payments", "uid": "1"},
            "spec": {"model": {"uri": "mlflow://fraud/1"}},
            "status": {
                "stable": {"revision": "a", **revision},
                "canary": {"revision": "b", **revision},
                "rollout": rollout,
            },
        }
    )
    assert found.status.rollout is not None, "the status has to be one that can be read"
    return found


def shows(stable: int | None, canary: int | None, errors: int = 0) -> RouterState:
    counted = {"a": (stable, 0), "b": (canary, errors)}
    arms = {
        ("fraud", revision): ArmState(counters=ArmCounters(requests, bad, meant=requests))
        for revision, (requests, bad) in counted.items()
        if requests is not None
    }
    return RouterState({}, arms, frozenset(), frozenset())


class Routers:
    """Routers as they are read, one look after the other."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.looks = 0

    def look(self, lives: dict[str, str] | None = None, **states: RouterState) -> tuple[int, int, int]:
        """Requests of stable and canary since the look before, and the canary's errors."""
        named = lives or {name: f"{name}/0" for name in states}
        self.looks += 1
        moment = f"2026-11-24T12:{self.looks // 60:02}:{self.looks % 60:02}Z"
        canary, stable = self.tally.count(resource(moment), states, named, TRAFFIC)
        assert canary is not None
        assert stable is not None
        assert min(canary.requests, stable.requests, canary.errors, canary.meant) >= 0
        return stable.requests, canary.requests, canary.errors


def test_a_look_is_what_was_counted_since_the_one_before() -> None:
    routers = Routers()
    assert routers.look(one=shows(50_000, 5_000, 900)) == (0, 0, 0)
    assert routers.look(one=shows(50_090, 5_010, 901)) == (90, 10, 1)
    assert routers.look(one=shows(50_190, 5_020, 903)) == (100, 10, 2)


def test_a_router_that_restarts_and_overtakes_itself_counts_nothing_of_two_lives() -> None:
    routers = Routers()
    routers.look({"one": "1/0"}, one=shows(50, 5, 4))
    assert routers.look({"one": "1/1"}, one=shows(900, 100, 3)) == (0, 0, 0)
    assert routers.look({"one": "1/1"}, one=shows(990, 110, 3)) == (90, 10, 0)


@pytest.mark.parametrize("fallen", [shows(40, 5_100, 910), shows(50_090, 5_100, 3), shows(50_090, 7, 901)])
def test_a_counter_that_fell_takes_the_look_of_its_router_with_it(fallen: RouterState) -> None:
    """Its restart may be seen before the cluster tells it; or a part of what it counted is gone."""
    routers = Routers()
    routers.look(one=shows(50_000, 5_000, 900), two=shows(10, 1))
    assert routers.look(one=fallen, two=shows(100, 11, 1)) == (90, 10, 1)


def test_a_router_that_takes_anothers_place_or_name_brings_none_of_its_past() -> None:
    routers = Routers()
    routers.look(one=shows(50_000, 5_000, 900))
    assert routers.look(other=shows(70_000, 7_000, 100)) == (0, 0, 0)
    assert routers.look({"other": "another/0"}, other=shows(90_000, 9_000, 100)) == (0, 0, 0)
    assert routers.look({"other": "another/0"}, other=shows(90_009, 9_001, 100)) == (9, 1, 0)


def test_an_arm_that_is_not_shown_once_does_not_come_back_with_its_whole_life() -> None:
    routers = Routers()
    routers.look(one=shows(50_000, 5_000, 900))
    assert routers.look(one=shows(50_090, None)) == (90, 0, 0)
    assert routers.look(one=shows(50_180, 5_020, 902)) == (90, 20, 2)
    fresh = Routers()
    fresh.look(one=shows(50_000, None))
    assert fresh.look(one=shows(50_090, 5_010, 900)) == (90, 0, 0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(0, 20), st.sampled_from(["go on"] * 5 + ["restart", "hide"])
        ),
        max_size=20,
    ),
    st.integers(0, 100_000),
)
def test_whatever_a_router_does_a_look_has_no_more_than_came_since_the_last_that_showed_all(
    course: list[tuple[int, int, str]], past: int
) -> None:
    routers, stable, canary, life = Routers(), past, past, 0
    routers.look({"one": "1/0"}, one=shows(stable, canary, canary))
    waiting = 0
    for more, canarys, what in course:
        if what == "restart":
            stable, canary, life = 0, 0, life + 1
        stable, canary, waiting = stable + more, canary + canarys, waiting + canarys
        shown = shows(stable, None if what == "hide" else canary, canary)
        found = routers.look({"one": f"1/{life}"}, one=shown)
        assert found[0] <= more
        assert found[1] <= waiting
        assert found[2] <= found[1]
        waiting = waiting if what == "hide" else 0


def test_a_split_that_changes_begins_again() -> None:
    tally = Tally()
    lives = {"one": "1/0"}
    tally.count(resource(), {"one": shows(100, 10)}, lives, TRAFFIC)
    half = replace(TRAFFIC, weights=frozenset({50}))
    assert tally.count(resource(), {"one": shows(900, 90)}, lives, half) == (
        ArmCount(slow=dict.fromkeys(ArmCounters().slow, 0)),
        ArmCount(slow=dict.fromkeys(ArmCounters().slow, 0)),
    )
