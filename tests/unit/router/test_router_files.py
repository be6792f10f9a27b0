"""The router's configuration as a pure function of the routes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.core.traffic.envoy import config
from slipway.core.traffic.envoy.routes import Arm, Route, bridge, defined, is_safe, next_state, refusal, used

A = Arm("aaaaaaaaaa", "fraud-aaaaaaaaaa-pods.payments.svc.cluster.local", 8080)
B = Arm("bbbbbbbbbb", "fraud-bbbbbbbbbb-pods.payments.svc.cluster.local", 8080)
FRAUD = Route("fraud", 10000, A)
NAMES = ("fraud", "a", "churn-2", "x" * 63, "9lives")


def test_a_shift_of_traffic_changes_one_file() -> None:
    before = config.files([replace(FRAUD, canary=B, weight=10), Route("other", 10001, A)])
    after = config.files([replace(FRAUD, canary=B, weight=50), Route("other", 10001, A)])
    assert [name for name in after if after[name] != before[name]] == ["weights.json"]


@st.composite
def route(draw: st.DrawFn, name: str = "fraud", listener: int = 10000) -> Route:
    revisions = draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=2, unique=True))
    # A revision's pods are the same wherever it is named.
    stable, canary = (Arm(found, f"{found}.pods.svc", 8080) for found in revisions)
    found = Route(
        name,
        listener,
        stable,
        affinity_header=draw(st.sampled_from([None, "x-user-id"])),
        timeout_milliseconds=draw(st.integers(1, 60000)),
    )
    if draw(st.booleans()):
        return found
    return replace(
        found,
        canary=canary,
        weight=draw(st.integers(0, 100)),
        mirror_percent=draw(st.integers(0, 100)),
    )


@st.composite
def namespaces(draw: st.DrawFn) -> list[Route]:
    names = draw(st.lists(st.sampled_from(NAMES), max_size=5, unique=True))
    return [draw(route(name, 10000 + number)) for number, name in enumerate(names)]


@given(namespaces(), st.randoms())
@settings(max_examples=20, deadline=None)
def test_the_same_routes_give_the_same_files_in_any_order(found: list[Route], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(config.files(shuffled).items()) == list(config.files(found).items())


@given(namespaces())
@settings(max_examples=20, deadline=None)
def test_routes_name_only_clusters_that_are_defined(found: list[Route]) -> None:
    files = config.files(found)
    clusters = {cluster["name"] for cluster in json.loads(files["clusters.json"])["resources"]}
    (weights,) = json.loads(files["weights.json"])["resources"]
    hosts = {host["name"]: host for host in weights["virtual_hosts"]}
    for one in found:
        assert used(one) <= defined(one) <= clusters
        assert set(_named(hosts[one.name])) == used(one)
        assert one.name not in config.render(found).refused
    assert clusters == {name for one in found for name in defined(one)}


def _named(node: object) -> list[str]:
    if isinstance(node, list):
        return [name for inner in node for name in _named(inner)]
    if not isinstance(node, dict):
        return []
    own = [node["cluster"]] if isinstance(node.get("cluster"), str) else []
    own += [part["name"] for part in node.get("clusters", ()) if isinstance(part, dict)]
    return own + [name for inner in node.values() for name in _named(inner)]


@given(st.none() | route(), route())
@settings(max_examples=100, deadline=None)
def test_every_state_is_reached_from_every_other_without_a_gap(before: Route | None, wanted: Route) -> None:
    """argoproj/argo-rollouts#4390: a revision that is still routed to must not be taken away."""
    steps = 0
    while before != wanted:
        after = bridge(before, wanted)
        if before is not None:
            assert is_safe(before, after)
        assert after.weight in (0, wanted.weight)
        before, steps = after, steps + 1
        assert steps <= 6
    assert bridge(wanted, wanted) == wanted or wanted == before


def test_a_weight_is_changed_in_one_step() -> None:
    before = replace(FRAUD, canary=B, weight=10)
    assert bridge(before, replace(before, weight=50)) == replace(before, weight=50)
    assert bridge(before, replace(before, weight=0)) == replace(before, weight=0)


def test_a_new_model_is_closed_until_its_clusters_are_loaded() -> None:
    first = bridge(None, FRAUD)
    assert first.closed
    assert bridge(first, FRAUD) == FRAUD


def test_a_direct_swap_of_the_stable_revision_is_not_safe() -> None:
    assert not is_safe(FRAUD, replace(FRAUD, stable=B))
    assert is_safe(replace(FRAUD, canary=B, weight=100), replace(FRAUD, stable=B, canary=A))


