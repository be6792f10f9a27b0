"""Blocks of headers that were read before, and are recognised by their bytes.

Where HPACK's table is empty and stays so, a block means the same on every connection. Clients and routers
send the same one again and again, but for the few headers that are each request's own; their values alone are
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpack.hpack import decode_integer

from slipway_server.wire import huffman
from slipway_server.wire.head import Head

#: Headers that differ from request to request. HPACK has no number for any of them.
_OWN = frozenset({b"x-request-id", b"traceparent", b"grpc-timeout"})
_MAX_KEPT = 512
_MAX_BLOCK = 1024
#: So that none of them comes near the limit for all headers of a call, however long its own values are.
_MAX_HEADERS = 64
#: The length of a value that takes more than a byte to say.
_LONG = 0x7F


@dataclass(frozen=True, slots=True)
class _Template:
    """A block from its first own value on.

    ``parts`` has for each of them the header's name and the bytes from the value's end to the next value.
    """

    head: Head
    parts: tuple[tuple[bytes, bytes], ...]

    def read(self, block: bytes, position: int) -> Head | None:
        """The head of a block that is the same but for its own values; ``None`` where it is not."""
        own = {}
        for name, after in self.parts:
            if position >= len(block):
                return None
            size, position = block[position] & _LONG, position + 1
            if size == _LONG:
                return None
            stop = position + size
            value: bytes | None = block[position:stop]
            if block[position - 1] > _LONG:
                value = huffman.decode(block[position:stop])
            if value is None or not block.startswith(after, stop):
                return None
            own[name] = value
            position = stop + len(after)
        return self.head.with_own(own) if position == len(block) else None


class Kept:
    """What all connections of a port have read."""

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self._templates: dict[bytes, _Template] = {}

    def clear(self) -> None:
        """Forget all of it: calls that are under way have their heads to themselves then."""
        self._heads.clear()
        self._templates.clear()

    def find(self, block: bytes, marks: Sequence[bytes]) -> Head | None:
        """The head of a block like one before. ``marks`` are bytes with which own headers begin."""
        for mark in marks:
            found = block.find(mark)
            if found >= 0:
                # Fields are read from left to right: after the same bytes, the same one begins.
                start = found + len(mark)
                template = self._templates.get(block[:start])
                if template is not None:
                    return template.read(block, start)
        return self._heads.get(block)

    def keep(self, block: bytes, headers: Sequence[tuple[bytes, bytes]], head: Head) -> bytes | None:
        """Remember a block that needs no table; the mark of its first own header, where it has one."""
        if len(block) > _MAX_BLOCK or len(headers) > _MAX_HEADERS:
            return None
        for known in (self._heads, self._templates):
            if len(known) >= _MAX_KEPT:
                known.clear()
        if _OWN.isdisjoint(head.headers):
            self._heads[block] = head
            return None
        names, starts, stops, mark = [], [], [], None
        for (name, _), (first, start, stop) in zip(headers, _fields(block), strict=True):
            if name not in _OWN:
                continue
            if name in names or start == stop:
                return None
            mark = mark or block[first:start]
            names.append(name)
            starts.append(start)
            stops.append(stop)
        after = [block[stop:start] for stop, start in zip(stops, [*starts[1:], len(block)], strict=True)]
        self._templates[block[: starts[0]]] = _Template(head, tuple(zip(names, after, strict=True)))
        return mark


def _fields(block: bytes) -> list[tuple[int, int, int]]:
    """Where each field of a block begins, where its value does, and where it ends; no value, no bytes."""
    found, position = [], 0
    while position < len(block):
        first, kind = position, block[position]
        if kind & 0x80:
            position += decode_integer(block[position:], 7)[1]
            found.append((first, position, position))
            continue
        name, used = decode_integer(block[position:], 6 if kind & 0x40 else 4)
        position += used
        if not name:
            position += sum(decode_integer(block[position:], 7))
        start = position
        position += sum(decode_integer(block[position:], 7))
        found.append((first, start, position))
    return found
