"""How much a caller may ask: a rate, calls and bytes at a time, rows a day. Each process has a share."""

from __future__ import annotations

import math

from slipway_server.errors import Reason, RequestError
from slipway_server.settings import CallerLimits

_DAY = 86_400
#: Callers of an issuer whose use is counted at a time.
_MOST_ACCOUNTS = 16_384


class Share:
    """What is the same for all callers: among how many processes limits are divided, and what day it is."""

    def __init__(self) -> None:
        #: Processes that serve the revision, in all of its pods.
        self.among = 1
        #: Days since 1970, of UTC.
        self.day = 0
        #: Seconds until the next one.
        self.left = _DAY
        #: Another one whenever one of these changed that an account has to hear of.
        self.version = object()

    def divide(self, among: int) -> None:
        """Divide limits among so many processes from now on."""
        if among != self.among:
            self.among, self.version = among, object()

    def follow(self, wall: float) -> None:
        """``wall`` is the time since 1970, in seconds."""
        day, since = divmod(int(wall), _DAY)
        self.left = _DAY - since
        if day != self.day:
            self.day, self.version = day, object()


class Account:
    """What one caller has used; not for threads other than the event loop's.

    What does not change from request to request is worked out once for each version of the share.
    """

    __slots__ = (
        "_at",
        "_day",
        "_held",
        "_limits",
        "_most",
        "_most_bytes",
        "_most_calls",
        "_most_rows",
        "_rate",
        "_rows",
        "_share",
        "_tokens",
        "_version",
        "counts_bytes",
        "under_way",
    )

    def __init__(self, limits: CallerLimits, share: Share) -> None:
        self._limits = limits
        self._share = share
        self._version: object = None
        self._tokens = math.inf
        self._at = 0.0
        self._day = 0
        self._rows = 0
        self._held = 0
        #: Whether bytes of bodies are limited at all.
        self.counts_bytes = limits.bytesInFlight > 0
        #: Calls of the model that are not answered.
        self.under_way = 0
        self._divide()

    def take(self, now: float) -> RequestError | None:
        """Count one request; why there is none left, or None.

        ``now`` is in seconds of any clock.
        """
        if self._version is not self._share.version:
            self._divide()
        tokens = self._tokens + (now - self._at) * self._rate
        if tokens > self._most:
            tokens = self._most
        self._at = now
        if tokens < 1.0:
            self._tokens = tokens
            words = f"you may ask {self._limits.requestsPerSecond} times a second"
            return too_many(words, math.ceil((1.0 - tokens) / self._rate))
        self._tokens = tokens - 1.0
        return None

    def begin(self, now: float) -> RequestError | None:
        """Count one call of the model, which :meth:`end` has to follow; why it may not begin, or None."""
        if self._version is not self._share.version:
            self._divide()
        if self._rows >= self._most_rows:
            return too_many(f"you may have {self._limits.rowsPerDay} rows a day answered", self._share.left)
        if self.under_way >= self._most_calls:
            return too_many(f"you may have {self._limits.concurrent} requests under way at a time", 1)
        error = self.take(now)
        if error is None:
            self.under_way += 1
        return error

    def end(self, rows: int) -> None:
        """A call that began is over, and so many rows were answered."""
        self.under_way -= 1
        self._rows += rows

    def hold(self, held: int, size: int) -> RequestError | None:
        """Count bytes of a body, which :meth:`free` has to follow; why they may not be had, or None.

        ``held`` is what the same body has already: one at a time comes in whatever the share is.
        """
        if self._version is not self._share.version:
            self._divide()
        if self._held + size > self._most_bytes and self._held > held:
            return too_many(
                f"you may have {self._limits.bytesInFlight} bytes of bodies under way at a time", 1
            )
        self._held += size
        return None

    def free(self, size: int) -> None:
        """So many bytes that were held are in memory no more."""
        self._held -= size

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not self.under_way and not self._held

    def _divide(self) -> None:
        limits, share = self._limits, self._share
        self._version = share.version
        self._rate = limits.requestsPerSecond / share.among
        # One at least of each: with less, nobody would ever be let in.
        self._most = max(1.0, (limits.burst or limits.requestsPerSecond) / share.among)
        if not limits.requestsPerSecond:
            self._most = self._tokens = math.inf
        self._most_calls = max(1.0, limits.concurrent / share.among) if limits.concurrent else math.inf
        self._most_rows = limits.rowsPerDay / share.among if limits.rowsPerDay else math.inf
        self._most_bytes = limits.bytesInFlight / share.among if limits.bytesInFlight else math.inf
        if self._day != share.day:
            self._day, self._rows = share.day, 0


class Accounts:
    """What callers have used, by their names, whatever they showed to be known by."""

    def __init__(self, limits: CallerLimits | None, share: Share) -> None:
        self._limits = limits
        self._share = share
        self._accounts: dict[str, Account] = {}

    def of(self, name: str) -> Account | None:
        """A caller's, which is remembered while there are not too many; None where nothing is counted."""
        if self._limits is None:
            return None
        found = self._accounts.get(name)
        if found is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                for each in [each for each, account in self._accounts.items() if account.is_idle]:
                    del self._accounts[each]
            found = self._accounts[name] = Account(self._limits, self._share)
        return found


def too_many(words: str, seconds: int) -> RequestError:
    """The refusal of whoever asks more than a limit; ``seconds`` are those until it may come again."""
    return RequestError(
        429,
        Reason.RATE,
        f"{words}; come again in {seconds} s",
        {"retry-after": str(max(1, seconds))},
    )
