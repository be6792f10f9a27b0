"""Blocks of headers that were read before, and are recognised by their bytes.

Where HPACK's table is empty and stays so, a block means the same on every connection. Clients and routers
send the same one again and again, but for the few headers that are each request's own; their values alone are
read. A router's id is not even that: it is checked, and goes back as it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpack.hpack import decode_integer

from slipway_server.wire import huffman
from slipway_server.wire.head import REQUEST_ID, Head

#: Headers that differ from request to request. HPACK has no number for any of them.
_PER_REQUEST = frozenset({REQUEST_ID, b"traceparent", b"grpc-timeout"})
_MAX_KEPT = 512
#: How many ways to begin with a header of its own are looked for in a connection's blocks.
_MAX_MARKS = 3
_MAX_BLOCK = 1024
#: So that none of them comes near the limit for all headers of a call, however long its own values are.
_MAX_HEADERS = 64
#: No code is shorter than five bits, so no more than 128 characters.
_MAX_CODED_ID = 80
#: The length of a value that takes more than a byte to say.
_LONG = 0x7F
#: A head, and the value of ``x-request-id`` where it is not in the head: as HPACK has it, its length first.
Read = tuple[Head, bytes | None]


def value_of(coded: bytes) -> bytes | None:
    """A short value as HPACK has it, its length first; ``None`` where it is no code."""
    return huffman.decode(coded[1:]) if coded[0] > _LONG else coded[1:]


def _is_id(coded: bytes) -> bool:
    """Whether a value is what :attr:`Head.request_id` takes: it may then be said back."""
    text = coded[1:]
    if coded[0] > _LONG:
        return len(text) <= _MAX_CODED_ID and huffman.is_printable(text)
    return 0 < len(text) < _LONG and text.isascii() and text.decode("ascii").isprintable()


@dataclass(frozen=True, slots=True)
class _Template:
    """A block from its first own value on.

    ``parts`` has for each of them the header's name and the bytes from the value's end to the next value;
    ``after_id`` is what comes after the id, where that is all that is the request's own.
    """

    head: Head
    parts: tuple[tuple[bytes, bytes], ...]
    after_id: bytes | None

    def read(self, block: bytes, position: int) -> Read | None:
        """What a block says that is the same but for its own values; ``None`` where it is not."""
        after_id = self.after_id
        if after_id is not None:
            stop = len(block) - len(after_id)
            size = stop - position - 1
            if (
                0 < size <= _MAX_CODED_ID
                and block[position] == size | 0x80
                and block.endswith(after_id)
                and huffman.is_printable(block[position + 1 : stop])
            ):
                return self.head, block[position:stop]
        own, request_id = {}, None
        for name, after in self.parts:
            if position >= len(block):
                return None
            size = block[position] & _LONG
            stop = position + 1 + size
            if size == _LONG or not block.startswith(after, stop):
                return None
            coded = block[position:stop]
            if name == REQUEST_ID:
                if not _is_id(coded):
                    return None
                request_id = coded
            else:
                value = value_of(coded)
                if value is None:
                    return None
                own[name] = value
            position = stop + len(after)
        if position != len(block):
            return None
        return (self.head.with_own(own) if own else self.head), request_id


class Kept:
    """What all connections of a port have read."""

    def __init__(self) -> None:
        self.heads: dict[bytes, Read] = {}
        #: By the bytes before the first own value.
        self.templates: dict[bytes, _Template] = {}

    def clear(self) -> None:
        """Forget all of it: heads are given to calls for as long as callers' rights stand."""
        self.heads.clear()
        self.templates.clear()


class Blocks:
    """The blocks of one connection, as far as they are like any that were read before."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        #: Bytes with which own headers begin.
        self._marks: list[bytes] = []
        #: What stood before the first own value last time.
        self._last = b""

    def find(self, block: bytes) -> Read | None:
        """What a block says, where that is known."""
        last = self._last
        if last and block.startswith(last):
            template = self._kept.templates.get(last)
            if template is not None:
                return template.read(block, len(last))
        for mark in self._marks:
            found = block.find(mark)
            if found >= 0:
                # Fields are read from left to right: after the same bytes, the same one begins.
                first = block[: found + len(mark)]
                template = self._kept.templates.get(first)
                if template is not None:
                    self._last = first
                    return template.read(block, len(first))
        return self._kept.heads.get(block)

    def keep(self, block: bytes, headers: Sequence[tuple[bytes, bytes]], head: Head) -> None:
        """Remember a block that needs no table."""
        if len(block) > _MAX_BLOCK or len(headers) > _MAX_HEADERS:
            return
        kept = self._kept
        for known in (kept.heads, kept.templates):
            if len(known) >= _MAX_KEPT:
                known.clear()
        if _PER_REQUEST.isdisjoint(head.headers):
            kept.heads[block] = head, None
            return
        names, starts, stops, mark = [], [], [], b""
        for (name, _), (first, start, stop) in zip(headers, _fields(block), strict=True):
            if name not in _PER_REQUEST:
                continue
            if name in names or start == stop:
                return
            mark = mark or block[first:start]
            names.append(name)
            starts.append(start)
            stops.append(stop)
        after = [block[stop:start] for stop, start in zip(stops, [*starts[1:], len(block)], strict=True)]
        parts = tuple(zip(names, after, strict=True))
        after_id = after[0] if names == [REQUEST_ID] else None
        kept.templates[block[: starts[0]]] = _Template(head.without(REQUEST_ID), parts, after_id)
        if mark not in self._marks:
            self._marks = [mark, *self._marks[: _MAX_MARKS - 1]]


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
