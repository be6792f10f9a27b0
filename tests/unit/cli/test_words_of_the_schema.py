"""Every way in which a value breaks a schema, in the words of the API server."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli import schema
from slipway.cli.schema import complaints, located


def tried(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], value: Any) -> list[str]:
    """What is said of a value in a resource that has one field."""
    monkeypatch.setattr(schema, "_schema", lambda: {"type": "object", "properties": {"a": wanted}})
    return complaints({"a": value})


PAIR = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "to": {"type": "integer"}}},
}
PORT = {"x-kubernetes-int-or-string": True}


@pytest.mark.parametrize(
    ("wanted", "value", "words"),
    [
        (
            {"type": "integer", "minimum": 2},
            1,
            "Invalid value: 1: a in body should be greater than or equal to 2",
        ),
        (
            {"type": "integer", "maximum": 2},
            3,
            "Invalid value: 3: a in body should be less than or equal to 2",
        ),
        ({"type": "string", "enum": ["b", "c"]}, "d", 'Unsupported value: "d": supported values: "b", "c"'),
        (
            {"type": "string", "minLength": 2},
            "b",
            'Invalid value: "b": a in body should be at least 2 chars long',
        ),
        ({"type": "string", "maxLength": 2}, "bcd", "Too long: may not be more than 2 bytes"),
        ({"type": "string", "pattern": "^b$"}, "é", "Invalid value: \"é\": a in body should match '^b$'"),
        ({"type": "array", "minItems": 1}, [], "Invalid value: []: a in body should have at least 1 items"),
        ({"type": "array", "maxItems": 1}, [1, 2], "Too many: 2: must have at most 1 items"),
        (
            {"type": "object", "additionalProperties": {}, "maxProperties": 1},
            {"b": 1, "c": 2},
            "Too many: 2: must have at most 1 items",
        ),
        ({"type": "string"}, 1, "Invalid value: 1: a in body must be of type string: 1"),
        ({"type": "boolean"}, "no", 'Invalid value: "no": a in body must be of type boolean: "no"'),
        (PORT, True, "Invalid value: true: a in body must be of type integer,string: true"),
        (PORT, 1.5, "Invalid value: 1.5: a in body must be of type integer,string: 1.5"),
    ],
)
def test_a_value_is_refused_in_the_words_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], value: Any, words: str
) -> None:
    assert tried(monkeypatch, wanted, value) == [f"a: {words}"]


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        ({"type": "integer", "minimum": 2, "maximum": 2}, 2),
        ({"type": "string", "minLength": 1, "maxLength": 1}, "b"),
        ({"type": "array", "minItems": 1, "maxItems": 1}, [1]),
        (PORT, 8080),
        (PORT, "http"),
        ({"x-kubernetes-int-or-string": False}, 1.5),
        ({"type": "array", "x-kubernetes-list-type": "atomic"}, [1, 1]),
        (PAIR, [{"name": "b", "to": 1}, {"name": "c", "to": 1}]),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True}, {"b": 1}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"b": 1}),
    ],
)
def test_a_value_at_its_bounds_is_taken(
    monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], value: Any
) -> None:
    assert tried(monkeypatch, wanted, value) == []


def test_what_is_in_a_list_twice_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"type": "array", "x-kubernetes-list-type": "set"}
    assert tried(monkeypatch, names, ["b", "c", "b", "b"]) == [
        'a[2]: Duplicate value: "b"',
        'a[3]: Duplicate value: "b"',
    ]
    assert tried(monkeypatch, PAIR, [{"name": "b", "to": 1}, {"name": "b", "to": 2}]) == [
        'a[1]: Duplicate value: {"name": "b", "to": 2}'
    ]


def test_a_field_that_is_missing_is_told_by_its_own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"type": "object", "required": ["b"], "properties": {"b": {"type": "integer"}}}
    assert tried(monkeypatch, wanted, {}) == ["a.b: Required value"]
    filled = {**wanted, "properties": {"b": {"type": "integer", "default": 1}}}
    assert tried(monkeypatch, filled, {}) == []


def test_a_value_in_place_of_an_object_gets_no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"type": "object", "properties": {"b": {"type": "integer", "default": 1}}}
    for value, told in (([], "[]"), (1, "1"), ("b", '"b"')):
        words = f"a: Invalid value: {told}: a in body must be of type object: {told}"
        assert tried(monkeypatch, wanted, value) == [words]


def test_unknown_fields_are_all_that_is_told_as_strict_validation_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = {"type": "object", "properties": {"c": {"type": "integer"}}}
    wanted = {"type": "array", "items": inner}
    found = tried(monkeypatch, wanted, [{"c": "no"}, {"d": 1, "e": 1}])
    assert found == ['unknown field "a[1].d"', 'unknown field "a[1].e"']


def test_a_rule_is_told_by_its_message_and_not_where_a_value_has_another_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = [{"rule": "self.b < 3", "message": "b has to be small"}]
    wanted = {
        "type": "object",
        "properties": {"b": {"type": "integer"}},
        "x-kubernetes-validations": rules,
    }
    assert tried(monkeypatch, wanted, {"b": 2}) == []
    assert tried(monkeypatch, wanted, {"b": 3}) == ["a: Invalid value: b has to be small"]
    assert tried(monkeypatch, wanted, {}) == ["a: Invalid value: b has to be small"], "it cannot be evaluated"
    assert tried(monkeypatch, wanted, {"b": "x"}) == [
        'a.b: Invalid value: "x": a.b in body must be of type integer: "x"'
    ]


@pytest.mark.parametrize(("text", "holds"), [("2Gi", True), ("1", False), ("1Gi", False), ("much", False)])
def test_rules_compare_quantities(monkeypatch: pytest.MonkeyPatch, text: str, holds: bool) -> None:
    rule = "isQuantity(self) && quantity(self).isGreaterThan(quantity('1Gi'))"
    wanted = {"type": "string", "x-kubernetes-validations": [{"rule": rule, "message": "more"}]}
    assert tried(monkeypatch, wanted, text) == ([] if holds else ["a: Invalid value: more"])


def test_status_is_nobodys_to_write_and_metadata_may_hold_anything() -> None:
    made = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "labels": {"a": "b"}, "whatever": 1},
        "spec": {"model": {"uri": "mlflow://fraud/1"}},
        "status": {"nonsense": 1},
    }
    before = {**made}
    assert located(made) == []
    assert made == before


def test_a_resource_that_is_no_object_at_its_top_is_told_as_nil(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"rule": "has(self.a)", "message": "give a"}]
    monkeypatch.setattr(
        schema,
        "_schema",
        lambda: {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "x-kubernetes-validations": rules,
        },
    )
    assert complaints({}) == ["<nil>: Invalid value: give a"]
