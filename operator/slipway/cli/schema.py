"""What the API server would say to a ModelDeployment, by the CRD's own schema and rules, without a cluster.

jsonschema checks the values and common-expression-language the rules; the words are the API server's. The
table of `e2e/tests/schema_table.py`, which a real API server is held to, holds this too.

What it does not check: labels, annotations and other metadata than the name, and what admission webhooks and
policies of a cluster would say.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from slipway.api.crd import crd
from slipway.cli.errors import CommandError
from slipway.core.objects.diff import quantity
from slipway.names import DISTRIBUTION

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}
#: Faults after which the API server does not try the rules: they would fail over the same.
_BLOCKING = frozenset({"required", "type", "enum", "maxLength", "maxItems", "maxProperties"})


def complaints(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with a ModelDeployment as a user wrote it, each with the path of its field.

    Raises:
        CommandError: where a library that is needed is not installed.
    """
    return [said for _, said in located(manifest)]


def located(manifest: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """The same, each after the path that it is about; the end of that may be a field that is not there.

    Raises:
        CommandError: where a library that is needed is not installed.
    """
    schema = _schema()
    found = {name: value for name, value in copy.deepcopy(dict(manifest)).items() if name != "status"}
    unknown = [(path, f'unknown field "{_told(path)}"') for path in _unknown(found, schema, ())]
    if unknown:
        return unknown  # as strict validation does: nothing else is looked at
    _fill(found, schema)
    faults = list(_faults(found, schema))
    said = [(path, words) for path, _, words in faults]
    if not any(keyword in _BLOCKING for _, keyword, _ in faults):
        said += _broken_rules(found, schema, ())
    return [(path, f"{_told(path) or '<nil>'}: {words}") for path, words in said]


@cache
def _schema() -> dict[str, Any]:
    whole: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return whole


def _children(value: Any, schema: Schema) -> Iterator[tuple[str | int, Any, Schema]]:
    """Each part of a value that has a schema of its own."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        more = schema.get("additionalProperties")
        for name, part in value.items():
            if name in properties:
                yield name, part, properties[name]
            elif isinstance(more, Mapping):
                yield name, part, more
    elif isinstance(value, list) and "items" in schema:
        for number, part in enumerate(value):
            yield number, part, schema["items"]


def _unknown(value: Any, schema: Schema, path: Path) -> Iterator[Path]:
    if schema.get("x-kubernetes-preserve-unknown-fields") or path == ("metadata",):
        return
    if isinstance(value, dict) and "additionalProperties" not in schema and schema.get("type") == "object":
        yield from ((*path, name) for name in value if name not in (schema.get("properties") or {}))
    for name, part, inner in _children(value, schema):
        yield from _unknown(part, inner, (*path, name))


def _fill(value: Any, schema: Schema) -> None:
    """Put defaults in, as the API server does before it looks."""
    if isinstance(value, dict):
        for name, inner in (schema.get("properties") or {}).items():
            if value.get(name) is None and "default" in inner:
                value[name] = copy.deepcopy(inner["default"])
    for _, part, inner in _children(value, schema):
        _fill(part, inner)


def _faults(found: Any, schema: Schema) -> Iterator[tuple[Path, str, str]]:
    """Path, keyword and words of each value that the schema refuses."""
    errors = _validator()(schema).iter_errors(found)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        path = tuple(error.absolute_path)
        keyword = "type" if error.validator == "x-kubernetes-int-or-string" else str(error.validator)
        if keyword == "required":
            path = (*path, next(name for name in error.validator_value if f"{name!r}" in error.message))
        yield path, keyword, _words(error, _told(path))


@cache
def _validator() -> Any:
    """JSON Schema with what Kubernetes adds to it."""
    validators, exceptions = _library("jsonschema.validators"), _library("jsonschema.exceptions")

    def int_or_string(_: Any, wanted: bool, value: Any, __: Any) -> Iterator[Any]:
        if wanted and (isinstance(value, bool) or not isinstance(value, int | str)):
            yield exceptions.ValidationError("neither an integer nor a string")

    def list_type(_: Any, kind: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, list) and kind in ("set", "map"):
            for number in _twins(value, schema.get("x-kubernetes-list-map-keys")):
                yield exceptions.ValidationError("twin", path=[number], instance=value[number])

    own = {"x-kubernetes-int-or-string": int_or_string, "x-kubernetes-list-type": list_type}
    return validators.extend(validators.Draft202012Validator, own)


def _words(error: Any, where: str) -> str:
    """A fault as the API server puts it."""
    limit, value = error.validator_value, json.dumps(error.instance, ensure_ascii=False)
    wanted = "integer,string" if error.validator == "x-kubernetes-int-or-string" else limit
    here = f"Invalid value: {value}: {where} in body"
    match error.validator:
        case "required":
            return "Required value"
        case "enum":
            return f"Unsupported value: {value}: supported values: {', '.join(map(json.dumps, limit))}"
        case "minimum":
            return f"{here} should be greater than or equal to {limit}"
        case "maximum":
            return f"{here} should be less than or equal to {limit}"
        case "minLength":
            return f"{here} should be at least {limit} chars long"
        case "maxLength":
            return f"Too long: may not be more than {limit} bytes"
        case "pattern":
            return f"{here} should match '{limit}'"
        case "minItems":
            return f"{here} should have at least {limit} items"
        case "maxItems" | "maxProperties":
            return f"Too many: {len(error.instance)}: must have at most {limit} items"
        case "x-kubernetes-list-type":
            return f"Duplicate value: {value}"
    return f"{here} must be of type {wanted}: {value}"


def _twins(items: list[Any], keys: list[str] | None) -> Iterator[int]:
    """Places of items that were there before."""
    seen: list[Any] = []
    for number, item in enumerate(items):
        mark = [item.get(key) for key in keys] if keys and isinstance(item, dict) else item
        if mark in seen:
            yield number
        seen.append(mark)


def _broken_rules(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, str]]:
    for rule in schema.get("x-kubernetes-validations") or ():
        if not _holds(rule["rule"], value):
            yield path, f"Invalid value: {rule['message']}"
    for name, part, inner in _children(value, schema):
        if part is not None:
            yield from _broken_rules(part, inner, (*path, name))


def _holds(rule: str, value: Any) -> bool:
    cel = _library("cel")
    context = cel.Context(variables={"self": value}, functions=_FUNCTIONS)
    try:
        return bool(_compiled(rule).execute(context))
    except (ValueError, TypeError, RuntimeError, LookupError):
        return False  # the API server refuses what it cannot evaluate as well


@cache
def _compiled(rule: str) -> Any:
    return _library("cel").compile(rule)


#: What Kubernetes has beyond the language itself.
_FUNCTIONS = {
    "isQuantity": lambda text: _is_quantity(text),
    "quantity": lambda text: text,
    "isGreaterThan": lambda one, other: quantity(one) > quantity(other),
}


def _is_quantity(text: str) -> bool:
    try:
        quantity(text)
    except ValueError:
        return False
    return True


def _told(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


@cache
def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed, by which a plan without a cluster is checked: "
            f"pip install '{DISTRIBUTION}[cli]'"
        ) from error
