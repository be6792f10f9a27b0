"""Tells who asks by the headers of a request, and whether they may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.names import CLIENT_CA_FILE
from slipway_server.access.callers import ANONYMOUS, INFER, KEY_PREFIX, Action, Caller, Certified, caller
from slipway_server.access.keys import KeyFile, read_keys
from slipway_server.access.limits import Accounts, Share, too_many
from slipway_server.access.mounted import stamp
from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.settings import Access
from slipway_server.wire.head import AUTHORIZATION, Head

if TYPE_CHECKING:
    from slipway_server.access.tokens import Issuers
    from slipway_server.access.verified import Verified

log = logging.getLogger(__name__)

#: Longer ones are not looked at.
MOST_TOKEN_BYTES = 8192
_CHALLENGE = "www-authenticate"
_HOW = "send the header 'Authorization: Bearer KEY', with an API key or a token that this model takes"
_MOST_SEEN = 1024
#: What is wrong with a Secret is said up to here.
_MOST_FAULTS = 10


class Gate:
    """All callers of one model. Whatever cannot be read admits nobody."""

    def __init__(
        self,
        access: Access,
        keys: Path,
        issuers: Path,
        refused: Callable[[Reason], None],
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            access: the rules.
            keys: directory with the hashes of API keys.
            issuers: directory with the public keys of issuers.
            refused: counts who is not let in.
            clock: tells the seconds since 1970.
        """
        self._access = access
        self._directory = keys
        self._refused = refused
        self.share = Share()
        limits = access.limits
        #: What known callers used.
        self._accounts = Accounts(None if limits is None else limits.perCaller, self.share)
        self._issuers: Issuers | None = None
        self._verified: Verified | None = None
        self._issuers_directory = issuers
        if access.issuers or access.serviceAccountAudience:
            # Their library is loaded only where it is needed.
            from slipway_server.access.tokens import Issuers
            from slipway_server.access.verified import Verified

            self._issuers = Issuers(access, issuers)
            self._verified = Verified(access, self._issuers, self._accounts, clock)
        strangers = None if access.limits is None else access.limits.anonymous
        self._stranger = caller(ANONYMOUS, access.allow, Accounts(strangers, self.share))
        self._clock = clock
        #: Callers by the names of their certificates.
        self._certified: dict[tuple[str, ...], Caller] = {}
        self._stamp = (stamp(keys), stamp(issuers))
        self._callers: dict[bytes, Caller] = {}
        self._now: frozenset[Caller] = frozenset()
        #: Headers that were shown lately, with whom they named.
        self._seen: dict[bytes | None, Caller] = {}
        #: Whether anybody at all could show a good key.
        self.has_callers = False
        #: Called when callers changed: what was concluded from the old ones is to be forgotten.
        self.on_change: list[Callable[[], None]] = []
        self._read()

    def identify(self, head: Head) -> Caller:
        """Who asks; raises :class:`RequestError` with 401, or 503 where there are no keys to compare with."""
        value = head.headers.get(AUTHORIZATION)
        if value is None:
            if head.certified is not None:
                return self._named(head, head.certified)
            if self._stranger.actions:
                return self._stranger
            words = f"this model answers only callers that it knows: {_HOW}"
            raise self._refusal(head, _unknown(words, lasts=True))
        scheme, _, token = value.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > MOST_TOKEN_BYTES:
            words = f"the header 'Authorization' is not one of those that are taken: {_HOW}, once"
            raise self._refusal(head, _unknown(words, lasts=True))
        # By its hash: how long the search takes tells nothing of a key.
        digest = sha256(token).digest()
        found = self._callers.get(digest)
        if found is None and self._verified is not None:
            found = self._verified.callers.get(digest) or self._verify(head, token, digest, self._verified)
        if found is not None:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[value] = found
            return found
        if not self.has_callers and self._access.apiKeys:
            words = "the server has no API keys to compare with; its owner has to look at its Secret"
            raise self._refusal(head, not_now(Reason.ACCESS_UNAVAILABLE, words))
        words = "this key is not, or no longer, one of this model's: ask its owner for another one"
        raise self._refusal(head, _unknown(words, "invalid_token", lasts=True))

    def _named(self, head: Head, shown: Certified) -> Caller:
        """Whom a certificate names: by the first of its names that may do anything, else the first."""
        if shown.until <= self._clock():
            raise self._refusal(head, _unknown("the certificate has expired: connect with another one"))
        found = self._certified.get(shown.names)
        if found is None:
            if len(self._certified) >= _MOST_SEEN:
                self._certified.clear()
            callers = [caller(name, self._access.allow, self._accounts) for name in shown.names]
            found = next((each for each in callers if each.actions), callers[0])
            self._certified[shown.names] = found
        return found

    def _verify(self, head: Head, token: bytes, digest: bytes, verified: Verified) -> Caller | None:
        """Whom a token names that was not seen before; None where it may only have been an API key."""
        from slipway_server.access.tokens import TokenError
        from slipway_server.access.verified import TooManyError

        if token.count(b".") != 2 and self._access.apiKeys:
            return None
        if verified.is_full:
            verified.clear()
            self._forget()
        try:
            return verified.verify(token, digest, head.peer)
        except TokenError as error:
            if error.is_ours:
                raise self._refusal(head, not_now(Reason.ACCESS_UNAVAILABLE, str(error))) from None
            raise self._refusal(head, _unknown(str(error), "invalid_token")) from None
        except TooManyError:
            raise self._refusal(head, too_many("too many bad tokens came from this address", 1)) from None

    @property
    def admits_anybody(self) -> bool:
        """Whether there is anybody who may do anything."""
        if self._issuers is not None and self._issuers.has_keys:
            return True
        if self._access.clientCertificates and (self._issuers_directory / CLIENT_CA_FILE).is_file():
            return True
        return any(who.actions for who in (self._stranger, *self._now))

    @property
    def why_nobody(self) -> str:
        """What to do where nobody may do anything."""
        ways = []
        if self._access.apiKeys:
            ways.append(
                "the Secret of spec.access.apiKeys has no usable key, or is not there: make one with "
                "'kubectl slipway key new'"
            )
        if self._issuers is not None:
            ways.append(
                "no issuer of spec.access has a usable key: see that the ConfigMap or Secret of its keys "
                "holds a JSON Web Key Set"
            )
        if self._access.clientCertificates:
            ways.append("the certificates of spec.access.tls.clientCA are not there")
        return f"{'; '.join(ways)}; the pod's log says what is wrong with what is there"

    def authorize(self, head: Head, who: Caller, action: Action, now: float) -> None:
        """Let a caller do so; raises :class:`RequestError` where it may not (403), or not now (429).

        What is let in to be inferred has begun for its account; ``head.payer`` has to be told of its end.
        ``now`` is in seconds of the clock of ``time.perf_counter``.
        """
        if action not in who.actions:
            words = f"caller {who.name!r} is not allowed to do {action} here: spec.access.allow says who is"
            raise self._refusal(head, RequestError(403, Reason.FORBIDDEN, words))
        head.caller = who
        account = who.account
        if account is None:
            return
        error = account.begin(now) if action is INFER else account.take(now)
        if error is not None:
            raise self._refusal(head, error)
        if action is INFER:
            head.payer = account

    def admit(self, head: Head, action: Action, now: float) -> None:
        """Both: find out who asks, and let them do so."""
        who = self._seen.get(head.headers.get(AUTHORIZATION)) or self.identify(head)
        if who.account is None and action in who.actions:
            head.caller = who
        else:
            self.authorize(head, who, action, now)

    def knows(self, who: object) -> bool:
        """Whether a caller is of the keys as they are now."""
        if who is self._stranger or who in self._now:
            return True
        return self._verified is not None and who in self._verified.now

    def follow(self, wall: float) -> None:
        """Read the keys again if their files changed; ``wall`` is the time since 1970, in seconds."""
        self.share.follow(wall)
        found = (stamp(self._directory), stamp(self._issuers_directory))
        if found != self._stamp:
            self._stamp = found
            if self._issuers is not None:
                self._issuers.read()
            self._read()
            self._forget()
        elif self._verified is not None and self._verified.expire():
            self._forget()

    def _forget(self) -> None:
        """Drop all that was concluded from keys or tokens that count no more."""
        self._seen.clear()
        for forget in self.on_change:
            forget()

    def _read(self) -> None:
        found = read_keys(self._directory) if self._access.apiKeys else KeyFile()
        rules = self._access.allow
        # What was used stays used, whatever becomes of the key.
        names = sorted(set(found.callers.values()))
        by_name = {name: caller(f"{KEY_PREFIX}{name}", rules, self._accounts) for name in names}
        self._callers = {digest: by_name[name] for digest, name in found.callers.items()}
        self._seen.clear()
        if self._verified is not None:
            self._verified.clear()
        self._now = frozenset(by_name.values())
        self.has_callers = bool(by_name)
        for fault in found.faults[:_MOST_FAULTS]:
            log.error("API keys", extra={"error": fault})
        for fault in self._issuers.faults[:_MOST_FAULTS] if self._issuers is not None else ():
            log.error("issuers", extra={"error": fault})
        log.info("callers", extra={"keys": len(self._callers), "callers": len(by_name)})

    def _refusal(self, head: Head, error: RequestError) -> RequestError:
        self._refused(error.reason)
        if head.expects:
            # The client may now send its body or not; only a new connection makes clear which.
            error.headers["connection"] = "close"
        return error


def _unknown(message: str, error: str = "", *, lasts: bool = False) -> RequestError:
    challenge = 'Bearer realm="slipway"' + (f', error="{error}"' if error else "")
    made = RequestError(401, Reason.UNAUTHENTICATED, message, {_CHALLENGE: challenge})
    made.lasts = lasts
    return made
