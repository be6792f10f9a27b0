"""Reading a request's body: what it claims to be, how big it is, how long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from slipway_server.errors import Reason, RequestError, not_now, schema_error, show
from slipway_server.protocol.decode import HEADER_LENGTH, parse_header_length

#: A client that needs longer than this to send its body is cut off, whatever the size.
BODY_SECONDS = 60.0
#: JSON takes many times its size when parsed, so it is bounded more tightly than binary tensors.
MAX_JSON_BYTES = 8 * 1024 * 1024
_JSON, _BINARY = "application/json", "application/octet-stream"


class BodyBudget:
    """How many bytes of bodies may be in memory at once, over all requests."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        if self.used + size > self.limit:
            raise not_now(
                Reason.OVERLOAD, "the bodies of the requests under way fill the memory set aside for them"
            )
        self.used += size

    def give_back(self, size: int) -> None:
        self.used -= size


def body_limit(header_length: int | None, max_bytes: int) -> int:
    """The size in bytes that a body may have: less for one that is all JSON."""
    return max_bytes if header_length is not None else min(max_bytes, MAX_JSON_BYTES)


def check_head(headers: Mapping[str, str], max_bytes: int) -> int | None:
    """The size of the JSON part where the headers announce one, after all checks that need no body.

    Raises :class:`RequestError` with 400, 411, 413 or 415.
    """
    media_type = headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    length = headers.get(HEADER_LENGTH.lower())
    if media_type not in (_JSON, _BINARY):
        raise RequestError(
            415,
            Reason.MEDIA_TYPE,
            f"the content type is {show(media_type)}; send {_JSON}, or {_BINARY} with {HEADER_LENGTH}",
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RequestError(
            415, Reason.MEDIA_TYPE, "compressed bodies are not taken; send it without Content-Encoding"
        )
    if media_type == _BINARY and length is None:
        raise schema_error(f"{_BINARY} needs the header {HEADER_LENGTH}: the size of the JSON part in bytes")
    header_length = None if length is None else parse_header_length(length)
    if header_length is not None and header_length > MAX_JSON_BYTES:
        raise _too_large(MAX_JSON_BYTES)
    claimed = headers.get("content-length")
    if claimed is None and "transfer-encoding" not in headers:
        raise RequestError(411, Reason.SIZE, "send the header Content-Length, or the body in chunks")
    if claimed is not None and int(claimed) > body_limit(header_length, max_bytes):
        raise _too_large(body_limit(header_length, max_bytes))
    return header_length


async def read_body(chunks: AsyncIterator[bytes], max_bytes: int, budget: BodyBudget) -> bytes:
    """The whole body; the caller gives its size back to the budget when done with it.

    Raises :class:`RequestError` with 408, 413 or 503, having given back what was taken.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in chunks:
                if size + len(chunk) > max_bytes:
                    raise _too_large(max_bytes)
                budget.take(len(chunk))
                size += len(chunk)
                parts.append(chunk)
    except BaseException as error:
        budget.give_back(size)
        if isinstance(error, TimeoutError):
            raise RequestError(
                408,
                Reason.SLOW_CLIENT,
                f"the body did not arrive within {BODY_SECONDS:g} s",
                {"connection": "close"},
            ) from None
        raise
    return b"".join(parts)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413,
        Reason.SIZE,
        f"the body is larger than {max_bytes} bytes; send fewer rows at once, or as binary data",
    )
