"""Callers, what they may do, and the rules that say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from slipway_server.settings import AccessRule


class Action(StrEnum):
    """What a request does; the words are the contract's."""

    INFER = "Infer"
    FEEDBACK = "Feedback"
    METADATA = "Metadata"


#: Whoever shows nothing at all.
ANONYMOUS = "anonymous"
#: Callers of the API keys begin with it.
KEY_PREFIX = "key:"
_ANYBODY_KNOWN = "*"


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Who asks. It is found again by identity: what was concluded from other keys is another caller."""

    name: str
    actions: frozenset[str]


def caller(name: str, rules: Iterable[AccessRule]) -> Caller:
    """A caller with all that any rule allows."""
    return Caller(
        name,
        frozenset(
            action
            for rule in rules
            if any(_matches(pattern, name) for pattern in rule.callers)
            for action in rule.actions
        ),
    )


def _matches(pattern: str, name: str) -> bool:
    if pattern == _ANYBODY_KNOWN:
        return name != ANONYMOUS
    if pattern.endswith(":*"):
        return name.startswith(pattern[:-1])
    return pattern == name
