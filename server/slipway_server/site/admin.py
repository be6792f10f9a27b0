"""What is at which path of the admin port: metrics and answers, to be read and not to be changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway.names import ANSWERS_PATH, ANSWERS_SINCE, COHORTS_PATH, METRICS_PATH
from slipway_server.board import Board
from slipway_server.errors import show
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import WIDTH, Counters
from slipway_server.monitoring.answers import taken, told
from slipway_server.monitoring.reference import Reference
from slipway_server.settings import Serving
from slipway_server.site.site import Page, RouteError, Site, not_allowed
from slipway_server.wire.head import Head
from slipway_server.wire.response import Response, json_response

if TYPE_CHECKING:
    from slipway_server.site.exposition import Exposition

_READ = ("GET", "HEAD")
_TEXT = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
#: For which answers may be remembered, unless somebody asks again.
_MOST_SECONDS = 7200
#: Characters of a mark.
_MOST_MARK = 2048


class Admin(Site):
    """The pages of the admin port; its own requests are counted nowhere and wait for no drain."""

    def __init__(self, board: Board, serving: Serving, reference: Reference) -> None:
        super().__init__(Lifecycle(0), Counters(memoryview(bytearray(WIDTH * 8)).cast("d")))
        self._board = board
        self._serving = serving
        self._reference = reference
        #: Called before the figures are read: counts that wait are to be in them.
        self.before_reading: Callable[[], None] = lambda: None
        self._exposition: Exposition | None = None

    def find(self, head: Head) -> Page:
        if head.path == METRICS_PATH:
            if head.method not in _READ:
                raise RouteError(not_allowed(head, "GET, HEAD"))
            return self._metrics
        if head.path == COHORTS_PATH:
            if head.method not in _READ:
                raise RouteError(not_allowed(head, "GET, HEAD"))
            return self._cohorts
        if head.path.startswith(f"{ANSWERS_PATH}/"):
            if head.method != "POST":
                raise RouteError(not_allowed(head, "POST"))
            return self._answers
        raise RouteError(json_response({"error": f"there is nothing at {show(head.path)}"}, 404))

    def _metrics(self, _: Head) -> Response:
        return Response(200, self.text(), _TEXT)

    def _cohorts(self, _: Head) -> Response:
        return Response(200, self._read().cohorts(), _TEXT)

    def _answers(self, head: Head) -> Response:
        seconds = head.path.removeprefix(f"{ANSWERS_PATH}/")
        if not seconds.isascii() or not seconds.isdigit() or not 1 <= int(seconds) <= _MOST_SECONDS:
            words = f"say for how many seconds answers are to be remembered, 1 to {_MOST_SECONDS}"
            return json_response({"error": words}, 400)
        rings = [self._board.ring(position) for position in range(self._board.rows)]
        since = head.headers.get(ANSWERS_SINCE.encode())
        if since is None:
            body, kind = taken(rings)
        else:
            body, kind = told(rings, self._board.name, since[:_MOST_MARK].decode("latin-1"))
        self._board.wanted.extend(int(seconds))
        headers = [(b"content-type", b"application/octet-stream"), *kind.items()]
        return Response(200, body, headers)

    def text(self) -> bytes:
        """All series but those by cohort, in the Prometheus text format."""
        return self._read().text()

    def _read(self) -> Exposition:
        if self._exposition is None:
            from slipway_server.site.exposition import Exposition

            self._exposition = Exposition(self._board, self._serving, self._reference)
        self.before_reading()
        return self._exposition
