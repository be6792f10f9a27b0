"""All gRPC connections of this process: how their calls begin, how they time out, how they end."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import perf_counter

from slipway_server.errors import Reason, RequestError, not_now, show
from slipway_server.frontend import Frontend
from slipway_server.http import body as body_module
from slipway_server.http.body import Body
from slipway_server.http.listen import Tls
from slipway_server.http.server import HEAD_SECONDS, KEEP_ALIVE_SECONDS, SWEEP_SECONDS, WRITE_SECONDS
from slipway_server.rpc.connection import Connection
from slipway_server.rpc.exchange import Rpc
from slipway_server.rpc.headers import seconds_of
from slipway_server.rpc.service import SERVICE, Infer, Service, Status, Unary, Watch
from slipway_server.wire.limits import LIMITS, Limits

log = logging.getLogger(__name__)

_PREFIX_BYTES = 5


class RpcServer:
    """One listening socket by :class:`Connection`."""

    def __init__(self, frontend: Frontend, limits: Limits = LIMITS) -> None:
        self.frontend = frontend
        self.limits = limits
        self.connections: set[Connection] = set()
        self._service = Service(frontend)
        self._server: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = perf_counter()

    async def start(self, sock: socket.socket, tls: Tls | None = None) -> None:
        """Accept connections; the socket listens already."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), sock=sock, ssl=None if tls is None else tls.context, backlog=2048
        )
        self._tls = tls
        self._sweep()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, let what is under way be answered, for so long at most, and close everything."""
        if self._server is not None:
            self._server.close()
        deadline = perf_counter() + grace_seconds
        while self.connections and perf_counter() < deadline:
            self._leave(perf_counter())
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, rpc: Rpc) -> None:
        """The headers of a call have arrived."""
        head, frontend = rpc.head, self.frontend
        if head.method != "POST":
            rpc.http_status = b"405"
            return
        if not head.headers.get(b"content-type", b"").startswith(b"application/grpc"):
            rpc.http_status = b"415"
            return
        method = rpc.method = self._service.find(head.path)
        if method is None:
            words = f"there is no method {show(head.path)} here; ask the reflection service about {SERVICE}"
            rpc.finish(Status.UNIMPLEMENTED, words)
            return
        if not (isinstance(method, Watch) or (isinstance(method, Unary) and method.probe)):
            rpc.minded = True
            frontend.lifecycle.began()
        if not isinstance(method, Infer):
            return
        rpc.codec = method.codec
        rpc.counted = True
        frontend.counters.began()
        try:
            if frontend.served is None:
                raise not_now(Reason.NOT_READY, "the model is still being loaded")
            head.seconds = seconds_of(head)
        except RequestError as error:
            rpc.refuse(error)
            return
        rpc.deadline = frontend.deadline(head, rpc.began)
        rpc.incoming = Body(frontend.config.maxBodyBytes + _PREFIX_BYTES, frontend.budget)

    def _sweep(self) -> None:
        """Look for clients that are too slow, and tell watchers what changed."""
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        now = perf_counter()
        for connection in list(self.connections):
            connection.count_anew()
            if connection.reading_since and now - connection.reading_since > HEAD_SECONDS:
                connection.late()
                continue
            if connection.write_paused_since and now - connection.write_paused_since > WRITE_SECONDS:
                connection.abort()
                continue
            for rpc in list(connection.streams.values()):
                self._look_at(connection, rpc, now)
        if self.frontend.lifecycle.draining:
            self._leave(now)
        if self._tls is not None:
            try:
                self._tls.follow()
            except OSError as error:
                log.error("the renewed certificate cannot be read", extra={"error": str(error)})
        if now - self._idle_since > KEEP_ALIVE_SECONDS:
            self._idle_since = now
            for connection in list(self.connections):
                if not connection.active:
                    connection.close_if_idle()
                connection.active = False

    def _look_at(self, connection: Connection, rpc: Rpc, now: float) -> None:
        if rpc.watched is not None:
            rpc.look_again()
        elif not rpc.complete and now - rpc.began > body_module.BODY_SECONDS:
            rpc.late()
        if rpc.blocked_since and now - rpc.blocked_since > WRITE_SECONDS:
            connection.drop_blocked(rpc)

    def _leave(self, now: float) -> None:
        for connection in list(self.connections):
            connection.leave(now)
