"""What all connections of one port of HTTP/1.1 share."""

from __future__ import annotations

import asyncio
from time import time

from slipway_server.door.server import Door
from slipway_server.site.site import Site
from slipway_server.wire.answers import Answers
from slipway_server.wire.head import Head
from slipway_server.wire.response import Headers, Response

_MAX_KEPT = 512


class HttpPort(Door):
    """One listening socket of HTTP/1.1."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.admission, site.limits)
        self.site = site
        self.submit = site.submit
        self.counters = site.counters
        self.lifecycle = site.lifecycle
        self.timeout = site.timeout
        self.answers = Answers(time())
        self.heads: dict[bytes, Head] = {}
        #: Pages that are being made.
        self.tasks: set[asyncio.Future[Response]] = set()

    def keep(self, head: Head) -> None:
        """Remember a head that passed all checks, if it may come again: its bytes need no parsing then."""
        found = head.as_template(self.limits) if self.site.is_known(head) else None
        if found is None:
            return
        if len(self.heads) >= _MAX_KEPT:
            self.heads.clear()
        text, template = found
        template.is_template = True
        self.heads[text] = template

    def head(self, response: Response, extra: Headers) -> bytes:
        """The head of an answer with these headers beside its own, to the empty line."""
        self.answers.refresh(time())
        return self.answers.head(response.status, (*response.headers, *extra), len(response.body))

    def sweep(self, now: float) -> None:  # noqa: ARG002
        self.answers.refresh(time())
