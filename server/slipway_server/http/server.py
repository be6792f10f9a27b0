"""All connections of one port: what they share, how they time out, how they end."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import perf_counter

from slipway_server.errors import Reason, not_now
from slipway_server.http import body as body_module
from slipway_server.http.head import Head
from slipway_server.http.listen import Tls, most_files
from slipway_server.http.protocol import HttpProtocol
from slipway_server.http.responses import Response, Writer
from slipway_server.http.site import Site
from slipway_server.wire.limits import LIMITS, Limits

log = logging.getLogger(__name__)

#: A client that needs longer than this to send a request's head is cut off.
HEAD_SECONDS = 20.0
#: A client that does not read its answer for so long is cut off.
WRITE_SECONDS = 60.0
#: Idle connections are kept longer than clients and proxies keep theirs, so that the client is the one who
#: closes: the other way round, a request can cross the closing on its way and be lost.
KEEP_ALIVE_SECONDS = 620.0
SWEEP_SECONDS = 0.5
#: Connections at once, each of which takes some KiB; fewer where the process may not have as many files.
MAX_CONNECTIONS = 20_000
#: Files that are no connections: libraries, sockets of the other ports.
_OTHER_FILES = 256
_MAX_KEPT = 512


class HttpServer:
    """One listening socket by :class:`HttpProtocol`."""

    def __init__(self, site: Site, limits: Limits = LIMITS) -> None:
        self.site = site
        self.limits = limits
        self.submit = site.submit
        self.counters = site.counters
        self.lifecycle = site.lifecycle
        self.timeout = site.timeout
        self.writer = Writer()
        self.heads: dict[bytes, Head] = {}
        self.connections: set[HttpProtocol] = set()
        #: Connections with a request that has begun to arrive and not ended.
        self.reading: set[HttpProtocol] = set()
        #: Pages that are being made.
        self.tasks: set[asyncio.Future[Response]] = set()
        #: Connections whose client does not read.
        self.stalled: set[HttpProtocol] = set()
        self._server: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = perf_counter()
        self._most = min(MAX_CONNECTIONS, max(1, most_files() - _OTHER_FILES))
        self._crowded_out = 0

    async def start(self, sock: socket.socket, tls: Tls | None = None) -> None:
        """Accept connections; the socket listens already."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: HttpProtocol(self), sock=sock, ssl=None if tls is None else tls.context, backlog=2048
        )
        self._tls = tls
        self._sweep()

    def admit(self, connection: HttpProtocol) -> None:
        """Take a new connection: beyond the limit in an idle one's place; where none is idle, refuse it."""
        if len(self.connections) >= self._most:
            idle = next((each for each in self.connections if each.shut_if_idle()), None)
            if idle is None:
                self.connections.add(connection)
                connection.end_with(not_now(Reason.OVERLOAD, "the server has no room for more connections"))
                return
            self.connections.discard(idle)
            self._crowded_out += 1
        self.connections.add(connection)

    def keep(self, text: bytes, head: Head) -> None:
        """Remember a head that passed all checks; these bytes need no parsing again."""
        if len(self.heads) >= _MAX_KEPT:
            self.heads.clear()
        head.is_cached = True
        self.heads[text] = head

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, let what is under way be answered, for so long at most, and close everything."""
        if self._server is not None:
            self._server.close()
        deadline = perf_counter() + grace_seconds
        while self.connections and perf_counter() < deadline:
            for connection in list(self.connections):
                connection.shut_if_idle()
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        """Look for clients that are too slow; one timer for all, since a timer a request costs too much."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        self.writer.refresh()
        now = perf_counter()
        for connection in list(self.reading):
            limit = HEAD_SECONDS if connection.reader.in_head else body_module.BODY_SECONDS
            if now - connection.reading_since > limit:
                connection.late()
        for connection in list(self.stalled):
            if now - connection.write_paused_since > WRITE_SECONDS:
                connection.abort()
        if self._tls is not None:
            try:
                self._tls.follow()
            except OSError as error:
                log.error("the renewed certificate cannot be read", extra={"error": str(error)})
        if self._crowded_out:
            log.warning("idle connections made room for others", extra={"closed": self._crowded_out})
            self._crowded_out = 0
        if now - self._idle_since > KEEP_ALIVE_SECONDS:
            self._idle_since = now
            for connection in list(self.connections):
                if not connection.active:
                    connection.shut_if_idle()
                connection.active = False
