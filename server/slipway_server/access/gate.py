"""Tells who asks by the headers of a request, and whether they may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from slipway_server.access.callers import ANONYMOUS, KEY_PREFIX, Action, Caller, caller
from slipway_server.access.keys import read_keys, stamp
from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.settings import Access
from slipway_server.wire.head import AUTHORIZATION, Head

log = logging.getLogger(__name__)

#: Longer ones are not looked at.
MOST_TOKEN_BYTES = 8192
_CHALLENGE = "www-authenticate"
_HOW = "send the header 'Authorization: Bearer KEY'"
#: What is wrong with a Secret is said up to here.
_MOST_FAULTS = 10


class Gate:
    """All callers of one model. Whatever cannot be read admits nobody."""

    def __init__(self, access: Access, keys: Path, refused: Callable[[Reason], None]) -> None:
        """``refused`` counts who is not let in."""
        self._access = access
        self._directory = keys
        self._refused = refused
        self._stranger = caller(ANONYMOUS, access.allow)
        self._stamp = stamp(keys)
        self._callers: dict[bytes, Caller] = {}
        self._now: frozenset[Caller] = frozenset()
        #: Whether anybody at all could show a good key.
        self.has_callers = False
        #: Called when callers changed: what was concluded from the old ones is to be forgotten.
        self.on_change: Callable[[], None] = lambda: None
        self._read()

    def identify(self, head: Head) -> Caller:
        """Who asks; raises :class:`RequestError` with 401, or 503 where there are no keys to compare with."""
        value = head.headers.get(AUTHORIZATION)
        if value is None:
            if self._stranger.actions:
                return self._stranger
            raise self._refusal(head, _unknown(f"this model answers only callers that it knows: {_HOW}"))
        scheme, _, token = value.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > MOST_TOKEN_BYTES:
            words = f"the header 'Authorization' is not one of those that are taken: {_HOW}, once"
            raise self._refusal(head, _unknown(words))
        # By its hash: how long the search takes tells nothing of a key.
        found = self._callers.get(sha256(token).digest())
        if found is not None:
            return found
        if not self.has_callers:
            words = "the server has no API keys to compare with; its owner has to look at its Secret"
            raise self._refusal(head, not_now(Reason.ACCESS_UNAVAILABLE, words))
        words = "this key is not, or no longer, one of this model's: ask its owner for another one"
        raise self._refusal(head, _unknown(words, "invalid_token"))

    @property
    def admits_anybody(self) -> bool:
        """Whether there is anybody who may do anything."""
        return any(who.actions for who in (self._stranger, *self._now))

    def authorize(self, head: Head, who: Caller, action: Action) -> None:
        """Raises :class:`RequestError` (403) where a caller may not do so."""
        if action not in who.actions:
            words = f"caller {who.name!r} is not allowed to do {action} here: spec.access.allow says who is"
            raise self._refusal(head, RequestError(403, Reason.FORBIDDEN, words))

    def admit(self, head: Head, action: Action) -> None:
        """Note who asks, if they may do this; raises :class:`RequestError` (401, 403 or 503)."""
        who = head.caller = self.identify(head)
        self.authorize(head, who, action)

    def knows(self, who: object) -> bool:
        """Whether a caller is of the keys as they are now."""
        return who is self._stranger or who in self._now

    def follow(self) -> None:
        """Read the keys again if their files changed."""
        found = stamp(self._directory)
        if found != self._stamp:
            self._stamp = found
            self._read()
            self.on_change()

    def _read(self) -> None:
        found = read_keys(self._directory)
        rules = self._access.allow
        by_name = {name: caller(f"{KEY_PREFIX}{name}", rules) for name in sorted(set(found.callers.values()))}
        self._callers = {digest: by_name[name] for digest, name in found.callers.items()}
        self._now = frozenset(by_name.values())
        self.has_callers = bool(by_name)
        for fault in found.faults[:_MOST_FAULTS]:
            log.error("API keys", extra={"error": fault})
        log.info("callers", extra={"keys": len(self._callers), "callers": len(by_name)})

    def _refusal(self, head: Head, error: RequestError) -> RequestError:
        self._refused(error.reason)
        if head.expects:
            # The client may now send its body or not; only a new connection makes clear which.
            error.headers["connection"] = "close"
        return error


def _unknown(message: str, error: str = "") -> RequestError:
    challenge = 'Bearer realm="slipway"' + (f', error="{error}"' if error else "")
    return RequestError(401, Reason.UNAUTHENTICATED, message, {_CHALLENGE: challenge})
