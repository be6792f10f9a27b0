"""HTTP/1.1 on one connection, by hand where it is hot and by llhttp where it is not.

A client sends the same head again and again. A head that llhttp has read and that passed every check is kept
by its bytes, and so is one whose key nobody has; when the same bytes come again, with the body in the same
piece, nothing is parsed at all.
The id that a router gives to each request may differ.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from slipway.names import LIVE_PATH, READY_PATH
from slipway_server.call.body import Body, inflate, too_slow
from slipway_server.door.pace import Pace
from slipway_server.engine.crew import deadline_error
from slipway_server.errors import Reason, RequestError
from slipway_server.http.exchange import Exchange
from slipway_server.http.held import HeldConnection
from slipway_server.http.port import HttpPort
from slipway_server.site.responses import refusal
from slipway_server.site.site import Inference, RouteError, Upload
from slipway_server.wire.answers import CONTINUE
from slipway_server.wire.events import Ended, Fault, Opened, Part, State
from slipway_server.wire.head import Head, without_id
from slipway_server.wire.http1 import END, Http1

log = logging.getLogger(__name__)

#: Bytes that are read at once before a look at how many requests wait for their answers.
_PIECE_BYTES = 64 * 1024
#: By names of their own, which takes less time than to look them up for each request.
_READY, _HEAD, _CLOSED = State.READY, State.HEAD, State.CLOSED


class HttpProtocol(HeldConnection):
    """One connection; answers leave in the order of their requests."""

    kind = "http"

    def __init__(self, server: HttpPort) -> None:
        super().__init__(server)
        self._heads, self._refused = server.heads, server.refused
        self._site = server.site
        #: Requests come with ids of their own, so that it is worth to look for one.
        self._has_ids = False
        self.wire = Http1(server.limits)
        #: What has arrived of a head, and how the body after it arrives.
        self._pending = Body(2 * server.limits.head_bytes + _PIECE_BYTES, server.admission.bodies)
        self._reading_since = 0.0
        self._arrives = Pace(0.0)
        self._current: Exchange | None = None

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        self.active = True
        if self._paused:
            self._held += data
            return
        if self.wire.state is _READY and not self.ending:
            heads = self._heads
            while True:
                body_start = data.find(END) + 4
                text, request_id = data[:body_start], None
                if self._has_ids:
                    found = without_id(text)
                    if found is not None:
                        text, request_id = found
                head = heads.get(text) or self._refused.get(text)
                if head is None:
                    break
                stop = body_start + head.content_length  # type: ignore[operator]
                size = len(data)
                if stop > size:
                    break
                self._infer(head, data[body_start:stop], request_id)
                if stop == size:
                    return
                data = data[stop:]
                if self._paused:
                    self._held = data
                    return
        self.feed(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.certified is not None:
            # The same bytes are another caller's on another connection.
            self._heads, self._refused = {}, {}

    def eof_received(self) -> bool:
        """A client that stops sending has left, as servers and proxies agree: what it asked for is stopped.

        Not so where HTTP/1.0 ends its connection anyway, whose clients may end their half first.
        """
        if self._current is not None or not self._queue:
            return False
        final = self._queue[-1]
        if not final.head.is_http_1_0 or final.head.keep_alive:
            return False
        self.ending = True
        final.closes = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        for exchange in self._queue:
            exchange.abandon()
        self._queue.clear()
        self._current = None
        self._held = b""
        self._pending.free()
        super().connection_lost(exc)

    # The hot way.

    def _infer(self, head: Head, body: bytes, request_id: bytes | None) -> None:
        server = self.server
        began = perf_counter()
        exchange = Exchange(self, head, body, began, began + server.timeout)
        exchange.request_id = request_id
        exchange.complete = exchange.in_flight = True
        self._queue.append(exchange)
        server.lifecycle.began()
        if head.payer is not None and (error := head.payer.begin(began)) is not None:
            server.counters.refused(error.reason)
            exchange.refuse(error)
        else:
            exchange.unanswered = True
            server.counters.began()
            try:
                if head.payer is not None and head.payer.counts_bytes:
                    incoming = Body(len(body), server.admission.bodies, holder=head.payer)
                    exchange.incoming = incoming
                    incoming.charge(len(body))
                server.submit(exchange)
            except RequestError as error:
                exchange.free()
                exchange.refuse(error)
        if len(self._queue) >= self._pipelined:
            self._pause()

    def write(self, exchange: Exchange) -> None:
        """An exchange has its answer: write it, and those behind it that waited for it."""
        queue = self._queue
        transport = self._transport
        if transport is None or not queue:
            return
        if queue[0] is not exchange:
            self.count_unread(0)
            return
        written = 0
        while queue and queue[0].out is not None:
            first = queue.popleft()
            transport.write(first.out)  # type: ignore[arg-type]
            written += len(first.out)  # type: ignore[arg-type]
            first.written()
            if first.closes:
                self._shut(first)
                return
        if queue and queue[0].wants_continue:
            queue[0].wants_continue = False
            transport.write(CONTINUE)
            self._arrives = Pace(perf_counter(), self._received)
        if self.stalled:
            self.count_unread(written)
        elif self._paused and len(queue) <= self._pipelined // 2:
            self._resume()

    # The ordinary way.

    def feed(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE_BYTES):
            if self.ending:
                self._linger(len(data) - start)
                return
            if self._paused:
                self._held += data[start:]
                return
            self._read(data if len(data) <= _PIECE_BYTES else data[start : start + _PIECE_BYTES])

    def _read(self, data: bytes) -> None:
        wire = self.wire
        before = -1 if wire.state is _READY else wire.last
        self.handle(wire.feed(data))
        if wire.state is _READY or wire.state is _CLOSED:
            return
        if wire.last != before:
            self._discarded = 0
            self._reading_since = perf_counter()
            self.server.watched.add(self)
        if wire.state is _HEAD:
            self._charge_head(len(data))

    def _charge_head(self, size: int) -> None:
        """So much of a head has arrived, and the rest has not."""
        try:
            self._pending.charge(size)
        except RequestError as error:
            self.end_with(error)

    def open(self, event: Opened) -> None:
        if self.ending:
            return
        head, server = event.head, self.server
        began = perf_counter()
        self._pending.free()
        self._received, self._arrives = 0, Pace(began)
        self._has_ids = b"x-request-id" in head.headers
        exchange = self._current = Exchange(self, head, b"", began, began + server.timeout)
        self._queue.append(exchange)
        if head.path not in (LIVE_PATH, READY_PATH):
            exchange.in_flight = True
            server.lifecycle.began()
        head.peer, head.certified = self.owner, self.certified
        try:
            found = self._site.find(head)
            if isinstance(found, Upload):
                exchange.upload = found
                self._expect(exchange)
                return
            if not isinstance(found, Inference):
                exchange.page = found
                return
            exchange.codec = exchange.rest_codec = found.codec
            exchange.unanswered = True
            server.counters.began()
            self._site.check_infer(found, head)
        except RouteError as error:
            exchange.send(error.response)
            return
        except RequestError as error:
            if error.lasts:
                server.keep_refused(head, error)
            exchange.refuse(error)
            return
        exchange.header_length = head.header_length
        exchange.deadline = self._site.deadline(head, began)
        self._expect(exchange)

    def _expect(self, exchange: Exchange) -> None:
        """Take the body from now on."""
        head = exchange.head
        owner, holder = self.owner, None
        if head.caller is not None:
            owner, holder = head.caller.owner or owner, head.caller.account
        exchange.incoming = Body(head.limit, self.server.admission.bodies, owner, exchange.refuse, holder)
        if head.expects and head.has_body:
            if self._queue[0] is exchange and self._transport is not None:
                self._transport.write(CONTINUE)
            else:
                exchange.wants_continue = True

    def receive(self, event: Part) -> None:
        exchange, part = self._current, event.data
        if exchange is None or exchange.out is not None or exchange.incoming is None:
            self._linger(len(part))
            return
        self._received += len(part)
        exchange.wants_continue = False
        try:
            exchange.incoming.add(part)
        except RequestError as error:
            exchange.free()
            exchange.refuse(error)

    def end(self, event: Ended) -> None:  # noqa: ARG002
        exchange, self._current = self._current, None
        if exchange is None:
            return
        exchange.complete = True
        if not exchange.head.keep_alive:
            self.ending = True
        if exchange.out is not None:
            if exchange.closes and self._transport is not None and not self._queue:
                self._transport.close()
        elif exchange.page is not None:
            exchange.send_page(exchange.page)
        elif exchange.upload is not None:
            self._answer(exchange)
        elif exchange.incoming is not None:
            self._submit(exchange)
        if len(self._queue) >= self._pipelined:
            self._pause()

    def _answer(self, exchange: Exchange) -> None:
        upload, incoming = exchange.upload, exchange.incoming
        if upload is None or incoming is None:
            return
        try:
            body = incoming.whole()
            exchange.send(upload.answer(inflate(body, upload.limit) if exchange.head.gzip else body))
        except Exception as error:
            if not isinstance(error, RequestError):
                log.exception("an upload failed")
            exchange.refuse(error)
        finally:
            exchange.free()

    def _submit(self, exchange: Exchange) -> None:
        head = exchange.head
        if exchange.incoming is not None:
            exchange.body = exchange.incoming.whole()
        exchange.gzip = head.gzip
        exchange.limit = head.limit
        if head.raw is not None and exchange.codec is None:
            self.server.keep(head)
        try:
            self.server.submit(exchange)
        except RequestError as error:
            exchange.free()
            exchange.refuse(error)

    # Ends.

    @property
    def _is_between(self) -> bool:
        """Whether nothing of a request is on its way: one may begin, or none will."""
        state = self.wire.state
        return state is _READY or (state is _CLOSED and self._current is None)

    def is_last(self, exchange: Exchange) -> bool:
        """Whether nothing of a later request has arrived yet."""
        return self._queue[-1] is exchange and (self._is_between or self._current is exchange)

    def late(self) -> None:
        """The request that is arriving takes too long."""
        exchange = self._current
        if exchange is not None and exchange.out is None:
            exchange.free()
            exchange.refuse(too_slow(self.limits))
        elif exchange is None:
            self.end_with(RequestError(408, Reason.SLOW_CLIENT, "the head took too long to arrive"))
        elif self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> bool:
        again = super().look(now)
        if self._is_between:
            return again
        exchange = self._current
        if self._paused or (exchange is not None and exchange.wants_continue):
            self._arrives = Pace(now, self._received)
        elif self.wire.state is _HEAD:
            if now - self._reading_since > self.limits.head_seconds:
                self.late()
        elif exchange is not None and exchange.unanswered and now > exchange.deadline:
            exchange.free()
            exchange.refuse(deadline_error(exchange))
        elif self._arrives.is_slow(now, self._received, self.limits):
            self.late()
        return True

    def close_if_idle(self) -> bool:
        """Close the connection if no request is under way on it; whether that is so."""
        if not self._is_between or self._queue or self._held or self._transport is None:
            return False
        self._transport.close()
        return True

    def turn_away(self, error: RequestError) -> None:
        self.end_with(error)

    def leave(self, now: float) -> None:  # noqa: ARG002
        self.close_if_idle()

    def fail(self, event: Fault) -> None:
        if self.ending:
            return
        exchange = self._current
        if exchange is not None and not exchange.complete:
            exchange.free()
            if exchange.unanswered:
                exchange.count(400)
        self.end_with(RequestError(400, Reason.MALFORMED, event.words))

    def end_with(self, error: RequestError) -> None:
        """Answer what is arriving, or nothing in particular, and close when all before it is answered."""
        self.server.counters.refused(error.reason)
        exchange = self._current
        self._current = None
        self.ending = True
        self._pending.free()
        if exchange is None or exchange.complete:
            exchange = Exchange(self, Head("GET", b"/", ()), b"", 0.0, 0.0)
            self._queue.append(exchange)
        if exchange.out is not None:
            # It was refused already, and its sender does not stop.
            if self._transport is not None:
                self._transport.close()
            return
        exchange.complete = True
        error.headers["connection"] = "close"
        exchange.send(refusal(error))
