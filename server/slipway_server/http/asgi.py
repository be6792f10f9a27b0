"""The same site as a bare ASGI application: the twin that the HTTP side of our own is measured against.

Served by uvicorn with h11 (``SLIPWAY_HTTP_STACK=asgi``). The test-suite runs against both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from time import perf_counter
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from slipway.names import LIVE_PATH, READY_PATH
from slipway_server.call.body import Body, Holder, inflate, too_slow
from slipway_server.call.request import Request
from slipway_server.door.admission import owner_of
from slipway_server.errors import Reason, RequestError
from slipway_server.site.responses import echoes, failure, inference_response, refusal
from slipway_server.site.site import Inference, RouteError, Site, Upload
from slipway_server.wire.head import Head
from slipway_server.wire.limits import LIMITS
from slipway_server.wire.response import Response

log = logging.getLogger(__name__)

#: The twin has no minimum rate, but one clock for the whole body.
_BODY_SECONDS = 60.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _ClientGoneError(Exception):
    """The client has left before its answer was there."""


class AsgiApp:
    """An ASGI 3 application over a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        head = Head(scope["method"], scope["raw_path"], scope["headers"])
        head.peer = owner_of(scope.get("client"))
        probe = head.path in (LIVE_PATH, READY_PATH)
        if not probe:
            self._site.lifecycle.began()
        try:
            response = await self._respond(head, receive)
            await self._send(head, response, send)
        except _ClientGoneError:
            pass
        finally:
            if not probe:
                self._site.lifecycle.ended()

    async def _respond(self, head: Head, receive: Receive) -> Response:
        codec = None
        try:
            found = self._site.find(head)
            if isinstance(found, Inference):
                codec = found.codec
                return await self._infer(found, head, receive)
            if isinstance(found, Upload):
                return await self._take(found, head, receive)
            answer = found(head)
            return answer if isinstance(answer, Response) else await answer
        except RouteError as error:
            return error.response
        except RequestError as error:
            return refusal(error, codec)
        except _ClientGoneError:
            raise
        except Exception:
            log.exception("a request failed")
            return failure(codec)

    async def _take(self, upload: Upload, head: Head, receive: Receive) -> Response:
        body = Body(head.limit, self._site.admission.bodies, holder=_holder(head))
        try:
            content = await _read(body, receive)
            return upload.answer(inflate(content, upload.limit) if head.gzip else content)
        finally:
            body.free()

    async def _infer(self, inference: Inference, head: Head, receive: Receive) -> Response:
        counters, began = self._site.counters, perf_counter()
        counters.began()
        code, rows = 500, 0
        try:
            self._site.check_infer(inference, head)
            response, rows = await self._answer(inference, head, receive, began)
            code = 200
        except RequestError as error:
            code = error.status
            counters.refused(error.reason)
            raise
        except _ClientGoneError:
            code = 499  # nobody will see it; nginx made the number known
            counters.refused(Reason.CLIENT_GONE)
            raise
        finally:
            seconds = perf_counter() - began
            counters.answered(code, seconds)
            if head.payer is not None:
                head.payer.end(rows)
            if self._site.tracing is not None:
                self._site.tracing.record(head, seconds, code)
        counters.add_rows(rows)
        return response

    async def _answer(
        self, inference: Inference, head: Head, receive: Receive, began: float
    ) -> tuple[Response, int]:
        body = Body(head.limit, self._site.admission.bodies, holder=_holder(head))
        try:
            content = await _read(body, receive)
        except BaseException:
            body.free()
            raise
        call = _Call(self._site, head, content, began)
        call.gzip, call.limit, call.codec, call.incoming = head.gzip, head.limit, inference.codec, body
        try:
            self._site.submit(call)
        except RequestError:
            body.free()
            raise
        leaves: asyncio.Future[Any] = asyncio.ensure_future(receive())
        ends: tuple[asyncio.Future[Any], ...] = (call.answer, leaves)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not call.answer.done():
                call.abandon()
                raise _ClientGoneError
            return call.answer.result(), call.rows
        finally:
            leaves.cancel()

    async def _send(self, head: Head, response: Response, send: Send) -> None:
        headers = [*response.headers, *echoes(head), (b"content-length", b"%d" % len(response.body))]
        if self._site.lifecycle.draining and not response.closes:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


class _Call(Request):
    def __init__(self, site: Site, head: Head, body: bytes, began: float) -> None:
        super().__init__(body, head.header_length, began, site.deadline(head, began))
        self.site = site
        self.head = head
        self.complete = True
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answered(self) -> None:
        if self.answer.done():
            return
        if self.content is not None:
            self.answer.set_result(inference_response(self.content, self.header_length))
        elif self.error is not None:
            self.answer.set_exception(self.error)


async def _read(body: Body, receive: Receive) -> bytes:
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGoneError
                body.add(message.get("body", b""))
                if not message.get("more_body", False):
                    return body.whole()
    except TimeoutError:
        raise too_slow() from None


class Listener(uvicorn.Server):
    """One uvicorn server that is stopped by ``should_exit`` alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _holder(head: Head) -> Holder | None:
    """Who has the bytes of its bodies counted."""
    if head.caller is None:
        return None
    account: Holder | None = head.caller.account
    return account


def listener(app: AsgiApp, graceful_seconds: int) -> Listener:
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
            timeout_keep_alive=int(LIMITS.idle_seconds),
            timeout_graceful_shutdown=graceful_seconds,
        )
    )


class _Protocol(H11Protocol):
    """HTTP/1.1 by h11, which bounds the size of a request's head."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        if self.cycle is not None and not self.cycle.response_complete:
            # The body broke off in the middle: the application must not answer as well.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = b'{"error":"this request is not well-formed HTTP"}'
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            answer = h11.Response(status_code=400, headers=[*headers, ("connection", "close")])
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
