"""All connections of one port of HTTP/1.1 and what they share."""

from __future__ import annotations

import asyncio

from slipway_server.door.server import Door
from slipway_server.http.protocol import HttpProtocol
from slipway_server.http.responses import Response, Writer
from slipway_server.http.site import Site
from slipway_server.wire.head import Head

_MAX_KEPT = 512


class HttpServer(Door):
    """One listening socket by :class:`HttpProtocol`."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.admission, site.limits)
        self.site = site
        self.submit = site.submit
        self.counters = site.counters
        self.lifecycle = site.lifecycle
        self.timeout = site.timeout
        self.writer = Writer()
        self.heads: dict[bytes, Head] = {}
        #: Pages that are being made.
        self.tasks: set[asyncio.Future[Response]] = set()

    def connect(self) -> HttpProtocol:
        return HttpProtocol(self)

    def keep(self, text: bytes, head: Head) -> None:
        """Remember a head that passed all checks; these bytes need no parsing again."""
        if len(self.heads) >= _MAX_KEPT:
            self.heads.clear()
        head.is_cached = True
        self.heads[text] = head

    def sweep(self, now: float) -> None:  # noqa: ARG002
        self.writer.refresh()
