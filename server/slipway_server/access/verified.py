"""Tokens that were found good, and how many more may be looked at: what a request with one costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

from slipway_server.access.callers import Caller, caller
from slipway_server.access.limits import Accounts
from slipway_server.access.tokens import Issuers, TokenError
from slipway_server.settings import Access

MOST_TOKENS = 4096
_MOST_PEERS = 4096
#: Signatures of one peer that may be wrong, a second over time and at once: each costs some 200 µs.
WRONG_PER_SECOND, WRONG_AT_ONCE = 50.0, 200.0


class TooManyError(Exception):
    """A peer has shown too many bad tokens to have another one looked at."""


class Verified:
    """Callers by the hash of the token that they showed, each until its token expires or keys change."""

    def __init__(
        self, access: Access, issuers: Issuers, accounts: Accounts, clock: Callable[[], float]
    ) -> None:
        """``clock`` tells the seconds since 1970."""
        self._access = access
        self._issuers = issuers
        self._clock = clock
        self._until: dict[bytes, float] = {}
        self.callers: dict[bytes, Caller] = {}
        #: The same, to be found by identity.
        self.now: set[Caller] = set()
        self._accounts = accounts
        self._budgets: dict[Hashable, tuple[float, float]] = {}
        #: When the next token expires.
        self._next = math.inf

    @property
    def is_full(self) -> bool:
        return len(self.callers) >= MOST_TOKENS

    def clear(self) -> None:
        """Forget all tokens: they are verified again."""
        self.callers.clear()
        self._until.clear()
        self.now.clear()
        self._next = math.inf

    def verify(self, token: bytes, digest: bytes, peer: Hashable) -> Caller:
        """Whom a token names; remembered by the token's hash.

        Raises :class:`TokenError` where it names nobody, :class:`TooManyError` where that is not looked at.
        """
        wall = self._clock()
        claimed = self._issuers.claimed(token, wall)
        left, at = self._budgets.get(peer, (WRONG_AT_ONCE, wall))
        left = min(WRONG_AT_ONCE, left + max(0.0, wall - at) * WRONG_PER_SECOND)
        if left < 1.0:
            raise TooManyError
        try:
            named = self._issuers.verify(claimed)
        except TokenError:
            if len(self._budgets) >= _MOST_PEERS:
                self._budgets.clear()
            self._budgets[peer] = left - 1.0, wall
            raise
        found = caller(named.caller, self._access.allow, self._accounts)
        self.callers[digest] = found
        self._until[digest] = named.until
        self.now.add(found)
        self._next = min(self._next, named.until)
        return found

    def expire(self) -> bool:
        """Forget tokens that have expired; whether there were any."""
        wall = self._clock()
        if wall < self._next:
            return False
        for digest in [digest for digest, until in self._until.items() if until <= wall]:
            del self._until[digest]
            self.now.discard(self.callers.pop(digest))
        self._next = min(self._until.values(), default=math.inf)
        return True
