"""Until when this process may write: who may have lost the lease writes nothing (ADR 9)."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a request of somebody outside may take to be written down by a replica that never led.
REQUEST_SECONDS = 10.0


def boot_time() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Fence:
    """Closed until the lease is held, and again as soon as somebody else might hold it."""

    def __init__(self, begin: float, finish: float, clock: Callable[[], float] = boot_time) -> None:
        """
        Args:
            begin: seconds after a renewal was sent during which a write may begin.
            finish: seconds after it at which the write must be over; less than the lease lasts.
            clock: as :func:`boot_time`.
        """
        self._begin = begin
        self._finish = finish
        self._clock = clock
        self._renewed: float | None = None
        self._led = False

    def renew(self, sent: float) -> None:
        """The lease was taken or renewed by a request that was sent at this time of the clock."""
        self._renewed, self._led = sent, True

    def close(self) -> None:
        """Write no more, however long the lease would last."""
        self._renewed, self._led = None, True

    def left(self) -> float:
        """Seconds that a write which begins now may take; 0 where none may begin."""
        if self._renewed is None:
            return 0.0
        passed = self._clock() - self._renewed
        return self._finish - passed if passed < self._begin else 0.0

    def left_for_request(self) -> float:
        """Likewise for noting a request of somebody outside, which a replica that never led may do too."""
        return self.left() if self._led else REQUEST_SECONDS
