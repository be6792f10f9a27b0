"""HPACK's Huffman code (RFC 7541, 5.2), by the hpack library's table of half bytes, but a byte a step."""

from __future__ import annotations

from functools import cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

#: Steps that are kept; ids of hexadecimal digits need some 2,000 of them.
_MAX_STEPS = 8192


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


_START = _place(0, True)
