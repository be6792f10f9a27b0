"""HTTP/1.1 requests out of bytes, by llhttp: bytes in, events out.

There is no clock, no socket and no metric in here. Answers leave in the order of their requests, whose bytes
need nothing from the wire.
"""

from __future__ import annotations

import httptools

from slipway_server.wire.events import Ended, Event, Fault, Opened, Part, State
from slipway_server.wire.head import Head
from slipway_server.wire.limits import Limits

END = b"\r\n\r\n"
_MAX_KEPT_HEAD = 2048
#: By names of their own, which takes less time than to look them up for each piece.
_READY, _HEAD, _BODY, _CLOSED = State.READY, State.HEAD, State.BODY, State.CLOSED


class Http1:
    """The server's end of one connection."""

    __slots__ = (
        "_declined",
        "_ends_connection",
        "_events",
        "_head_bytes",
        "_headers",
        "_limits",
        "_parser",
        "_piece",
        "_raw",
        "_url",
        "last",
        "state",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.state: State = _READY
        #: The number of the request that began last.
        self.last = 0
        self._parser: httptools.HttpRequestParser | None = None
        self._events: list[Event] = []
        self._head_bytes = 0
        self._piece = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._raw: bytes | None = None
        self._ends_connection = False
        #: Asks for another protocol; its body is still to come.
        self._declined: Head | None = None

    def feed(self, data: bytes) -> list[Event]:
        """What comes of the next bytes."""
        self._events = []
        if self.state is not _CLOSED:
            self._feed(data)
        return self._events

    def close(self) -> None:
        self.state = _CLOSED

    def _feed(self, data: bytes) -> None:
        if self.state is _READY:
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
            self._fail("this request is not well-formed HTTP")
            return
        if self.state is _HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._fail(self._too_much)

    def _fail(self, words: str) -> None:
        if self.state is not _CLOSED:
            self.state = _CLOSED
            self._events.append(Fault(words))

    @property
    def _too_much(self) -> str:
        limits = self._limits
        size = limits.head_bytes // 1024
        return f"the head of this request has more than {size} KiB or {limits.headers} headers"

    def _decline(self, rest: bytes) -> None:
        """Go on as if no other protocol had been asked for, which HTTP allows; Java's client always asks."""
        head, self._declined = self._declined, None
        if head is None:
            return  # it has no body, so it is complete, and the connection ends with it
        # llhttp stops before the body. Another parser, told of nothing but its length, reads it.
        self._parser = None
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % head.framing)
        self._parser = parser
        if rest:
            self._feed(rest)

    def _begin(self, raw: bytes | None) -> None:
        """Something of a request arrived: perhaps its whole head, which is worth to be kept."""
        self.state = _HEAD
        self.last += 1
        self._head_bytes = 0
        self._raw = raw

    # What llhttp calls.

    def on_message_begin(self) -> None:
        if self._parser is None:
            return  # the one that reads a body alone, see _decline
        if self.state is _READY:
            # It follows another one in the same piece, of which most is not its own.
            self._begin(None)
            self._head_bytes = -self._piece
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is _HEAD:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, limits = self._parser, self._limits
        if parser is None or self.state is _CLOSED:
            return
        hosts, size = 0, len(self._url)
        for name, value in self._headers:
            size += len(name) + len(value)
            hosts += len(name) == 4 and name.lower() == b"host"
        is_http_1_0 = parser.get_http_version() == "1.0"
        if size > limits.head_bytes or len(self._headers) > limits.headers:
            self._fail(self._too_much)
        elif hosts > 1:
            self._fail("a request has one header Host, not several")
        elif not is_http_1_0 and not hosts:
            self._fail("a request needs the header Host")
        else:
            head = Head(parser.get_method().decode("latin-1"), self._url, self._headers)
            head.is_http_1_0 = is_http_1_0
            head.raw = self._raw
            upgrades = parser.should_upgrade()
            head.keep_alive = parser.should_keep_alive() and (head.has_body or not upgrades)
            self._declined = head if upgrades and head.has_body else None
            self.state = _BODY
            self._events.append(Opened(self.last, head))
            self._ends_connection = not head.keep_alive

    def on_body(self, part: bytes) -> None:
        if self.state is _BODY:
            self._events.append(Part(self.last, part))

    def on_message_complete(self) -> None:
        if self._declined is not None:
            return
        if self.state is _BODY:
            self.state = _CLOSED if self._ends_connection else _READY
            self._events.append(Ended(self.last))
