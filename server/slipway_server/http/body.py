"""A request's body: how long it may take, how much memory all bodies share, and how it is unpacked."""

from __future__ import annotations

import zlib

from slipway_server.errors import Reason, RequestError, not_now, schema_error
from slipway_server.http.head import too_large

#: A client that needs longer than this to send its body is cut off, whatever the size.
BODY_SECONDS = 60.0
#: Bodies in memory at once, in units of the largest allowed one.
BODIES_AT_ONCE = 4


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


class Body:
    """A body on its way in; raises :class:`RequestError` where it grows beyond its limit or the budget."""

    __slots__ = ("_budget", "_limit", "_parts", "size")

    def __init__(self, limit: int, budget: BodyBudget) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._limit = limit
        self._budget = budget

    def add(self, part: bytes) -> None:
        if self.size + len(part) > self._limit:
            raise too_large(self._limit)
        self._budget.take(len(part))
        self.size += len(part)
        self._parts.append(part)

    def whole(self) -> bytes:
        """All bytes; the body keeps its share of the budget until :meth:`let_go`."""
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def let_go(self) -> None:
        self._parts.clear()
        self._budget.give_back(self.size)
        self.size = 0


def too_slow() -> RequestError:
    return RequestError(
        408,
        Reason.SLOW_CLIENT,
        f"the body did not arrive within {BODY_SECONDS:g} s",
        {"connection": "close"},
    )


def inflate(body: bytes, limit: int) -> bytes:
    """A gzip body unpacked; raises :class:`RequestError` (400, or 413 beyond ``limit`` bytes)."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise schema_error(f"the body is not gzip, as Content-Encoding says: {error}") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not stream.eof or stream.unused_data:
        raise schema_error("the gzip body is cut off, or goes on after its end")
    return plain
