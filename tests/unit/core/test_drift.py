"""Whether a live object still is what was asked for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.core.objects.diff import contains, quantity
from slipway.core.revision import revision_from, revision_of
from tests.unit.core.tables import model
from tests.unit.core.test_manifests import LARGEST, MANIFESTS, MODELS, SMALLEST

_leaves = st.one_of(st.booleans(), st.integers(-5, 5), st.text(max_size=4))
_keys = st.sampled_from(["a", "b", "c", "env", "spec"])
values: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=3)),
    max_leaves=12,
)


@given(values)
def test_everything_contains_itself(value: Any) -> None:
    assert contains(value, value)


@given(values, st.dictionaries(st.sampled_from(["x", "y"]), _leaves))
def test_what_others_add_to_maps_does_not_matter(value: Any, extra: dict[str, Any]) -> None:
    assert contains(_grown(value, extra), value)


@given(st.dictionaries(_keys, values, min_size=1), st.data())
def test_a_field_that_is_gone_matters_unless_it_was_empty(
    wanted: dict[str, Any], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(wanted)))
    live = {key: value for key, value in wanted.items() if key != gone}
    assert contains(live, wanted) == (wanted[gone] in ({}, []) and not isinstance(wanted[gone], bool))


@given(st.lists(values), values)
def test_an_item_too_many_or_too_few_matters(items: list[Any], more: Any) -> None:
    assert not contains([*items, more], items)
    assert not contains(items, [*items, more])


@pytest.mark.parametrize(
    ("live", "wanted", "is_there"),
    [
        (None, {}, True),
        (None, [], True),
        ([], [], True),
        ({}, {"a": {}}, True),
        (None, {"a": 1}, False),
        ("text", {}, False),
        ("text", ["t"], False),
        ({"a": [1, 2]}, {"a": (1, 2)}, True),
        ({"a": [2, 1]}, {"a": [1, 2]}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": "x"}, False),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1000m"}}, True),
        ({"requests": {"cpu": "1", "memory": "1Gi"}}, {"requests": {"memory": "1024Mi"}}, True),
        ({"limits": {"cpu": "2"}}, {"limits": {"cpu": "1"}}, False),
        ({"limits": {}}, {"limits": {"cpu": "1"}}, False),
        ({"limits": None}, {"limits": {"cpu": "1"}}, False),
    ],
)
def test_small_cases(live: Any, wanted: Any, is_there: bool) -> None:
    assert contains(live, wanted) is is_there


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        (2, 2),
        ("100m", Decimal("0.1")),
        ("0.5", Decimal("0.5")),
        (".5", Decimal("0.5")),
        ("5.", 5),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 1536 * 2**20),
        ("2e3", 2000),
        ("2E3", 2000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("3u", Decimal("0.000003")),
        ("4n", Decimal("0.000000004")),
        ("-1", -1),
        ("+1", 1),
    ],
)
def test_a_quantity_is_the_number_it_stands_for(text: str | int, number: int | Decimal) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", ".", "1.2.3", "one", "1 Gi", "1gi", "Gi", "1e", "--1", "1_000", "NaN"])
def test_what_is_no_quantity_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)


@given(st.integers(0, 10**9), st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi"]))
def test_a_thousandth_of_a_quantity_times_a_thousand_is_the_quantity(number: int, suffix: str) -> None:
    assert quantity(f"{number}{suffix}") == 1000 * quantity(f"{number}{suffix}") * quantity("1m")


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_contains_itself(name: str) -> None:
    assert contains(MANIFESTS[name], MANIFESTS[name])


@pytest.mark.parametrize("kind", ["smallest", "largest"])
def test_a_revision_is_remembered_as_it_was(kind: str) -> None:
    spec = {"smallest": SMALLEST, "largest": LARGEST}[kind]
    revision = revision_of(spec, MODELS[kind])
    remembered = revision_from(revision.content())
    assert remembered.name == revision.name
    assert remembered.content() == revision.content()


@pytest.mark.parametrize("content", [{}, {"model": None}, {"model": "text"}, {"model": {"uri": "x"}}])
def test_a_memory_that_is_not_slipways_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        revision_from(content)
    assert model(1).version == "1"


def _grown(value: Any, extra: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        # An empty map may be left out, and so may be anything else.
        return {**extra, **{key: _grown(item, extra) for key, item in value.items()}}
    return [_grown(item, extra) for item in value] if isinstance(value, list) else value
