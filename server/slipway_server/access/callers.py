"""Callers, what they may do, and the rules that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
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
#: Callers are divided into so many, so that what one of them brings can be left out.
COHORTS = 8
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
    #: Which of :data:`COHORTS` it is of, for good: by its name, wherever it asks.
    cohort: int = 0


def caller(name: str, rules: tuple[AccessRule, ...], accounts: Accounts) -> Caller:
    """A caller with all that any rule allows."""
    actions = frozenset(
        action
        for rule in rules
        if any(_matches(pattern, name) for pattern in rule.callers)
        for action in rule.actions
    )
    # Whoever may do nothing uses nothing.
    account = accounts.of(name) if actions else None
    owner = None if name == ANONYMOUS else name
    return Caller(name, actions, owner, account, cohort_of(name, rules) if actions else 0)


def cohort_of(name: str, rules: tuple[AccessRule, ...]) -> int:
    """Of which of :data:`COHORTS` a caller is, on every pod: by the hash of its name.

    Those that rules name have one each, as long as there are as many.
    """
    return _named(rules).get(name, _hash(name)[0] % COHORTS)


@lru_cache(maxsize=4)
def _named(rules: tuple[AccessRule, ...]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for name in sorted({each for rule in rules for each in rule.callers if not _is_pattern(each)}, key=_hash):
        if len(found) == COHORTS:
            break
        place = _hash(name)[0] % COHORTS
        while place in found.values():
            place = (place + 1) % COHORTS
        found[name] = place
    return found


def _hash(name: str) -> bytes:
    return sha256(name.encode()).digest()


def _matches(pattern: str, name: str) -> bool:
    if pattern == _ANYBODY_KNOWN:
        return name != ANONYMOUS
    if _is_pattern(pattern):
        return name.startswith(pattern[:-1])
    return pattern == name


def _is_pattern(pattern: str) -> bool:
    return pattern == _ANYBODY_KNOWN or pattern.endswith((":*", "/*"))
