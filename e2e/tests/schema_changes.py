"""Specs that hold every field of the schema, and the same specs with every field changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from e2e.tests.schema_cases import DIGEST, REMOVED, example, nodes, value_at, with_value
from e2e.tests.schema_table import CASES
from slipway.api.crd import crd
from slipway.cli.schema import complaints

Spec = dict[str, Any]
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@dataclass(frozen=True)
class Change:
    """A spec, the same with other values, and the paths of these."""

    before: Spec
    after: Spec
    paths: frozenset[str]


def leaves() -> dict[str, dict[str, Any]]:
    """Path and schema of each field of the spec that holds no others."""
    parents = ("properties", "items", "additionalProperties")
    return {
        path: schema
        for path, schema in nodes(SCHEMA)
        if path.startswith("spec.") and not any(schema.get(key) for key in parents)
    }


def changes() -> list[Change]:
    """As few specs as come to mind whose fields change, until each field has that can.

    A change of one field may go only with a change of another one; what a spec cannot take goes to the next.
    """
    left = {path: values for path in leaves() if (values := list(_others(path)))}
    found: list[Change] = []
    while left:
        spec = example(next(iter(left)))["spec"]
        after, taken = copy.deepcopy(spec), set()
        for path, values in left.items():
            if example(path)["spec"] != spec:
                continue
            for value in values:
                changed = with_value(path, value, {"metadata": {"name": "any"}, "spec": after})
                if not complaints(changed):
                    after = changed["spec"]
                    taken.add(path)
                    break
        if not taken:
            left.pop(next(iter(left)))
            continue
        found.append(Change(spec, after, frozenset(taken)))
        left = {path: values for path, values in left.items() if path not in taken}
    return found


def _others(path: str) -> Iterator[Any]:
    """Values of a field that are not the example's."""
    schema, now = leaves()[path], value_at(path)
    given = [case.accepts for case in CASES if case.place == path]
    if schema.get("type") == "boolean":
        given.append(not now)
    if now == DIGEST:
        given.append(f"{DIGEST[:-1]}e")
    yield from (value for value in (*given, *schema.get("enum", ())) if value not in (now, REMOVED))
