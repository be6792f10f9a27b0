"""The accept and refuse table of ``spec.inputs``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import choice, items, required, text, twins

SPEC = "spec.inputs"
TENSOR = f"{SPEC}.tensors.*"
COLUMN = f"{TENSOR}.columns.*"


def _column(index: int) -> dict[str, Any]:
    return {"name": f"c{index}"}


def _tensor(index: int) -> dict[str, Any]:
    return {"name": f"t{index}", "columns": [_column(0)]}


def _number(path: str, digit: str) -> Iterator[Case]:
    for wrong in ("", "one", "1,5", "--1"):
        yield Case(path, "rule", "18.5", wrong, "must be a number, such as 18 or '0.5'")
    longest = f"-{digit * 15}.{digit * 9}"
    yield Case(
        path, "maxLength", longest, f"-{digit}{longest[1:]}", "Too long: may not be more than 26 bytes"
    )


def _at_least_one(path: str, one: Any) -> Case:
    return Case(path, "minItems", [one], [], "should have at least 1 items")


INPUTS = [
    *required(SPEC, "tensors"),
    *items(f"{SPEC}.tensors", 16, _tensor),
    _at_least_one(f"{SPEC}.tensors", _tensor(0)),
    *twins(f"{SPEC}.tensors", _tensor),
    *choice(f"{SPEC}.onViolation", "Reject", "Report"),
    *required(TENSOR, "name", "columns"),
    text(f"{TENSOR}.name", 200),
    Case(f"{TENSOR}.name", "minLength", "a", "", "should be at least 1 chars long"),
    *items(f"{TENSOR}.columns", 200, _column),
    _at_least_one(f"{TENSOR}.columns", _column(0)),
    *twins(f"{TENSOR}.columns", _column),
    *required(COLUMN, "name"),
    text(f"{COLUMN}.name", 200),
    Case(f"{COLUMN}.name", "minLength", "a", "", "should be at least 1 chars long"),
    Case(f"{COLUMN}.type", "enum", "Number", "number", 'supported values: "Number", "Integer", "String"'),
    *_number(f"{COLUMN}.minimum", "9"),
    *_number(f"{COLUMN}.maximum", "0"),
    *items(f"{COLUMN}.enum", 50, str),
    text(f"{COLUMN}.enum.*", 100),
    Case(
        COLUMN,
        "rule",
        {"name": "a", "minimum": 1, "maximum": "1.5"},
        {"name": "a", "minimum": 2, "maximum": "1.5"},
        "minimum must not be above maximum",
    ),
    *(
        Case(
            COLUMN,
            "rule",
            {"name": "a", "type": "String", "enum": ["b"]},
            {"name": "a", "type": "String", bound: 1},
            "minimum and maximum are for numbers; a String has enum",
        )
        for bound in ("minimum", "maximum")
    ),
]
