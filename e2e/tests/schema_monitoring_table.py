"""The accept and refuse table of ``spec.monitoring`` and ``spec.fairness``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import bounds, items, required, text, twins

FEEDBACK = "spec.monitoring.performance.feedback"
FAIRNESS = "spec.fairness"
ATTRIBUTE = f"{FAIRNESS}.sensitiveAttributes.*"


def _attribute(index: int) -> dict[str, Any]:
    return {"name": f"a{index}", "parameter": "p", "groups": ["1"]}


def _name(path: str, longest: int) -> Iterator[Case]:
    yield text(path, longest)
    yield Case(path, "minLength", "a", "", "should be at least 1 chars long")


def _some(path: str, one: Any) -> Case:
    return Case(path, "minItems", [one], [], "should have at least 1 items")


def _set(path: str) -> Case:
    return Case(path, "x-kubernetes-list-type", ["a", "b"], ["a", "a"], "Duplicate value")


MONITORING = [
    *required(FEEDBACK, "secretRef"),
    *required(f"{FEEDBACK}.secretRef", "name"),
    text(f"{FEEDBACK}.secretRef.name", 253),
    *(
        Case(
            f"{FEEDBACK}.secretRef.name",
            "rule",
            "feedback.v2",
            wrong,
            "must be a name of lower case letters, digits, '-' and '.', such as store or store.v2",
        )
        for wrong in ("", "Store", "-store", "store_2")
    ),
    *bounds(f"{FEEDBACK}.maxAgeDays", 1, 3650),
    *required(FAIRNESS, "sensitiveAttributes", "favorableOutcomes"),
    *items(f"{FAIRNESS}.sensitiveAttributes", 3, _attribute),
    _some(f"{FAIRNESS}.sensitiveAttributes", _attribute(0)),
    *twins(f"{FAIRNESS}.sensitiveAttributes", _attribute),
    *items(f"{FAIRNESS}.favorableOutcomes", 20, str),
    _some(f"{FAIRNESS}.favorableOutcomes", "1"),
    _set(f"{FAIRNESS}.favorableOutcomes"),
    *_name(f"{FAIRNESS}.favorableOutcomes.*", 63),
    *required(ATTRIBUTE, "name", "groups"),
    *_name(f"{ATTRIBUTE}.name", 63),
    *_name(f"{ATTRIBUTE}.parameter", 63),
    *_name(f"{ATTRIBUTE}.tensor", 200),
    text(f"{ATTRIBUTE}.header", 63),
    *(
        Case(
            f"{ATTRIBUTE}.header",
            "rule",
            "X-Region",
            wrong,
            "must be the name of a header: letters, digits and '-', such as x-data-time",
        )
        for wrong in ("", "x region", "-x", "x_region", "x:")
    ),
    *bounds(f"{ATTRIBUTE}.column", 0, 9999),
    *items(f"{ATTRIBUTE}.groups", 10, str),
    _some(f"{ATTRIBUTE}.groups", "1"),
    _set(f"{ATTRIBUTE}.groups"),
    *_name(f"{ATTRIBUTE}.groups.*", 63),
    *(
        Case(
            ATTRIBUTE,
            "rule",
            {"name": "a", "header": "x", "groups": ["1"]},
            {"name": "a", "groups": ["1"], **wrong},
            "name exactly one of parameter, tensor and header, which holds the attribute",
        )
        for wrong in (
            {},
            {"tensor": "x", "parameter": "p"},
            {"tensor": "x", "header": "h"},
            {"parameter": "p", "header": "h"},
            {"tensor": "x", "parameter": "p", "header": "h"},
        )
    ),
]
