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

    async def drain(self) -> float:
        """Ask clients to leave and wait until they have, ``drainSeconds`` at most; seconds it took."""
        self.draining = True
        began = self._clock()
        while True:
            now = self._clock()
            quiet = not self.in_flight and now - max(self.last, began) >= QUIET_SECONDS
            if quiet or now - began >= self._drain_seconds:
                return now - began
            await asyncio.sleep(min(_STEP_SECONDS, self._drain_seconds))