def test_routers_in_one_state_and_in_the_wanted_one_go_straight_there() -> None:
    half = replace(FRAUD, canary=B, weight=50)
    assert next_state([], FRAUD) == bridge(None, FRAUD)
    assert next_state([FRAUD], half) == bridge(FRAUD, half)
    assert next_state([half, half], half) == half
    assert next_state([replace(half, weight=10), half], half) == half


def test_routers_come_together_where_no_state_is_safe_for_all_of_them() -> None:
    swapped = replace(FRAUD, stable=B)
    assert next_state([FRAUD, swapped], FRAUD) == swapped
    assert next_state([swapped, FRAUD], swapped) == FRAUD


BAD = [
    (replace(FRAUD, name="Fraud/1"), "is no DNS label"),
    (replace(FRAUD, listener=80), "listener 80"),
    (replace(FRAUD, listener=9901), "listener 9901"),
    (replace(FRAUD, stable=replace(A, host="a b")), "host"),
    (replace(FRAUD, stable=replace(A, revision="a-else-b")), "-else-"),
    (replace(FRAUD, stable=replace(A, port=0)), "port"),
    (replace(FRAUD, stable=replace(A, grpc_port=70000)), "port"),
    (replace(FRAUD, canary=A), "same revision"),
    (replace(FRAUD, weight=10), "no canary"),
    (replace(FRAUD, canary=B, weight=101), "weight 101"),
    (replace(FRAUD, canary=B, mirror_percent=-1), "mirror -1"),
    (replace(FRAUD, affinity_header=":path"), "no name of a header"),
    (replace(FRAUD, affinity_header="a b"), "no name of a header"),
    (replace(FRAUD, timeout_milliseconds=0), "timeout of 0 ms"),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_a_bad_route_is_left_out_with_its_reason(bad: Route, words: str) -> None:
    good = Route("good", 10001, A)
    rendered = config.render([bad, good])
    assert words in rendered.refused[bad.name]
    assert rendered.files == config.files([good])


def test_the_second_route_with_a_name_or_a_listener_is_left_out() -> None:
    rendered = config.render([FRAUD, Route("other", FRAUD.listener, A), replace(FRAUD, listener=10007)])
    assert rendered.files == config.files([FRAUD])
    assert rendered.refused["other"] == "listener 10000 belongs to fraud"


def test_a_full_router_refuses_the_next_model_and_keeps_the_others() -> None:
    long = [
        Route(f"{number:03}" + "m" * 60, 10000 + number, Arm("r" * 10, "h" * 200, 8080, 9000))
        for number in range(120)
    ]
    rendered = config.render(long)
    served = 120 - len(rendered.refused)
    assert 60 <= served < 120
    assert set(rendered.refused) == {one.name for one in long[served:]}
    assert "Dedicated" in rendered.refused[long[-1].name]
    # A canary for every one of them takes nobody's place.
    all_canary = [replace(one, canary=replace(one.stable, revision="s" * 10), weight=5) for one in long]
    again = config.render(all_canary)
    assert set(again.refused) == set(rendered.refused)
    assert max(map(len, again.files.values())) <= config.MAX_FILE_BYTES


def test_a_hundred_models_with_canaries_fit() -> None:
    found = [
        Route(name, 10000 + number, _pods(name, "a" * 10), _pods(name, "b" * 10), weight=10, mirror_percent=5)
        for number, name in enumerate(f"model-{number:03}" for number in range(100))
    ]
    assert config.render(found).refused == {}


def _pods(name: str, revision: str) -> Arm:
    """As in a cluster, where both protocols are answered."""
    return Arm(revision, f"{name}-{revision}.payments.svc", 8080, 9000)


@given(route())
@settings(max_examples=20, deadline=None)
def test_generated_routes_are_good(found: Route) -> None:
    assert refusal(found) is None


def test_a_shift_of_traffic_renders_its_own_route_alone() -> None:
    arms = [Arm(letter * 10, f"rendered-{letter}", 8080, 9000) for letter in "ab"]
    routes = [Route(f"rendered-{number}", 10000 + number, *arms) for number in range(20)]
    config.render(routes)
    texts = (config._host, config._clusters_between, config._listener)
    before = [text.cache_info().misses for text in texts]
    config.render([replace(routes[0], weight=10), *routes[1:]])
    assert [text.cache_info().misses - known for text, known in zip(texts, before, strict=True)] == [1, 0, 0]
