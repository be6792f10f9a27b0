"""Differences of routers' counters: no whole life is ever one look, and no count is lost below nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.observed import ArmCount
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.rollout.counter import Counter, count
from slipway.core.rollout.interest import Interest
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState, RouterState

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def interest(look: str = "1", weight: int = 10) -> Interest:
    return Interest(("b", "a"), ("b.1", weight), look, NOW, 30.0)


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
        self.counter: ArmCounter | None = None
        self.looks = 0

    def look(self, lives: dict[str, str] | None = None, **states: RouterState) -> tuple[int, int, int]:
        """Requests of stable and canary since the look before, and the canary's errors."""
        named = lives or {name: f"{name}/0" for name in states}
        self.looks += 1
        moment = f"2026-11-24T12:{self.looks // 60:02}:{self.looks % 60:02}Z"
        shown = {named[name]: state.arms for name, state in states.items()}
        self.counter, (canary, stable) = count_arms(self.counter, interest(moment), "fraud", shown)
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
    nothing = ArmCount(slow=dict.fromkeys(ArmCounters().slow, 0))
    counter, _ = count_arms(None, interest(), "fraud", {"1/0": shows(100, 10).arms})
    _, found = count_arms(counter, interest(weight=50), "fraud", {"1/0": shows(900, 90).arms})
    assert found == (nothing, nothing)


PODS = {f"{number}": "canary" if number % 2 else "stable" for number in range(4)}


class Pods:
    """Pods that count, and what really happened: nothing of it is hidden from the test."""

    def __init__(self, past: int) -> None:
        self.lives = dict.fromkeys(PODS, 0)
        self.counts = {pod: {"ok": float(past)} for pod in PODS}
        self.fresh: set[str] = set()
        #: Of each arm since the look, all of it and what no restart took away.
        self.begin()
        self.read()

    def begin(self) -> None:
        self.happened, self.sure = ({"canary": 0, "stable": 0} for _ in range(2))

    def read(self) -> dict[str, dict[str, dict[str, float]]]:
        """Everything that they show; what came since is lost with a restart."""
        self.unread = dict.fromkeys(PODS, 0)
        self.fresh.clear()
        return {self.life(pod): {PODS[pod]: dict(counts)} for pod, counts in self.counts.items()}

    def life(self, pod: str) -> str:
        return f"{pod}/{self.lives[pod]}"

    def serve(self, pod: str, code: str, requests: int) -> None:
        self.counts[pod][code] = self.counts[pod].get(code, 0.0) + requests
        self.happened[PODS[pod]] += requests
        self.sure[PODS[pod]] += requests
        self.unread[pod] += requests

    def restart(self, pod: str, is_told: bool) -> None:
        """The cluster may tell of it later than the counters show it."""
        self.counts[pod] = {}
        self.sure[PODS[pod]] -= self.unread[pod] if is_told else 10**9
        self.unread[pod] = 0
        if is_told:
            self.lives[pod] += 1
            self.fresh.add(self.life(pod))


STEPS = st.one_of(
    st.tuples(
        st.just("serve"), st.sampled_from(list(PODS)), st.sampled_from(["ok", "bad"]), st.integers(0, 9)
    ),
    st.tuples(st.just("restart"), st.sampled_from(list(PODS)), st.booleans()),
    st.tuples(st.just("read")),
    st.tuples(st.just("look")),
    st.tuples(st.just("split")),
)


@given(st.lists(STEPS, max_size=60), st.integers(0, 10_000))
def test_a_look_has_what_happened_since_the_one_before_and_never_more(
    course: list[tuple[Any, ...]], past: int
) -> None:
    pods, look, split = Pods(past), 0, 0
    counter: Counter[str] = count(None, split, look, pods.read())
    for what, *rest in course:
        if what == "serve":
            pods.serve(*rest)
            continue
        if what == "restart":
            pods.restart(*rest)
            continue
        if what == "split":
            split += 1
            pods.begin()
        fresh = set(pods.fresh)
        counter = count(counter, split, look, pods.read(), fresh)
        for arm in ("canary", "stable"):
            counted = counter.of(arm)
            assert pods.sure[arm] <= sum(counted.values()) <= pods.happened[arm]
            assert min(counted.values(), default=0.0) >= 0.0
        if what == "look":
            look += 1
            pods.begin()


def test_a_look_that_status_did_not_take_goes_on() -> None:
    counter = count(None, "split", "look 1", {"life": {"arm": {"ok": 5.0}}})
    for shown in (7.0, 9.0):
        counter = count(counter, "split", "look 1", {"life": {"arm": {"ok": shown}}})
    assert counter.of("arm") == {"ok": 4.0}
    counter = count(counter, "split", "look 2", {"life": {"arm": {"ok": 10.0}}})
    assert counter.of("arm") == {"ok": 1.0}
    assert counter.of("another") == {}


def test_lives_that_are_gone_leave_their_counts_and_nothing_else() -> None:
    counter = count(None, 0, 0, {"a": {"arm": {"ok": 5.0}}, "b": {"arm": {"ok": 5.0}}})
    counter = count(counter, 0, 0, {"a": {"arm": {"ok": 7.0}}, "b": {"arm": {"ok": 6.0}}})
    counter = count(counter, 0, 0, {"a": {"arm": {"ok": 7.0}}})
    assert counter.of("arm") == {"ok": 3.0}
    assert counter.last.keys() == {"a"}


def test_strangers_who_are_not_let_in_are_no_evidence_and_no_restart() -> None:
    def seen(requests: int, refused: int, errors: int) -> dict[str, Any]:
        arm = ArmState(counters=ArmCounters(requests, errors, meant=requests, refused=refused))
        return {"router/0": {("fraud", "b"): arm, ("fraud", "a"): arm}}

    counter, _ = count_arms(None, interest(), "fraud", seen(1_000, 0, 0))
    # Ninety thousand without a key, next to thirty of a thousand that failed.
    counter, (canary, _) = count_arms(counter, interest(), "fraud", seen(92_000, 90_000, 30))
    assert (canary.requests, canary.errors, canary.meant) == (1_000, 30, 91_000)
    # Statistics are read one after the other: more may be refused by then than were answered before.
    counter, (canary, _) = count_arms(counter, interest(), "fraud", seen(92_000, 90_010, 30))
    assert canary.requests == 990
    _, (canary, _) = count_arms(counter, interest(), "fraud", seen(92_110, 90_010, 31))
    assert (canary.requests, canary.errors) == (1_100, 31)
