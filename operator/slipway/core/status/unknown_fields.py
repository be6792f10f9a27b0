"""What another version of the operator wrote into status, and this one does not know, is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from slipway.api.status import ModelDeploymentStatus

#: Fields by which a block says what it is about.
_IDENTITY = (
    *("id", "revision", "version", "digest", "uri", "type", "name", "output", "startedAt"),
    *("decision", "decidedAt"),
)


def carry(raw: Mapping[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """A status to be written, with the fields of the one before that no model of ours has.

    Those of a block go with it: what is said of another rollout or revision is not carried to this one.

    Args:
        raw: the status as the API server holds it.
        written: the status as it would be written.
    """
    return _carried(ModelDeploymentStatus, raw, written)


def _carried(model: type[BaseModel], raw: Mapping[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    found, blocks = dict(written), _blocks(model)
    for name, value in raw.items():
        if name not in blocks:
            found[name] = value
            continue
        block, now = blocks[name], written.get(name)
        if block is None:
            continue
        if isinstance(value, Mapping) and isinstance(now, dict) and _is_same(value, now):
            found[name] = _carried(block, value, now)
        elif isinstance(value, list | tuple) and isinstance(now, list):
            before = [item for item in value if isinstance(item, Mapping)]
            found[name] = [_item(block, before, item) for item in now]
    return found


def _item(block: type[BaseModel], before: list[Mapping[str, Any]], item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    raw = next((found for found in before if _is_same(found, item)), None)
    return item if raw is None else _carried(block, raw, item)


def _is_same(raw: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Whether both are about the same; without a name of its own a block is what it holds."""
    named = [name for name in _IDENTITY if name in written]
    return all(raw.get(name) == written[name] for name in named or written)


@cache
def _blocks(model: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """The model's fields, each with the block that it is or has as items."""
    return {name: _block(field.annotation) for name, field in model.model_fields.items()}


def _block(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _block(part)) is not None), None)
