"""What the installed CRD declares, against what this operator writes: an older CRD lacks fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.api.types import GROUP, KIND

Json = Mapping[str, Any]


def schema_of(openapi: Json) -> Json | None:
    """The schema of ModelDeployments in the API server's OpenAPI document; None where it is not there."""
    for schema in ((openapi.get("components") or {}).get("schemas") or {}).values():
        for found in schema.get("x-kubernetes-group-version-kind") or ():
            if (found.get("group"), found.get("kind")) == (GROUP, KIND):
                return dict(schema)
    return None


def missing(ours: Json, installed: Json) -> Iterator[str]:
    """Paths below ``spec`` and ``status`` that one schema declares and the other does not, in their order."""
    for part in ("spec", "status"):
        own, other = ((schema.get("properties") or {}).get(part) or {} for schema in (ours, installed))
        yield from _missing(own, other, part)


def declared(schema: Json, value: Any) -> Any:
    """A value without the fields that its schema does not declare: one of them has all of it refused."""
    if isinstance(value, list):
        return [declared(schema.get("items") or {}, item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties")
    if properties is None or schema.get("x-kubernetes-preserve-unknown-fields"):
        more = schema.get("additionalProperties")
        return (
            {name: declared(more, item) for name, item in value.items()}
            if isinstance(more, Mapping)
            else value
        )
    return {name: declared(properties[name], item) for name, item in value.items() if name in properties}


def _missing(own: Json, other: Json, path: str) -> Iterator[str]:
    if other.get("x-kubernetes-preserve-unknown-fields"):
        return
    theirs = other.get("properties") or {}
    for name, schema in sorted((own.get("properties") or {}).items()):
        if name not in theirs:
            yield f"{path}.{name}"
        else:
            yield from _missing(schema, theirs[name], f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(own.get(inner), Mapping) and isinstance(other.get(inner), Mapping):
            yield from _missing(own[inner], other[inner], f"{path}[]")
