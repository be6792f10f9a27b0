"""Whether this server takes requests: loading, ready, draining."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: So long without a request, once clients were asked to leave, means that they left. Endpoints take a second
#: or two to reach every node; a shorter silence may only be a pause.
QUIET_SECONDS = 4.0
_STEP_SECONDS = 0.05


class Lifecycle:
    """One server's state; lives on the event loop and is not for other threads."""

    def __init__(self, drain_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.loaded = False
        self.draining = False
        self.in_flight = 0
        #: Monotonic seconds at which a client's request last came or went.
        self.last = clock()
        #: Whether the other processes on the same port have loaded the model as well.
        self.peers_ready: Callable[[], bool] = lambda: True
        self._clock = clock
        self._drain_seconds = drain_seconds
        self._drained: asyncio.Task[float] | None = None

    @property
    def ready(self) -> bool:
        return self.loaded and not self.draining and self.peers_ready()

    def began(self) -> None:
        """A client's request (not a probe) arrived."""
        self.in_flight += 1
        self.last = self._clock()

    def ended(self) -> None:
        self.in_flight -= 1
        self.last = self._clock()

    def quiet_since(self) -> float | None:
        """When the last request was answered; ``None`` while one is being answered."""
        return None if self.in_flight else self.last

    async def drain(self) -> float:
        """Ask clients to leave and wait until they have, ``drainSeconds`` at most; seconds it took.

        Any number of callers share one drain.
        """
        if self._drained is None:
            self.draining = True
            self._drained = asyncio.create_task(self._wait_for_quiet())
        return await asyncio.shield(self._drained)

    async def _wait_for_quiet(self) -> float:
        began = self._clock()
        while True:
            now = self._clock()
            since = self.quiet_since()
            quiet = since is not None and now - max(since, began) >= QUIET_SECONDS
            if quiet or now - began >= self._drain_seconds:
                return now - began
            await asyncio.sleep(min(_STEP_SECONDS, self._drain_seconds))
