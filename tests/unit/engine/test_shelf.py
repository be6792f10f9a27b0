"""What lies on a shelf comes back as it was, and takes a tenth of the memory."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core import naming
from slipway.engine import shelf as shelving
from slipway.engine.shelf import Item, Shelf

KINDS = ("Deployment", "Pod")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=9)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXTS, part, max_size=3),
    max_leaves=9,
)


def manifest(number: int, version: int = 1, kind: str = "Deployment", **more: Any) -> dict[str, Any]:
    meta = {
        "name": f"fraud-{number}",
        "namespace": "payments",
        "uid": f"{kind}-{number}",
        "resourceVersion": str(version),
        "labels": {naming.COMPONENT_LABEL: "model-server", naming.MODEL_LABEL: f"fraud-{number}"},
    }
    # As they come: no two have anything in common.
    found: dict[str, Any] = json.loads(json.dumps({"kind": kind, "metadata": meta, **more}))
    return found


@pytest.fixture(autouse=True)
def few_lie_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelving, "MOST_OPEN", 2)
    monkeypatch.setattr(shelving, "RENEWED", 3)


def filled(*manifests: dict[str, Any]) -> tuple[Shelf[str], list[Item[str]]]:
    shelf: Shelf[str] = Shelf()
    return shelf, [shelf.put(found, "somebody") for found in manifests]


@given(st.lists(st.tuples(st.sampled_from(KINDS), VALUES), max_size=12))
def test_whatever_an_object_holds_comes_back_as_it_was(found: list[tuple[str, Any]]) -> None:
    manifests = [manifest(number, kind=kind, spec=value) for number, (kind, value) in enumerate(found)]
    shelf, items = filled(*manifests)
    for _ in range(2):
        assert [repr(item.look()) for item in items] == list(map(repr, manifests))
        assert [repr(shelf.open(item)) for item in items] == list(map(repr, manifests))


def test_those_that_came_last_lie_open_and_those_before_are_packed() -> None:
    manifests = [manifest(number) for number in range(5)]
    shelf, items = filled(*manifests)
    assert [item.look() is found for item, found in zip(items, manifests, strict=True)] == [False] * 3 + [
        True
    ] * 2
    opened = shelf.open(items[0])
    assert items[0].look() is opened, "it is not unpacked again for the next who asks"
    assert items[3].look() is not manifests[3]


def test_another_state_takes_the_place_of_the_one_before_also_of_one_that_is_packed() -> None:
    shelf, items = filled(*(manifest(number) for number in range(5)))
    later = manifest(0, version=7, spec={"replicas": 2})
    shelf.replace(items[0], later)
    assert items[0].is_state(later)
    assert not items[0].is_state(manifest(0))
    for item in items[1:]:
        shelf.open(item)
    assert items[0].look() == later
    assert items[0].look() is not later


def test_what_is_dropped_is_not_packed_any_more() -> None:
    shelf, items = filled(*(manifest(number) for number in range(2)))
    shelf.drop(items[0])
    shelf.put(manifest(2), "somebody")
    assert items[1].look() is items[1].look(), "there was room"


def test_the_files_of_many_routes_stay_as_they_are() -> None:
    large = manifest(0, data={"routes": "x" * shelving.LARGE})
    shelf, items = filled(large, *(manifest(number) for number in range(1, 5)))
    assert items[0].look() is large
    small = manifest(0, version=2)
    shelf.replace(items[0], small)
    for number in range(5, 9):
        shelf.put(manifest(number), "somebody")
    assert items[0].look() == small
    assert items[0].look() is not small


def test_a_hundred_alike_take_less_than_a_tenth_of_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelving, "RENEWED", 50)
    containers = [{"name": "server", "env": [{"name": f"A{n}", "value": f"{n}"} for n in range(30)]}]

    def taken() -> int:
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = taken()
        plain = [manifest(number, spec={"containers": containers}) for number in range(100)]
        between = taken()
        kept = filled(*(manifest(number, spec={"containers": containers}) for number in range(100)))
        after = taken()
    finally:
        tracemalloc.stop()
    assert len(plain) == len(kept[1])
    assert 10 * (after - between) < between - before
