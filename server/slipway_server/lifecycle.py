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
        self._clock = clock
        self._last = clock()
        self._drain_seconds = drain_seconds
        self._drained: asyncio.Task[float] | None = None

    @property
    def ready(self) -> bool:
        return self.loaded and not self.draining

    def began(self) -> None:
        """A client's request (not a probe) arrived."""
        self.in_flight += 1
        self._last = self._clock()

    def ended(self) -> None:
        self.in_flight -= 1
        self._last = self._clock()

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
            quiet = self.in_flight == 0 and now - max(self._last, began) >= QUIET_SECONDS
            if quiet or now - began >= self._drain_seconds:
                return now - began
            await asyncio.sleep(min(_STEP_SECONDS, self._drain_seconds))
