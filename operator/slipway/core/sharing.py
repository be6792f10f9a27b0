"""Alike parts of thousands of decoded resources share what they have in common."""

from __future__ import annotations

from typing import TypeVar

from slipway.api.base import Block

B = TypeVar("B", bound=Block)

#: Sets that are remembered.
_MOST = 5000
_known: dict[frozenset[str], set[str]] = {}


def with_shared_names(block: B) -> B:
    """The same block, of which alike parts share the names of the fields that are set.

    pydantic gives each part a set of its own, which takes more than most parts' values.
    """
    if len(_known) > _MOST:
        _known.clear()
    names = _known.setdefault(frozenset(block.model_fields_set), block.model_fields_set)
    object.__setattr__(block, "__pydantic_fields_set__", names)
    # Defaults are shared as they are.
    for name in names:
        item = getattr(block, name)
        for part in item if isinstance(item, tuple | list) else (item,):
            if isinstance(part, Block):
                with_shared_names(part)
    return block
