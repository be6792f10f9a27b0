"""Callers, what they may do, and the rules that say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from slipway_server.access.limits import Account, Accounts
from slipway_server.settings import AccessRule

#: What a request does; the words are the contract's. No enum, whose members are hashed by Python's own code.
Action = Literal["Infer", "Feedback", "Metadata"]
INFER: Final = "Infer"
FEEDBACK: Final = "Feedback"
METADATA: Final = "Metadata"

#: Whoever shows nothing at all.
ANONYMOUS = "anonymous"
#: Callers of the API keys begin with it.
KEY_PREFIX = "key:"
_ANYBODY_KNOWN = "*"


class Certified(NamedTuple):
    """Whom a certificate names, by all its names, until when (seconds since 1970)."""

    names: tuple[str, ...]
    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Who asks. It is found again by identity: what was concluded from other keys is another caller."""

    name: str
    actions: frozenset[str]
    #: For whom its bodies count; None for strangers, whose addresses tell them apart.
    owner: str | None
    #: What it has used of what it may, where it may not ask without end.
    account: Account | None


def caller(name: str, rules: Iterable[AccessRule], accounts: Accounts) -> Caller:
    """A caller with all that any rule allows."""
    actions = frozenset(
        action
        for rule in rules
        if any(_matches(pattern, name) for pattern in rule.callers)
        for action in rule.actions
    )
    # Whoever may do nothing uses nothing.
    account = accounts.of(name) if actions else None
    return Caller(name, actions, None if name == ANONYMOUS else name, account)


def _matches(pattern: str, name: str) -> bool:
    if pattern == _ANYBODY_KNOWN:
        return name != ANONYMOUS
    if pattern.endswith((":*", "/*")):
        return name.startswith(pattern[:-1])
    return pattern == name
