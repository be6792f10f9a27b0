"""Which tokens were used already: a bounded window in memory that all processes of a pod share."""

from __future__ import annotations

_WAYS = 8
_BUCKETS = 16384
#: Bytes of the table. It remembers the last 131,072 tokens or so.
TABLE_BYTES = _BUCKETS * _WAYS * 8


class Seen:
    """A table of random 64-bit numbers in buckets of eight, of which the newest one drives out the oldest."""

    def __init__(self, memory: memoryview) -> None:
        """``memory`` has :data:`TABLE_BYTES` bytes, all zero at first."""
        self._table = memory.cast("Q")

    def add(self, identity: int) -> bool:
        """Whether the number, which is not 0, is new; it is remembered from now on."""
        start = identity % _BUCKETS * _WAYS
        bucket = self._table[start : start + _WAYS].tolist()
        if identity in bucket:
            return False
        self._table[start] = identity
        for way in range(1, _WAYS):
            self._table[start + way] = bucket[way - 1]
        return True
