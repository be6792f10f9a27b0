"""Requests out of bytes by llhttp: whatever the quick way does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from slipway_server.wire.head import Head
from slipway_server.wire.limits import Limits

if TYPE_CHECKING:
    from slipway_server.http.protocol import HttpProtocol

END = b"\r\n\r\n"
_MAX_KEPT_HEAD = 2048


class Reader:
    """Tells a connection of heads that are well-formed, of the parts of their bodies, and of their ends."""

    __slots__ = (
        "_connection",
        "_declined",
        "_head_bytes",
        "_headers",
        "_kept",
        "_limits",
        "_parser",
        "_piece",
        "_url",
        "in_head",
    )

    def __init__(self, connection: HttpProtocol, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = None
        self.in_head = False
        self._head_bytes = 0
        self._piece = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._kept: bytes | None = None
        #: Asks for another protocol; its body is still to come.
        self._declined: Head | None = None

    def feed(self, data: bytes) -> None:
        """A piece of a connection of which nothing was refused yet."""
        connection = self._connection
        if connection.idle:
            end = data.find(END) + 4
            self._begin(data[:end] if 4 <= end <= _MAX_KEPT_HEAD else None)
        self._piece = len(data)
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            connection.malformed()
            return
        if self.in_head and not connection.idle:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                connection.malformed(self._too_much)
            elif len(data) > 0:
                connection.charge_head(len(data))

    def _decline(self, rest: bytes) -> None:
        """Answer as if no other protocol had been asked for, which HTTP allows; Java's client always asks."""
        head, self._declined = self._declined, None
        if head is None:
            self._connection.close_after()
            return
        # llhttp stops before the body. Another parser, told of nothing but its length, reads it.
        self._parser = None
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % head.framing)
        self._parser = parser
        if rest:
            self._connection.feed(rest)

    @property
    def _too_much(self) -> str:
        limits = self._limits
        size = limits.head_bytes // 1024
        return f"the head of this request has more than {size} KiB or {limits.headers} headers"

    def _begin(self, kept: bytes | None) -> None:
        """Something of a request arrived: perhaps its whole head, which is worth to be kept."""
        self._connection.begin()
        self.in_head = True
        self._head_bytes = 0
        self._kept = kept

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self._parser is None:
            return  # the one that reads a body alone, see _decline
        if self._connection.idle and not self._connection.last:
            # It follows another one in the same piece, of which most is not its own.
            self._begin(None)
            self._head_bytes = -self._piece
        self._url = b""
        self._headers = []
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        parser, connection = self._parser, self._connection
        if parser is None or connection.last:
            return
        size = sum(len(name) + len(value) for name, value in self._headers) + len(self._url)
        method = parser.get_method().decode("latin-1")
        head = Head(method, self._url, self._headers)
        head.is_http_1_0 = parser.get_http_version() == "1.0"
        hosts = sum(name.lower() == b"host" for name, _ in self._headers)
        if size > self._limits.head_bytes or len(self._headers) > self._limits.headers:
            connection.malformed(self._too_much)
        elif hosts > 1:
            connection.malformed("a request has one header Host, not several")
        elif not head.is_http_1_0 and not hosts:
            connection.malformed("a request needs the header Host")
        else:
            head.keep_alive = parser.should_keep_alive()
            self._declined = head if parser.should_upgrade() and head.has_body else None
            connection.open(head)

    def on_body(self, part: bytes) -> None:
        self._connection.take(part)

    def on_message_complete(self) -> None:
        if self._declined is None:
            kept, self._kept = self._kept, None
            self._connection.end(kept)
