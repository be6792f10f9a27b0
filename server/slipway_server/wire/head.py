"""The head of a request: what it asks for, how its body comes, and what must be said back."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from copy import copy
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from slipway_server.errors import Reason, RequestError, schema_error, show
from slipway_server.protocol.header import HEADER_LENGTH, parse_header_length
from slipway_server.wire.limits import Limits

#: Says who asks.
AUTHORIZATION = b"authorization"
#: The client's name for a request.
REQUEST_ID = b"x-request-id"
JSON, BINARY = "application/json", "application/octet-stream"
#: JSON takes many times its size when parsed, so it is bounded more tightly than binary tensors.
MAX_JSON_BYTES = 8 * 1024 * 1024
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_ID = 128
_ID_LINE = b"\r\nx-request-id: "


class Payer(Protocol):
    """Who has a request counted, from its beginning to its end.

    Attributes:
        counts_bytes: whether bytes of bodies count as well.
    """

    counts_bytes: bool

    def begin(self, now: float) -> RequestError | None:
        """Count it; why it may not begin, or None. ``now`` is of the clock of ``time.perf_counter``."""

    def end(self, rows: int) -> None:
        """It is over, and so many rows were answered."""

    def hold(self, held: int, size: int) -> RequestError | None:
        """Count bytes of a body that has ``held`` already; why they may not be had, or None."""

    def free(self, size: int) -> None:
        """So many bytes are in memory no more."""


class Head:
    """A request line and its headers; header names in lower case, the first of several with one name."""

    __slots__ = (
        "caller",
        "certified",
        "chunked",
        "content_length",
        "header_length",
        "headers",
        "is_http_1_0",
        "is_template",
        "keep_alive",
        "limit",
        "method",
        "path",
        "payer",
        "peer",
        "raw",
        "seconds",
        "target",
    )

    def __init__(self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.headers: dict[bytes, bytes] = {}
        for name, value in headers:
            lower = name.lower()
            if self.headers.setdefault(lower, value) is not value and lower == AUTHORIZATION:
                self.headers[lower] = b""  # two of them name two callers, and neither is believed
        self.path = _path(target)
        length = self.headers.get(b"content-length")
        self.content_length = None if length is None else int(length)
        self.chunked = b"transfer-encoding" in self.headers
        self.keep_alive = True
        self.is_http_1_0 = False
        #: Came by its bytes; all requests with these bytes have it in common.
        self.is_template = False
        #: Its bytes, where they came in one piece from the beginning.
        self.raw: bytes | None = None
        #: Who asks, where that was found out.
        self.caller: Any = None
        #: Where it came from, as :func:`slipway_server.door.admission.owner_of` has it.
        self.peer: Hashable = ""
        #: Whom the client's certificate names, as the connection has it.
        self.certified: Any = None
        #: Whom to tell when it is answered, where somebody counts what they ask.
        self.payer: Payer | None = None
        #: Filled by :meth:`check_infer`.
        self.header_length: int | None = None
        self.limit = 0
        self.seconds: float | None = None

    def with_own(self, own: dict[bytes, bytes]) -> Head:
        """The same with other values of some headers, none of which says how the body comes."""
        head = Head.__new__(Head)
        head.method, head.target, head.path = self.method, self.target, self.path
        head.headers = {**self.headers, **own}
        head.content_length, head.chunked = self.content_length, self.chunked
        head.keep_alive, head.is_http_1_0 = self.keep_alive, self.is_http_1_0
        head.is_template, head.raw, head.caller, head.payer, head.peer = False, None, None, None, ""
        head.certified = None
        head.header_length, head.limit, head.seconds = None, 0, None
        return head

    def without(self, name: bytes) -> Head:
        """The same without one of its headers, none of which says how the body comes."""
        head = self.with_own({})
        head.headers.pop(name, None)
        return head

    def text(self, name: bytes, default: str = "") -> str:
        """A header's value."""
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")

    @property
    def media_type(self) -> str:
        """Of the body, without parameters."""
        return self.text(b"content-type", JSON).partition(";")[0].strip().lower()

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)

    @property
    def framing(self) -> bytes:
        """The header that says how the body comes."""
        return (
            b"transfer-encoding: chunked"
            if self.chunked
            else b"content-length: %d" % (self.content_length or 0)
        )

    @property
    def expects(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"

    @property
    def gzip(self) -> bool:
        return self.headers.get(b"content-encoding", b"").strip().lower() in (b"gzip", b"x-gzip")

    @property
    def request_id(self) -> bytes | None:
        """The client's name for this request, where it is fit to be said back."""
        value = self.headers.get(REQUEST_ID)
        if value is None or not 0 < len(value) <= _MAX_ID or not value.isascii():
            return None
        return value if value.decode("ascii").isprintable() else None

    @property
    def traceparent(self) -> bytes | None:
        """The W3C trace context of the caller, where it is well-formed."""
        value = self.headers.get(b"traceparent")
        return value if value is not None and _TRACEPARENT.fullmatch(value) else None

    def as_template(self, limits: Limits) -> tuple[bytes, Head] | None:
        """What of it may come again: a text, and the head that the text stands for whenever it comes.

        A request's id is in neither, see :func:`without_id`. ``None`` where something else in it is this
        request's own, or where the text is no whole head.
        """
        text = self.raw
        if text is None or not text.startswith(b"%b %b HTTP/1.1\r\n" % (self.method.encode(), self.target)):
            return None
        if text.count(b"\r\n") > limits.headers + 1:
            return None  # with an id it would be one header too many
        plain = copy(self)
        plain.raw = None
        found = without_id(text)
        if found is not None and self.headers.get(REQUEST_ID) == found[1]:
            text = found[0]
            plain.headers = {name: value for name, value in self.headers.items() if name != REQUEST_ID}
        is_plain = (
            plain.keep_alive
            and not plain.is_http_1_0
            and plain.content_length is not None
            and not plain.chunked
            and plain.headers.keys().isdisjoint(_PER_REQUEST)
        )
        return (text, plain) if is_plain else None

    def check_infer(self, max_bytes: int, also: str | None = None) -> None:
        """All checks of an inference request that need no body; sets what the body has to be.

        ``also`` is a media type that is taken beside those of the Open Inference Protocol.
        Raises :class:`RequestError` with 400, 411, 413 or 415.
        """
        media_type = self.media_type
        if media_type not in (JSON, BINARY, also):
            known = JSON if also is None else f"{JSON}, {also}"
            raise RequestError(
                415,
                Reason.MEDIA_TYPE,
                f"the content type is {show(media_type)}; send {known}, or {BINARY} with {HEADER_LENGTH}",
            )
        encoding = self.text(b"content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise RequestError(
                415,
                Reason.MEDIA_TYPE,
                f"bodies compressed by {show(encoding)} are not taken; send it with gzip, "
                "or without Content-Encoding",
            )
        length = self.headers.get(HEADER_LENGTH.lower().encode())
        if media_type == BINARY and length is None:
            raise schema_error(
                f"{BINARY} needs the header {HEADER_LENGTH}: the size of the JSON part in bytes"
            )
        if length is not None:
            self.header_length = parse_header_length(length.decode("latin-1"))
            if self.header_length > MAX_JSON_BYTES:
                raise too_large(MAX_JSON_BYTES)
        self.limit = max_bytes if length is not None else min(max_bytes, MAX_JSON_BYTES)
        if self.content_length is None and not self.chunked:
            raise RequestError(411, Reason.SIZE, "send the header Content-Length, or the body in chunks")
        if self.content_length is not None and self.content_length > self.limit:
            raise too_large(self.limit)
        self.seconds = _seconds(self.headers.get(b"timeout"))


#: Headers that change how or when a request is answered, or that belong to it alone.
_PER_REQUEST = frozenset({b"expect", REQUEST_ID, b"traceparent", b"timeout", b"content-encoding", b"upgrade"})


def without_id(text: bytes) -> tuple[bytes, bytes] | None:
    """A head's text without its last line ``x-request-id``, and that line's value: routers add one to each.

    ``None`` where there is no such line, or more than letters, digits and hyphens in it. What is left means
    the same but for it: a whole line is cut out, and a head whose lines go on in the next one is never kept.
    """
    before, line, after = text.rpartition(_ID_LINE)
    value, newline, rest = after.partition(b"\r\n")
    if not line or len(value) > _MAX_ID or not value.replace(b"-", b"").isalnum():
        return None
    return before + newline + rest, value


def too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413,
        Reason.SIZE,
        f"the body is larger than {max_bytes} bytes; send fewer rows at once, or as binary data",
    )


def _path(target: bytes) -> str:
    if not target.startswith(b"/"):
        # The absolute form, which only proxies use: the path begins after the authority.
        _, _, rest = target.partition(b"://")
        target = rest[rest.find(b"/") :] if b"/" in rest else b"/"
    path = target.partition(b"?")[0]
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace")


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise schema_error("the header 'timeout' must be a number of seconds, such as 0.5")
    return seconds
