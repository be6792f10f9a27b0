"""All connections of one port: how they come in, how they time out, how they end."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import perf_counter

from slipway_server.door.admission import Admission
from slipway_server.door.connection import Connection
from slipway_server.door.listen import Tls
from slipway_server.wire.limits import Limits

log = logging.getLogger(__name__)


class Door:
    """One listening socket; a protocol says what its connections are."""

    def __init__(self, admission: Admission, limits: Limits) -> None:
        self.admission = admission
        self.limits = limits
        self.connections: set[Connection] = set()
        #: Connections that are in the middle of something, or whose client does not read.
        self.watched: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looked = self._idle_since = perf_counter()

    def connect(self) -> Connection:
        """A new connection."""
        raise NotImplementedError

    async def start(self, sock: socket.socket, tls: Tls | None = None) -> None:
        """Accept connections; the socket listens already."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.connect, sock=sock, ssl=None if tls is None else tls.context, backlog=2048
        )
        self._tls = tls
        self._looked = perf_counter()
        self._sweep()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, let what is under way be answered, for so long at most, and close everything."""
        if self._server is not None:
            self._server.close()
        deadline = perf_counter() + grace_seconds
        while self.connections and perf_counter() < deadline:
            for connection in list(self.connections):
                connection.leave(perf_counter())
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def enter(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.admission.guests.enter(connection)

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.watched.discard(connection)
        self.admission.guests.leave(connection)

    def watch(self, connection: Connection) -> None:
        self.watched.add(connection)

    def sweep(self, now: float) -> None:
        """What the protocol does from time to time."""

    def _sweep(self) -> None:
        """Look for clients that are too slow; one timer for all, since a timer a request costs too much."""
        self._timer = asyncio.get_running_loop().call_later(self.limits.sweep_seconds, self._sweep)
        now = perf_counter()
        late, self._looked = now - self._looked > 4 * self.limits.sweep_seconds + 0.5, now
        if late:
            return  # the process stood still, and what clients sent meanwhile has not been read yet
        self.sweep(now)
        for connection in list(self.watched):
            if not connection.look(now):
                self.watched.discard(connection)
        self._follow_certificate()
        if self.admission.guests.crowded_out:
            words = {"closed": self.admission.guests.crowded_out}
            log.warning("idle connections made room for others", extra=words)
            self.admission.guests.crowded_out = 0
        if now - self._idle_since > self.limits.idle_seconds:
            self._idle_since = now
            for connection in list(self.connections):
                if not connection.active:
                    connection.close_if_idle()
                connection.active = False

    def _follow_certificate(self) -> None:
        if self._tls is None:
            return
        try:
            if self._tls.follow():
                for connection in list(self.connections):
                    connection.forget_certificate()
        except OSError as error:
            log.error("the renewed certificate cannot be read", extra={"error": str(error)})
