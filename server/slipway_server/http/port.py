"""What all connections of one port of HTTP/1.1 share."""

from __future__ import annotations

import asyncio
from time import time

from slipway_server.door.server import Door
from slipway_server.errors import RequestError
from slipway_server.site.site import Site
from slipway_server.wire.answers import Answers
from slipway_server.wire.head import AUTHORIZATION, Head
from slipway_server.wire.response import Headers, Response

_MAX_KEPT = 512
#: Of refused heads, which anybody can send: so many, and none that is longer.
_MAX_REFUSED, _LONGEST_REFUSED = 64, 4096


class _Barred:
    """Who is refused each time; see :class:`slipway_server.wire.head.Payer`."""

    counts_bytes = False

    def __init__(self, error: RequestError) -> None:
        self._error = error

    def begin(self, now: float) -> RequestError | None:  # noqa: ARG002
        return self._error

    def end(self, rows: int) -> None: ...

    def hold(self, held: int, size: int) -> RequestError | None:  # noqa: ARG002
        return None

    def free(self, size: int) -> None: ...


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
        #: Those that were refused, apart from the others: whoever brings many puts out no good one.
        self.refused: dict[bytes, Head] = {}
        #: What they showed.
        self._once: set[bytes | None] = set()
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

    def keep_refused(self, head: Head, error: RequestError) -> None:
        """Remember a head that is refused each time it comes.

        Not at once: where each one shows another key, remembering them would be for nothing.
        """
        shown = head.headers.get(AUTHORIZATION)
        if shown not in self._once:
            if len(self._once) >= _MAX_REFUSED:
                self._once.clear()
            if shown is None or len(shown) <= _LONGEST_REFUSED:
                self._once.add(shown)
            return
        found = head.as_template(self.limits)
        if found is None or len(found[0]) > _LONGEST_REFUSED:
            return
        if len(self.refused) >= _MAX_REFUSED:
            self.refused.clear()
        text, template = found
        template.is_template, template.payer = True, _Barred(error)
        self.refused[text] = template

    def forget(self) -> None:
        """Keys changed: nothing that was concluded from the old ones holds."""
        self.heads.clear()
        self.refused.clear()

    def head(self, response: Response, extra: Headers) -> bytes:
        """The head of an answer with these headers beside its own, to the empty line."""
        self.answers.refresh(time())
        return self.answers.head(response.status, (*response.headers, *extra), len(response.body))

    def sweep(self, now: float) -> None:  # noqa: ARG002
        self.answers.refresh(time())
