"""All connections of one port of HTTP/1.1."""

from __future__ import annotations

from slipway_server.http.port import HttpPort
from slipway_server.http.protocol import HttpProtocol


class HttpServer(HttpPort):
    """One listening socket by :class:`HttpProtocol`."""

    def connect(self) -> HttpProtocol:
        return HttpProtocol(self)
