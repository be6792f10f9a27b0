"""A request's body: how long it may take, how much memory all bodies share, and how it is unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from typing import Protocol

from slipway_server.door.admission import Pool
from slipway_server.errors import Reason, RequestError, not_now, schema_error
from slipway_server.wire.head import too_large
from slipway_server.wire.limits import LIMITS, Limits

#: Smaller parts are put together: each by itself would take more memory than its bytes.
_SMALL_PART = 1024


class Holder(Protocol):
    """Who may have so much in memory, of all of its bodies."""

    def hold(self, held: int, size: int) -> RequestError | None:
        """Count bytes of a body that has ``held`` already; why they may not be had, or None."""

    def free(self, size: int) -> None:
        """So many bytes are in memory no more."""


class Body:
    """A body on its way in; raises :class:`RequestError` where it grows beyond its limit or the memory."""

    __slots__ = ("_holder", "_limit", "_on_give_way", "_parts", "_pool", "amount", "is_movable", "owner")

    def __init__(
        self,
        limit: int,
        pool: Pool,
        owner: Hashable = "",
        on_give_way: Callable[[RequestError], None] | None = None,
        holder: Holder | None = None,
    ) -> None:
        """
        Args:
            limit: bytes that it may have.
            pool: memory that all share.
            owner: for whom it counts where memory is short.
            on_give_way: refuses the request when others need the memory; without it the body stays.
            holder: counts the bytes of whoever asks, where these are limited.
        """
        #: Bytes in memory.
        self.amount = 0
        self.owner = owner
        self.is_movable = on_give_way is not None
        self._parts: list[bytes | bytearray] = []
        self._limit = limit
        self._pool = pool
        self._on_give_way = on_give_way
        self._holder = holder

    def add(self, part: bytes) -> None:
        self.charge(len(part))
        if len(part) < _SMALL_PART and self._parts:
            last = self._parts[-1]
            if len(last) < _SMALL_PART:
                self._parts[-1] = last = bytearray(last)
            if type(last) is bytearray and len(last) < 64 * _SMALL_PART:
                last += part
                return
        self._parts.append(part)

    def charge(self, size: int) -> None:
        """So many bytes more are in memory, wherever they are."""
        if self.amount + size > self._limit:
            raise too_large(self._limit)
        holder = self._holder
        if holder is not None and (error := holder.hold(self.amount, size)) is not None:
            raise error
        if not self._pool.take(self, size):
            if holder is not None:
                holder.free(size)
            raise no_memory()
        self.amount += size

    def release(self, size: int) -> None:
        self.amount -= size
        self._pool.give_back(self, size, is_all=not self.amount)
        if self._holder is not None:
            self._holder.free(size)

    def give_way(self) -> None:
        """Others need the memory, and this body has most of it."""
        if self._on_give_way is not None:
            self.free()
            self._on_give_way(no_memory())

    def whole(self) -> bytes:
        """All bytes; the body keeps its share of the memory until :meth:`free`."""
        self.is_movable = False
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)

    def free(self) -> None:
        self._parts.clear()
        if self.amount:
            self._pool.give_back(self, self.amount)
            if self._holder is not None:
                self._holder.free(self.amount)
            self.amount = 0


def no_memory() -> RequestError:
    return not_now(Reason.OVERLOAD, "the bodies of the requests under way fill the memory set aside for them")


def too_slow(limits: Limits = LIMITS) -> RequestError:
    return RequestError(
        408,
        Reason.SLOW_CLIENT,
        f"the body arrived at less than {limits.bytes_per_second} bytes a second for "
        f"{limits.pace_seconds:g} s; send it faster",
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
