"""Equal parts of what is kept of thousands of objects are one part: most differ by names and times alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from slipway.api.base import Block

B = TypeVar("B", bound=Block)

#: Parts that are remembered.
_MOST = 5000
_known: dict[Any, Any] = {}


def shared(value: Any) -> Any:
    """The same value of JSON, of which equal parts are one; nobody may change any of it afterwards."""
    if isinstance(value, str):
        return sys.intern(value)
    found: Any
    if isinstance(value, Mapping):
        found = {sys.intern(name): shared(item) for name, item in value.items()}
        token: Any = (None, *((name, _token(item)) for name, item in found.items()))
    elif isinstance(value, list | tuple):
        found = [shared(item) for item in value]
        token = tuple(map(_token, found))
    else:
        return value
    return _remembered(token, found)


def with_shared_names(block: B) -> B:
    """The same block, of which alike parts share the names of the fields that are set.

    pydantic gives each part a set of its own, which takes more than most parts' values.
    """
    names = _remembered(frozenset(block.model_fields_set), block.model_fields_set)
    object.__setattr__(block, "__pydantic_fields_set__", names)
    # Defaults are shared as they are.
    for name in names:
        item = getattr(block, name)
        for part in item if isinstance(item, tuple | list) else (item,):
            if isinstance(part, Block):
                with_shared_names(part)
    return block


def _remembered(token: Any, found: Any) -> Any:
    if len(_known) > _MOST:
        _known.clear()
    return _known.setdefault(token, found)


def _token(value: Any) -> Any:
    """What is known holds its parts, so that their ids are theirs for as long."""
    return id(value) if isinstance(value, dict | list) else (value.__class__, value)
