"""The webhook by which somebody outside says that a model's alias has moved.

It has a port of its own, so that it can be opened to other callers than metrics are. Whoever has no token
costs a comparison; whoever has one cannot make more writes than one a second for each ModelDeployment.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from slipway.engine.errors import ApiError
from slipway.infra.serving import serve_on

log = logging.getLogger(__name__)

PORT = 8083
#: Calls a second, and at once, that are answered: of those with the token, of one source of them, and of one
#: source without it.
RATE, BURST = 50.0, 200.0
RATE_OF_ONE, BURST_OF_ONE = 10.0, 50.0
RATE_REFUSED, BURST_REFUSED = 1.0, 10.0
#: Sources that are told apart.
MOST_SOURCES = 4096
#: Seconds between two writes for the same ModelDeployment; calls in between wait for the second.
SPACING = 1.0
#: Calls that wait at once.
MOST_WAITING = 256
#: Connections at once, and seconds that one may live.
MOST_CONNECTIONS, MOST_AGE = 256, 60.0
#: The names that Kubernetes has.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


class Rate:
    """A token bucket for each source; those that have not called for long are forgotten first."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, source: str) -> bool:
        """Whether a source may call now, which counts as a call."""
        now = time.monotonic()
        left, at = self._buckets.pop(source, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._buckets[source] = (max(0.0, left - 1.0), now)
        if len(self._buckets) > MOST_SOURCES:
            self._buckets.popitem(last=False)
        return left >= 1.0


@dataclass
class Webhook:
    """Answers ``POST /refresh/NAMESPACE/NAME``.

    Attributes:
        token: that the caller has to bear.
        refresh: is told namespace and name; whether there is such a ModelDeployment.
    """

    token: str
    refresh: Callable[[str, str], Awaitable[bool]]
    _all: Rate = field(default_factory=lambda: Rate(RATE, BURST))
    _sources: Rate = field(default_factory=lambda: Rate(RATE_OF_ONE, BURST_OF_ONE))
    _refused: Rate = field(default_factory=lambda: Rate(RATE_REFUSED, BURST_REFUSED))
    #: Writes that have not begun, and when the last one of a name did.
    _waiting: dict[tuple[str, str], asyncio.Task[bool]] = field(default_factory=dict)
    _written: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)
    _callers: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call; its body is not read."""
        source = request.remote or ""
        if not self._bears_token(request):
            if not self._refused.allows(source):
                return _later("too many calls without the token")
            return web.Response(status=401, text="the bearer token is missing or wrong\n")
        if not self._sources.allows(source) or not self._all.allows("") or self._callers >= MOST_WAITING:
            return _later("too many calls")
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if not _NAMESPACE.fullmatch(namespace) or not _NAME.fullmatch(name):
            return web.Response(status=404, text="there is no ModelDeployment of such a name\n")
        self._callers += 1
        try:
            found = await self._write(namespace, name)
        except ApiError as error:
            return web.Response(status=503, text=f"{error}; try again\n", headers={"Retry-After": "5"})
        finally:
            self._callers -= 1
        if not found:
            return web.Response(status=404, text=f"there is no ModelDeployment {namespace}/{name}\n")
        return web.Response(status=202, text="its model is looked up again\n")

    def _bears_token(self, request: web.Request) -> bool:
        # Whatever bytes came: digests, so that neither length nor content is told by the time.
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        scheme, _, bearer = given.partition(b" ")
        return hmac.compare_digest(_digest(bearer), _digest(self.token.encode())) and (
            scheme.lower() == b"bearer"
        )

    async def _write(self, namespace: str, name: str) -> bool:
        """Write once for all who call before the write begins: it speaks for what moved until then."""
        key = (namespace, name)
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._write_in_turn(key))
        return await asyncio.shield(task)

    async def _write_in_turn(self, key: tuple[str, str]) -> bool:
        try:
            await asyncio.sleep(self._written.pop(key, 0.0) + SPACING - time.monotonic())
        finally:
            self._waiting.pop(key, None)
        found = await self.refresh(*key)
        if found:
            self._written[key] = time.monotonic()
            if len(self._written) > MOST_SOURCES:
                self._written.popitem(last=False)
        return found


async def serve(webhook: Webhook, port: int = PORT) -> web.AppRunner:
    """Serve the webhook and nothing else; the caller cleans the runner up."""
    app = web.Application(client_max_size=1)
    app.add_routes([web.post("/refresh/{namespace}/{name}", webhook.answer)])
    return await serve_on(app, port, MOST_CONNECTIONS, MOST_AGE)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _later(why: str) -> web.Response:
    return web.Response(status=429, text=f"{why}; try again\n", headers={"Retry-After": "1"})
