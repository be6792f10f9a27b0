"""Headers of gRPC over HTTP/2: read by the hpack library, written without any state.

A client sends the same headers again and again, and then HPACK (RFC 7541) makes each of them one byte that
refers to a table. Such a block means the same as long as the table does not change, so it is read but once. A
router gives an id to each request, which changes that table each time; ours keeps none, see ``kept``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import hpack

from slipway_server.wire.frames import Code, ConnectionFaultError
from slipway_server.wire.head import Head
from slipway_server.wire.kept import Blocks, Kept, Read
from slipway_server.wire.limits import Limits

#: What a client that shrinks its table below the usual size has to be told first: that none is used.
NO_TABLE = b"\x20"
_MAX_SAME = 256
_MAX_SAME_BLOCK = 64
#: The first three bits of a change of the table's size.
_TABLE_UPDATE = 0x20
_FORBIDDEN = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_PSEUDO = (b":method", b":scheme", b":path", b":authority")


class MalformedError(Exception):
    """Headers that HTTP/2 forbids; the stream has to be reset."""


class HeaderReader:
    """One connection's header blocks, in their order."""

    def __init__(self, limits: Limits, kept: Kept) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=limits.header_bytes)
        self._table_updates = limits.table_updates
        #: Blocks that mean the same as long as the client's table does not change.
        self._same: dict[bytes, Read] = {}
        #: The client keeps no table: the same bytes always mean the same.
        self._is_stateless = False
        self._blocks = Blocks(kept)

    def read(self, block: bytes) -> Read:
        """The head of a request, and its id where that is not in the head, as HPACK has it.

        Raises :class:`ConnectionFaultError`, or :class:`MalformedError`.
        """
        found = self._blocks.find(block) if self._is_stateless else self._same.get(block)
        if found is not None:
            return found
        headers, stays = self._decode(block)
        head = _head(headers)
        if self._is_stateless:
            if block[0] & 0xE0 != _TABLE_UPDATE:
                self._blocks.keep(block, headers, head)
        elif stays and len(self._same) < _MAX_SAME:
            self._same[block] = head, None
        return head, None

    def skip(self, block: bytes) -> bool:
        """Read headers that nobody wants, for what they do to the table; whether they may be trailers."""
        headers, _ = self._decode(block)
        return not any(name.startswith(b":") for name, _ in headers)

    def _decode(self, block: bytes) -> tuple[Sequence[tuple[bytes, bytes]], bool]:
        """The headers, and whether all of them came from a table that is as before."""
        if _table_updates(block, self._table_updates) > self._table_updates:
            raise ConnectionFaultError(Code.COMPRESSION_ERROR, "the table of headers changes too often")
        try:
            headers: Any = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError:
            raise ConnectionFaultError(Code.ENHANCE_YOUR_CALM, "the headers are too large") from None
        except (hpack.HPACKError, UnicodeDecodeError, IndexError):
            raise ConnectionFaultError(Code.COMPRESSION_ERROR, "the headers are not HPACK") from None
        self._is_stateless = self._decoder.header_table_size == 0
        stays = len(block) <= _MAX_SAME_BLOCK and all(0x80 < byte < 0xFF for byte in block)
        if not stays:
            self._same.clear()
        return headers, stays


def _table_updates(block: bytes, most: int) -> int:
    """How many changes of the table's size a block begins with; it stops to count beyond ``most``."""
    count = position = 0
    while count <= most and position < len(block) and block[position] & 0xE0 == _TABLE_UPDATE:
        count += 1
        long = block[position] & 0x1F == 0x1F
        position += 1
        while long and position < len(block):
            long = block[position] & 0x80 != 0
            position += 1
    return count


def _head(headers: Sequence[tuple[bytes, bytes]]) -> Head:
    pseudo: dict[bytes, bytes] = {}
    rest: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or rest:
                raise MalformedError
            pseudo[name] = value
            continue
        if name in _FORBIDDEN or name != name.lower() or (name == b"te" and value != b"trailers"):
            raise MalformedError
        if name == b"content-length" and not (value.isdigit() and len(value) < 16):
            raise MalformedError
        rest.append((name, value))
    if not all(pseudo.get(name) for name in _PSEUDO[:3]):
        raise MalformedError
    return Head(pseudo[b":method"].decode("latin-1"), pseudo[b":path"], rest)


def literal(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it when nobody is to remember it."""
    if len(name) < 127 and len(value) < 127:
        return b"\x00%c%b%c%b" % (len(name), name, len(value), value)
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def block(pairs: Iterable[tuple[bytes, bytes]], status: bytes = b"200") -> bytes:
    """The headers of a response."""
    first = b"\x88" if status == b"200" else literal(b":status", status)
    return first + b"".join(literal(*pair) for pair in pairs)


def _length(size: int) -> bytes:
    # RFC 7541, 5.1, with a prefix of 7 bits.
    if size < 127:
        return bytes((size,))
    size -= 127
    out = bytearray((127,))
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    out.append(size)
    return bytes(out)
