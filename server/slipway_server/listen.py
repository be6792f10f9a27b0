"""uvicorn, as this server needs it: no signals of its own, no log of every client's mistake."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import h11
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Idle connections are kept longer than clients and proxies keep theirs, so that the client is the one who
#: closes: the other way round, a request can cross the closing on its way and be lost.
KEEP_ALIVE_SECONDS = 620


class Listener(uvicorn.Server):
    """One uvicorn server that is stopped by ``should_exit`` alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listener(app: ASGIApp, graceful_seconds: int) -> Listener:
    """A server for ``app`` that lets requests under way finish, for so many seconds at most."""
    return Listener(
        uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=graceful_seconds,
        )
    )


def bind(host: str | None, port: int) -> socket.socket:
    """A listening socket; without a host on every address, IPv6 and IPv4 alike. Raises ``OSError``."""
    if host is None and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
    return socket.create_server((host or "", port), backlog=2048)


class _Protocol(H11Protocol):
    """HTTP/1.1 by h11, which bounds the size of a request's head."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        if self.cycle is not None and not self.cycle.response_complete:
            # The body broke off in the middle: the application must not answer as well.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = orjson.dumps({"error": "this request is not well-formed HTTP"})
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            answer = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
