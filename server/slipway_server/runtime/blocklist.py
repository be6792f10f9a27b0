"""Requests that ended a process of this pod, and who sent them: in memory that its processes share.

Each process has a part of its own, which it alone writes and which outlives it, so there is no lock between
processes. What is written once is known to all of them before they run a request.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway_server.protocol.tensors import Array

#: Requests that one process remembers; the oldest are overwritten.
ENTRIES = 512
#: A peer that ended so many processes within so many seconds is refused for as long, counted from the last.
MOST_ENDS = 3
SHUT_OUT_SECONDS = 60.0
#: A request's digest, its peer's, and when it was, on the machine's monotonic clock.
_ENTRY = struct.Struct("<16s8sd")
_HEAD = 8
#: Bytes of one process's part.
PART_BYTES = _HEAD + ENTRIES * _ENTRY.size


class Blocklist:
    """What all processes wrote, and this one's part to write to; any thread may call."""

    def __init__(self, memory: memoryview, position: int = 0) -> None:
        """``memory`` has :data:`PART_BYTES` bytes for each process, all zero where none was before."""
        rows = len(memory) // PART_BYTES
        parts = [memory[row * PART_BYTES : (row + 1) * PART_BYTES] for row in range(rows)]
        self._counts = [part[:_HEAD].cast("Q") for part in parts]
        self._entries = [part[_HEAD:] for part in parts]
        self._position = position
        self._lock = threading.Lock()
        self._seen: list[int] = []
        self._digests: frozenset[bytes] = frozenset()
        self._ends: dict[bytes, list[float]] = {}

    def __bool__(self) -> bool:
        """Whether any request ended a process."""
        return any(count[0] for count in self._counts)

    def add(self, digest: bytes, peer: str) -> None:
        """A request ended a process. ``peer`` is who sent it, or empty where that cannot be told."""
        with self._lock:
            count, entries = self._counts[self._position], self._entries[self._position]
            at = count[0] % ENTRIES * _ENTRY.size
            _ENTRY.pack_into(entries, at, digest, _name(peer), monotonic())
            # Last, so that nobody reads half an entry.
            count[0] += 1

    def has(self, digest: bytes) -> bool:
        """Whether this request ended a process before."""
        self._refresh()
        return digest in self._digests

    def shut_out(self, peer: str) -> float:
        """Seconds for which a peer is refused from now on, since its requests ended processes; 0 if not."""
        if not peer:
            return 0.0
        self._refresh()
        now = monotonic()
        recent = [then for then in self._ends.get(_name(peer), ()) if now - then < SHUT_OUT_SECONDS]
        return SHUT_OUT_SECONDS - (now - max(recent)) if len(recent) >= MOST_ENDS else 0.0

    def _refresh(self) -> None:
        counts = [count[0] for count in self._counts]
        if counts == self._seen:
            return
        digests: set[bytes] = set()
        ends: dict[bytes, list[float]] = {}
        for count, entries in zip(counts, self._entries, strict=True):
            for place in range(min(count, ENTRIES)):
                digest, peer, then = _ENTRY.unpack_from(entries, place * _ENTRY.size)
                digests.add(digest)
                ends.setdefault(peer, []).append(then)
        self._digests, self._ends, self._seen = frozenset(digests), ends, counts


def digest_of(inputs: Mapping[str, Array]) -> bytes:
    """The same for the same values, whichever protocol they came by."""
    found = blake2b(digest_size=16)
    for name in sorted(inputs):
        array = inputs[name]
        found.update(f"{name}\0{array.dtype.str}{array.shape}\0".encode("utf-8", "surrogatepass"))
        if array.dtype.hasobject:
            for text in array.reshape(-1).tolist():
                data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass")
                found.update(len(data).to_bytes(8, "little") + data)
        else:
            found.update(array.tobytes())
    return found.digest()


def _name(peer: str) -> bytes:
    return blake2b(peer.encode("utf-8", "surrogatepass"), digest_size=8).digest()
