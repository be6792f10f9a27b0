"""The keys by which the cluster signs tokens of ServiceAccounts, read while any model takes such tokens."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from slipway.engine.observers.looks import UnreadError
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key

#: Between two looks: an API server shows a new key before it signs with it.
INTERVAL = timedelta(minutes=5)
#: The one thing that is looked at.
_CLUSTER = Key("", "cluster")


class ClusterKeys:
    """Keeps the newest text of the keys; what was found stays while the API server does not answer."""

    def __init__(
        self,
        read: Callable[[], Awaitable[str]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            read: the text of ``core.objects.cluster_keys.as_text``; raises :class:`UnreadError`.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: see :class:`Pool`.
        """
        self._read = read
        self._changed = changed
        self._clock = clock
        self._followers: set[Key] = set()
        self._read_at: datetime | None = None
        self.pool = Pool(self._look, self._due, clock, spread)
        #: None until they were read once.
        self.text: str | None = None
        #: Why they could not be read at the last look, or None.
        self.error: str | None = None

    def subscribe(self, key: Key, wants: bool) -> None:
        """Say whether a ModelDeployment needs them."""
        if wants == (key in self._followers):
            return
        if wants:
            self._followers.add(key)
        else:
            self._followers.discard(key)
        self.pool.refresh(_CLUSTER)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self.subscribe(key, False)

    def _due(self, _: Key) -> datetime | None:
        if not self._followers:
            return None
        return self._clock() if self._read_at is None else self._read_at + INTERVAL

    async def _look(self, _: Key) -> bool:
        before = self.text, self.error
        try:
            self.text, self.error = await self._read(), None
        except UnreadError as failure:
            self.error = str(failure)
        else:
            self._read_at = self._clock()
        if (self.text, self.error) != before:
            for key in list(self._followers):
                self._changed(key)
        return self.error is None
