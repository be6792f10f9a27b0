"""HPACK's Huffman code (RFC 7541, 5.2), by the hpack library's table of half bytes, but a byte a step."""

from __future__ import annotations

from functools import cache
from typing import Any

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

#: Steps that are kept; ids of hexadecimal digits need some 2,000 of them.
_MAX_STEPS = 8192

_Row = list[Any]


class _Place(dict[int, "tuple[str, _Place]"]):
    """Where in the code a byte begins: by that byte, what it says and where the next one begins."""

    __slots__ = ("is_end", "state")
    steps = 0

    def __init__(self, state: int, is_end: bool) -> None:
        super().__init__()
        self.state = state
        self.is_end = is_end

    def __missing__(self, byte: int) -> tuple[str, _Place]:
        state, said, flags = self.state, "", 0
        for half in (byte >> 4, byte & 0x0F):
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("no code of HPACK")
            if flags & HUFFMAN_EMIT_SYMBOL:
                said += chr(symbol)
        step = said, _place(state, bool(flags & HUFFMAN_COMPLETE))
        if _Place.steps < _MAX_STEPS:
            _Place.steps += 1
            self[byte] = step
        return step


@cache
def _place(state: int, is_end: bool) -> _Place:
    return _Place(state, is_end)


def decode(data: bytes) -> bytes | None:
    """What ``data`` says, or ``None`` where it is no Huffman code."""
    place, said = _START, ""
    try:
        for byte in data:
            text, place = place[byte]
            said += text
    except HPACKDecodingError:
        return None
    return said.encode("latin-1") if place.is_end else None


def is_printable(data: bytes) -> bool:
    """Whether ``data`` says printable ASCII, at least one character of it; which ones is not found out."""
    row = _FIRST
    for byte in data:
        row = row[byte]
    known: bool | None = row[_IS_END]
    return _learn(data) if known is None else known


def _learn(data: bytes) -> bool:
    row = _FIRST
    for byte in data:
        if row[byte] is _UNKNOWN:
            row[byte] = _after(row[_PLACE], byte)
        row = row[byte]
    return bool(row[_IS_END])


def _after(place: _Place, byte: int) -> _Row:
    try:
        text, then = place[byte]
    except HPACKDecodingError:
        return _NOWHERE
    return _row(then.state, then.is_end) if text.isprintable() and text.isascii() else _NOWHERE


def _trap(is_end: bool | None) -> _Row:
    """A row that nothing leads out of."""
    row: _Row = []
    row += [*[row] * 256, None, is_end]
    return row


@cache
def _row(state: int, is_end: bool) -> _Row:
    """By each byte the row after it; then the place, and whether a text may end there."""
    return [*[_UNKNOWN] * 256, _place(state, is_end), is_end]


#: Where nobody has looked yet, and what is after no code, or after something not printable.
_UNKNOWN, _NOWHERE = _trap(None), _trap(False)
_PLACE, _IS_END = 256, 257
_START = _place(0, True)
_FIRST: _Row = [*[_UNKNOWN] * 256, _START, False]
