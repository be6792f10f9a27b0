"""Public keys of issuers at the addresses that specs name and the installation allows."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Set
from datetime import datetime, timedelta

from slipway.engine.observers.looks import UnreadError
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key

#: Between two looks: issuers show a new key before they sign with it.
INTERVAL = timedelta(minutes=5)


class IssuerKeys:
    """Keeps the newest keys of each address that anybody needs; they stay while it does not answer.

    An address is read once for all ModelDeployments that name it.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[str]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            read: the text of ``core.objects.issuer_keys.key_set_text`` at an address; raises
                :class:`UnreadError`.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: see :class:`Pool`.
        """
        self._read = read
        self._changed = changed
        self._clock = clock
        self._followers: dict[str, set[Key]] = {}
        self._read_at: dict[str, datetime] = {}
        self._texts: dict[str, str] = {}
        #: Why an address could not be read at the last look.
        self._errors: dict[str, str] = {}
        self.pool = Pool(self._look, self._due, clock, spread)

    @property
    def texts(self) -> Mapping[str, str]:
        """By address, what was read last."""
        return self._texts

    def error(self, address: str) -> str | None:
        """Why an address could not be read at the last look, or None."""
        return self._errors.get(address)

    def subscribe(self, key: Key, addresses: Set[str]) -> None:
        """Say of which addresses a ModelDeployment needs the keys."""
        for address in [one for one, who in self._followers.items() if key in who and one not in addresses]:
            self._followers[address].discard(key)
            if not self._followers[address]:
                self._drop(address)
        for address in addresses:
            followers = self._followers.setdefault(address, set())
            if key not in followers:
                followers.add(key)
                self.pool.refresh(_place(address))

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self.subscribe(key, frozenset())

    def _drop(self, address: str) -> None:
        self._followers.pop(address, None)
        self._read_at.pop(address, None)
        self._texts.pop(address, None)
        self._errors.pop(address, None)
        self.pool.forget(_place(address))

    def _due(self, place: Key) -> datetime | None:
        address = place.name
        if address not in self._followers:
            return None
        before = self._read_at.get(address)
        return self._clock() if before is None else before + INTERVAL

    async def _look(self, place: Key) -> bool:
        address = place.name
        text: str | None = self._texts.get(address)
        error: str | None = None
        try:
            text = await self._read(address)
        except UnreadError as failure:
            error = str(failure)
        if address not in self._followers:
            # Nobody needs it any more.
            return True
        is_news = (text, error) != (self._texts.get(address), self._errors.get(address))
        if text is not None:
            self._texts[address] = text
        if error is None:
            self._errors.pop(address, None)
            self._read_at[address] = self._clock()
        else:
            self._errors[address] = error
        if is_news:
            for key in list(self._followers[address]):
                self._changed(key)
        return error is None


def _place(address: str) -> Key:
    """Addresses take turns as namespaces do."""
    return Key(address, address)
