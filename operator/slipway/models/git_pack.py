"""How much memory the objects of a pack would take, found before they take it."""

from __future__ import annotations

import zlib
from typing import IO

_PIECE = 64 * 1024
_BY_OFFSET, _BY_HASH = 6, 7
#: Of a delta: enough for the two sizes that it begins with.
_HEAD = 24


class PackError(ValueError):
    """The bytes are no pack."""


def unpacked_size(pack: IO[bytes], limit: int) -> int:
    """Bytes of all objects of a pack, deltas and what they make included; stops beyond ``limit``.

    A few kB of zlib may hold gigabytes. Raises :class:`PackError`.
    """
    reader = _Reader(pack)
    head = reader.take(12)
    if head[:4] != b"PACK":
        raise PackError("the pack does not begin as one")
    total = 0
    for _ in range(int.from_bytes(head[8:], "big")):
        kind, size = reader.object_head()
        if kind == _BY_OFFSET:
            while reader.take(1)[0] & 0x80:
                pass
        elif kind == _BY_HASH:
            reader.take(20)
        total += size
        if total > limit:
            return total
        start = reader.inflate(size)
        if kind in (_BY_OFFSET, _BY_HASH):
            total += _size_of_result(start)
        if total > limit:
            return total
    return total


class _Reader:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._held = b""

    def take(self, count: int) -> bytes:
        while len(self._held) < count:
            self._more()
        found, self._held = self._held[:count], self._held[count:]
        return found

    def object_head(self) -> tuple[int, int]:
        """Type and size of the object that comes next."""
        byte = self.take(1)[0]
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 0x80:
            byte = self.take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise PackError("an object of the pack has no size")
        return kind, size

    def inflate(self, size: int) -> bytes:
        """Pass over an object's content, which has ``size`` bytes; gives the first of them."""
        inflater, come, first = zlib.decompressobj(), 0, b""
        pending = self._held
        while not inflater.eof:
            if not pending:
                self._more()
                pending = self._held
            piece = inflater.decompress(pending, _PIECE)
            pending = inflater.unconsumed_tail
            self._held = inflater.unused_data if inflater.eof else b""
            come += len(piece)
            first += piece[: _HEAD - len(first)]
            if come > size:
                raise PackError("an object of the pack is larger than it says")
        return first

    def _more(self) -> None:
        piece = self._file.read(_PIECE)
        if not piece:
            raise PackError("the pack ends too early")
        self._held += piece


def _size_of_result(delta: bytes) -> int:
    """A delta begins with the size of what it is for, and of what it makes."""
    sizes, at = [0, 0], 0
    for which in range(2):
        shift = 0
        while at < len(delta):
            byte = delta[at]
            sizes[which] |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not byte & 0x80:
                break
    return sizes[1]
