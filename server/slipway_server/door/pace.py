"""How fast a client sends or reads."""

from __future__ import annotations

from slipway_server.wire.limits import Limits


class Pace:
    """Bytes over time, looked at in windows; who is slow in one of them is too slow."""

    __slots__ = ("_bytes", "_since")

    def __init__(self, now: float, total: int = 0) -> None:
        """``now`` is in seconds of any clock; ``total`` bytes have come through so far."""
        self._since = now
        self._bytes = total

    def is_slow(self, now: float, total: int, limits: Limits) -> bool:
        """Whether fewer bytes came through since the last window began than must have."""
        seconds = now - self._since
        if seconds < limits.pace_seconds:
            return False
        slow = total - self._bytes < limits.bytes_per_second * seconds
        self._since, self._bytes = now, total
        return slow
