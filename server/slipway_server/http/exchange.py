"""One request on one connection and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from typing import Protocol

from slipway_server.call.request import Request
from slipway_server.door.admission import name_of
from slipway_server.errors import RequestError
from slipway_server.http.port import HttpPort
from slipway_server.site.codec import RestCodec
from slipway_server.site.responses import echoes, failure, inference_response, refusal
from slipway_server.site.site import Page, Upload
from slipway_server.wire.head import Head
from slipway_server.wire.response import Response

log = logging.getLogger(__name__)


class Reply(Protocol):
    """Where an answer goes."""

    @property
    def owner(self) -> Hashable:
        """For whom the request counts."""

    @property
    def server(self) -> HttpPort:
        """The port, with what its answers share."""

    def write(self, exchange: Exchange) -> None:
        """An exchange has its answer: write it when its turn has come."""

    def is_last(self, exchange: Exchange) -> bool:
        """Whether nothing of a later request has arrived yet."""


class Exchange(Request):
    """A request, its answer as bytes, and whether the connection ends with it."""

    __slots__ = (
        "closes",
        "connection",
        "out",
        "page",
        "request_id",
        "rest_codec",
        "upload",
        "wants_continue",
    )

    def __init__(self, connection: Reply, head: Head, body: bytes, began: float, deadline: float) -> None:
        super().__init__(body, head.header_length, began, deadline)
        self.connection = connection
        self.site = connection.server.site
        self.head = head
        #: The client's name for this request, where it is not in the head.
        self.request_id: bytes | None = None
        #: The answer as it goes over the wire, once there is one.
        self.out: bytes | None = None
        self.closes = False
        self.wants_continue = False
        self.page: Page | None = None
        self.upload: Upload | None = None
        #: The protocol in whose words to refuse.
        self.rest_codec: RestCodec | None = None

    def peer(self) -> str:
        return name_of(self.connection.owner)

    def header(self, name: bytes) -> bytes | None:
        if name == b"x-request-id" and self.request_id is not None:
            return self.request_id
        return super().header(name)

    def answered(self) -> None:
        """The model has spoken, or will not."""
        content = self.content
        if content is None:
            self.refuse(self.error)
            return
        if not self.unanswered:
            return  # the client has left
        connection = self.connection
        server = connection.server
        self.count(200)
        server.counters.add_rows(self.rows)
        length = self.header_length
        if not self.head.is_template or server.lifecycle.draining:
            self.send(inference_response(content, length))
            return
        self.out = server.answers.inference(content, length, self.request_id)
        connection.write(self)

    def send_error(self, error: RequestError | None) -> None:
        self.send(failure(self.rest_codec) if error is None else refusal(error, self.rest_codec))

    def send(self, response: Response) -> None:
        """Answer, in turn."""
        if self.out is not None:
            return
        connection, head = self.connection, self.head
        extra = echoes(head)
        if self.request_id is not None:
            extra.append((b"x-request-id", self.request_id))
        last = connection.is_last(self)
        if response.closes or not head.keep_alive or (last and connection.server.lifecycle.draining):
            self.closes = True
            if not response.closes:
                extra.append((b"connection", b"close"))
        elif head.is_http_1_0:
            extra.append((b"connection", b"keep-alive"))
        body = b"" if head.method == "HEAD" else response.body
        self.out = connection.server.head(response, extra) + body
        connection.write(self)

    def send_page(self, page: Page) -> None:
        """Answer with a page, now or when it is made."""
        try:
            answer = page(self.head)
            if isinstance(answer, Response):
                self.send(answer)
            else:
                task = asyncio.ensure_future(answer)
                self.connection.server.tasks.add(task)
                task.add_done_callback(self._page_made)
        except Exception as error:
            self._page_failed(error)

    def _page_made(self, done: asyncio.Future[Response]) -> None:
        self.connection.server.tasks.discard(done)
        error = done.exception()
        if error is None:
            self.send(done.result())
        else:
            self._page_failed(error)

    def _page_failed(self, error: BaseException) -> None:
        if not isinstance(error, RequestError):
            log.error("a page failed", exc_info=error)
            error = RuntimeError()
        self.refuse(error)
