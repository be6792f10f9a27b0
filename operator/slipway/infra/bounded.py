"""Reads what pods and servers say that are not Slipway's: bounded in bytes, in time and in shape.

Whoever answers may be anybody: a model server's image is the user's own. So no redirect is followed, no
cookie is kept, nothing is decompressed, and no answer is parsed before it is known to stay small.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

#: Seconds that an answer may take, from the connection to the last byte.
TIMEOUT = 5.0
#: Bytes of answers that all readers hold at once, and those of one namespace.
MOST_BYTES, MOST_BYTES_OF_ONE = 48 * 1024 * 1024, 16 * 1024 * 1024
#: Requests under way at once, and those of one namespace.
MOST_REQUESTS, MOST_REQUESTS_OF_ONE = 64, 16
#: Seconds that an address rests after it let a request time out; twice as long each time.
LEAST_REST, MOST_REST = 2.0, 30.0
#: Addresses that are remembered to rest.
MOST_RESTING = 4096


class ReadError(Exception):
    """An answer that could not be had, or is refused; its message says why, in no word of the answer."""


@dataclass(frozen=True)
class Answer:
    """What a server said, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytearray

    def json(self, most_values: int) -> dict[str, Any]:
        """The JSON object that it holds.

        Args:
            most_values: that it may hold; each takes up to a hundred times its text in memory.

        Raises:
            ReadError: if it holds more, or is no JSON object.
        """
        values = sum(self.body.count(mark) for mark in (b",", b"[", b"{"))
        if values > most_values:
            raise ReadError(f"answers with more than {most_values} values")
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ReadError("answers with something else than JSON") from error
        if not isinstance(found, dict):
            raise ReadError("answers with something else than a JSON object")
        return found


class Budget:
    """What all readers together hold of answers, and each namespace of that.

    A namespace whose pods are many or silent waits for itself, and leaves room for the others.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._bytes_of: dict[str, int] = defaultdict(int)
        self._requests = asyncio.Semaphore(MOST_REQUESTS)
        self._requests_of: dict[str, tuple[asyncio.Semaphore, int]] = {}
        #: Until when an address rests, and for how long it did.
        self._resting: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @asynccontextmanager
    async def request(self, namespace: str, address: str) -> AsyncIterator[Charge]:
        """Room for one request.

        Raises:
            ReadError: if there is none within :data:`TIMEOUT`, or the address rests.
        """
        until, rest = self._resting.get(address, (0.0, 0.0))
        if time.monotonic() < until:
            raise ReadError("did not answer in time before; it is asked again shortly")
        own, users = self._requests_of.get(namespace, (asyncio.Semaphore(MOST_REQUESTS_OF_ONE), 0))
        self._requests_of[namespace] = own, users + 1
        charge = Charge(self, namespace)
        try:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await own.acquire()
            except TimeoutError as error:
                raise ReadError("is not read: too many others of its namespace are") from error
            try:
                async with self._requests:
                    yield charge
            finally:
                own.release()
        except TimeoutError:
            rest = min(max(LEAST_REST, 2 * rest), MOST_REST)
            self._resting[address] = (time.monotonic() + rest, rest)
            self._resting.move_to_end(address)
            if len(self._resting) > MOST_RESTING:
                self._resting.popitem(last=False)
            raise
        else:
            self._resting.pop(address, None)
        finally:
            charge.give_back()
            own, users = self._requests_of.pop(namespace)
            if users > 1:
                self._requests_of[namespace] = own, users - 1

    def charge(self, namespace: str, size: int) -> None:
        """Charge so many bytes more to a namespace; negative ones are given back.

        Raises:
            ReadError: if there is no room for them.
        """
        if size > 0 and (
            self._bytes + size > MOST_BYTES or self._bytes_of[namespace] + size > MOST_BYTES_OF_ONE
        ):
            raise ReadError("is not read: too much else is read at once")
        self._bytes += size
        self._bytes_of[namespace] += size
        if not self._bytes_of[namespace]:
            del self._bytes_of[namespace]


@dataclass
class Charge:
    """What one request holds of a budget."""

    budget: Budget
    namespace: str
    held: int = 0

    def take(self, size: int) -> None:
        """See :meth:`Budget.charge`."""
        self.budget.charge(self.namespace, size)
        self.held += size

    def give_back(self) -> None:
        """All of it."""
        if self.held:
            self.budget.charge(self.namespace, -self.held)
            self.held = 0


@asynccontextmanager
async def reading_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session for :func:`read_bounded`: it keeps connections, and nothing else that a server says."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=2 * MOST_REQUESTS),
        trust_env=False,
        # More headers, or longer ones, are an error.
        max_line_size=4096,
        max_field_size=4096,
        max_headers=64,
    ) as session:
        yield session


async def read_bounded(
    session: aiohttp.ClientSession,
    url: URL | str,
    most: int,
    *,
    method: str = "GET",
    data: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float | None = None,
    charge: Charge | None = None,
    cut: bool = False,
) -> Answer:
    """The answer to one request, whatever its status.

    Args:
        session: of :func:`reading_session`.
        url: to be asked.
        most: bytes that the answer may have.
        method: of HTTP.
        data: a form to be sent.
        headers: to be sent.
        seconds: until the last byte has to be there; :data:`TIMEOUT` unless given.
        charge: what the answer's bytes are charged to, until it is given back.
        cut: whether a longer answer is read up to there, and not refused.

    Raises:
        TimeoutError: if the answer takes longer.
        ReadError: if there is no answer, or it is too long or encoded.
    """
    body = bytearray()
    try:
        async with (
            asyncio.timeout(TIMEOUT if seconds is None else seconds),
            session.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ReadError("answers in an encoding that nobody asked for")
            if (response.content_length or 0) > most and not cut:
                raise ReadError(f"answers with more than {most} bytes")
            async for chunk in response.content.iter_any():
                if len(body) + len(chunk) > most and not cut:
                    raise ReadError(f"answers with more than {most} bytes")
                if charge is not None:
                    charge.take(len(chunk))
                body += chunk[: most - len(body)]
                if len(body) == most and cut:
                    break
            return Answer(response.status, response.headers, body)
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ReadError(f"does not answer: {type(error).__name__}") from error
