"""One call of a gRPC method: a stream of HTTP/2 from its headers to its trailers."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from time import perf_counter
from typing import Protocol

from slipway_server.call.body import Body, inflate, too_slow
from slipway_server.call.request import Request
from slipway_server.door.admission import name_of
from slipway_server.door.pace import Pace
from slipway_server.engine.crew import deadline_error
from slipway_server.errors import Reason, RequestError, schema_error, show
from slipway_server.rpc.metadata import percent
from slipway_server.rpc.service import Infer, Method, Status, Talk, Watch, status_of
from slipway_server.site.frontend import Frontend
from slipway_server.site.responses import FAILED
from slipway_server.wire.head import REQUEST_ID, Head, too_large
from slipway_server.wire.headers import block, literal
from slipway_server.wire.http2 import NOT_REST
from slipway_server.wire.kept import value_of
from slipway_server.wire.limits import Limits

log = logging.getLogger(__name__)

#: Before each message: whether it is compressed, and its size.
_PREFIX_BYTES = 5
_CONTENT_TYPE = (b"content-type", b"application/grpc")
_START = block([_CONTENT_TYPE, (b"grpc-accept-encoding", b"identity,gzip")])
_OK = literal(b"grpc-status", b"0")
_ID_NAME = literal(REQUEST_ID, b"")[:-1]


class Reply(Protocol):
    """Where a call's answer goes."""

    def send(self, stream: int, start: bytes | None, data: bytes, trailers: bytes | None) -> int:
        """Go on with it, to its end where there are trailers; how many bytes wait for the client."""

    def drop(self, stream: int) -> None:
        """Give it up."""


class Rpc(Request):
    """A request, then its answer; answered by the engine, or here where no model is needed."""

    def __init__(
        self, reply: Reply, stream: int, head: Head, frontend: Frontend, limits: Limits, owner: Hashable
    ) -> None:
        now = perf_counter()
        super().__init__(b"", None, now, now + frontend.timeout)
        self.reply = reply
        self.stream = stream
        self.site = self._frontend = frontend
        self.head = head
        self.owner = owner
        #: The client's name for the call where it is not in the head, as HPACK has it.
        self.request_id: bytes | None = None
        self._limits = limits
        self._received = 0
        #: Of a request to infer: what stands before its message, or as much of it as has arrived.
        self._prefix = b""
        self._buffer = bytearray()
        #: What of small messages is in ``_buffer``.
        self._small: Body | None = None
        self.method: Method | None = None
        #: The last word is said; it may still wait for the client's window.
        self.is_answered = False
        self.is_started = False
        #: The status of HTTP by which a request is refused that is not of gRPC at all.
        self.http_status: bytes | None = None
        #: How fast the client reads, where the answer waits for it.
        self.reads: Pace | None = None
        self._arrives: Pace | None = None
        #: A watcher's question, and what it was told last.
        self.watch_request: bytes | None = None
        self.watch_answer: bytes | None = None

    def peer(self) -> str:
        return name_of(self.owner)

    def header(self, name: bytes) -> bytes | None:
        if name == REQUEST_ID and self.request_id is not None:
            return value_of(self.request_id)
        return super().header(name)

    def receive(self, data: bytes) -> None:
        """A piece of the request arrived."""
        self._received += len(data)
        if self.is_answered or self.http_status is not None:
            return
        try:
            if self.incoming is not None:
                self._add(self.incoming, data)
                return
            if self._small is None:
                most = 2 * self._limits.small_message_bytes
                self._small = Body(most, self._frontend.admission.bodies, self.owner, self.refuse)
            self._small.charge(len(data))
            self._buffer += data
            if not isinstance(self.method, Infer):
                self._read_messages()
        except RequestError as error:
            self.refuse(error)

    def end(self) -> None:
        """The request is complete."""
        self.complete = True
        if self.is_answered:
            return
        if self.http_status is not None:
            self.is_started = True
            start = block([(b"content-type", b"application/json")], self.http_status)
            self._send_last(start, NOT_REST, b"")
            return
        try:
            if self.incoming is not None:
                self._submit(self.incoming)
            elif isinstance(self.method, Talk):
                self.send_status(Status.OK)
            elif self._buffer or self.watch_request is None:
                raise schema_error("the request must be one whole message")
        except RequestError as error:
            self.refuse(error)

    def answered(self) -> None:
        """The model has spoken, or will not."""
        if self.content is None:
            self.refuse(self.error)
        elif self.unanswered:
            self.count(200)
            self.site.counters.add_rows(self.rows)
            self.send(self.content, last=True)

    def refuse(self, error: Exception | None) -> None:
        if not self.is_answered:
            super().refuse(error)

    def send_error(self, error: RequestError | None) -> None:
        if error is None:
            self.send_status(Status.INTERNAL, FAILED)
            return
        extra = b""
        if "retry-after" in error.headers:
            pause = int(error.headers["retry-after"]) * 1000
            extra = literal(b"grpc-retry-pushback-ms", b"%d" % pause)
        self.send_status(status_of(error), error.message, extra)

    def look(self, now: float) -> None:
        """Refuse a request that is too slow to arrive."""
        limits = self._limits
        if isinstance(self.method, Talk):
            slow = now - self.began > limits.quiet_seconds
        else:
            if self._arrives is None:
                self._arrives = Pace(self.began)
            slow = self._arrives.is_slow(now, self._received, limits)
        if self.unanswered and now > self.deadline:
            self.refuse(deadline_error(self))
        elif slow:
            self.refuse(too_slow(limits))

    def send(self, message: bytes, last: bool = False) -> None:
        """Send one message, and with ``last`` that all is well."""
        if self.is_answered:
            return
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        start = None
        if not self.is_started:
            self.is_started = True
            start = _START + self._echoes()
        if last:
            self._send_last(start, framed, _OK)
        elif self.reply.send(self.stream, start, framed, None) > self._limits.unsent_bytes:
            self.reply.drop(self.stream)  # it asks on and on, and reads nothing

    def send_status(self, status: Status, message: str = "", extra: bytes = b"") -> None:
        """End with a status; by itself where nothing was said yet."""
        if self.is_answered:
            return
        words = literal(b"grpc-message", percent(message)) if message else b""
        trailers = literal(b"grpc-status", b"%d" % status) + words + extra
        if not self.is_started:
            self.is_started = True
            trailers = _START + self._echoes() + trailers
        self._send_last(None, b"", trailers)

    def abandon(self) -> None:
        self.is_answered = True
        if self._small is not None:
            self._small.free()
        super().abandon()

    def look_again(self) -> None:
        """Tell a watcher what changed."""
        if isinstance(self.method, Watch) and self.watch_request is not None:
            answer = self.method.answer(self.watch_request)
            if answer != self.watch_answer:
                self.watch_answer = answer
                self.send(answer)

    def _send_last(self, start: bytes | None, data: bytes, trailers: bytes) -> None:
        self.is_answered = True
        if self._small is not None:
            self._small.free()
        if not self.complete:
            self.free()
        self.reply.send(self.stream, start, data, trailers)

    def _echoes(self) -> bytes:
        head, trace = self.head, self.head.traceparent
        if self.request_id is not None:
            echoes = _ID_NAME + self.request_id
        else:
            echoes = b"" if head.request_id is None else literal(REQUEST_ID, head.request_id)
        return echoes if trace is None else echoes + literal(b"traceparent", trace)

    def _add(self, body: Body, data: bytes) -> None:
        prefix = self._prefix
        if len(prefix) < _PREFIX_BYTES:
            self._prefix = prefix = prefix + data[: _PREFIX_BYTES - len(prefix)]
            most = self._frontend.config.maxBodyBytes
            if len(prefix) == _PREFIX_BYTES and int.from_bytes(prefix[1:], "big") > most:
                raise too_large(most)
        body.add(data)

    def _submit(self, body: Body) -> None:
        frontend = self._frontend
        whole = body.whole()
        try:
            if int.from_bytes(self._prefix[1:], "big") != len(whole) - _PREFIX_BYTES:
                raise schema_error("the request must be one whole message")
            self.gzip = self._is_compressed(whole[0])
            self.limit = frontend.config.maxBodyBytes
            self.body = whole[_PREFIX_BYTES:]
            frontend.submit(self)
        except RequestError:
            self.free()
            raise

    def _is_compressed(self, flag: int) -> bool:
        if flag == 0:
            return False
        encoding = self.head.text(b"grpc-encoding", "identity")
        if flag == 1 and encoding == "gzip":
            return True
        if flag != 1 or encoding == "identity":
            raise RequestError(
                400,
                Reason.MALFORMED,
                "the message says that it is compressed, and the header 'grpc-encoding' does not say by what",
            )
        raise RequestError(
            415,
            Reason.MEDIA_TYPE,
            f"messages compressed by {show(encoding)} are not taken; send it with gzip",
        )

    def _read_messages(self) -> None:
        buffer, most = self._buffer, self._limits.small_message_bytes
        while len(buffer) >= _PREFIX_BYTES and not self.is_answered:
            size = int.from_bytes(buffer[1:5], "big")
            if size > most:
                raise too_large(most)
            packed = self._is_compressed(buffer[0])
            if len(buffer) < _PREFIX_BYTES + size:
                return
            message = bytes(buffer[_PREFIX_BYTES : _PREFIX_BYTES + size])
            if packed:
                message = inflate(message, most)
            del buffer[: _PREFIX_BYTES + size]
            if self._small is not None:
                self._small.release(_PREFIX_BYTES + size)
            self._answer(message)

    def _answer(self, message: bytes) -> None:
        method = self.method
        try:
            if isinstance(method, Watch):
                self.watch_request = message
                self.look_again()
            elif isinstance(method, Talk):
                self.send(method.answer(message))
            elif method is not None and not isinstance(method, Infer):
                self.send(method.answer(message), last=True)
        except RequestError:
            raise
        except Exception as error:
            log.error("a method failed", exc_info=error)
            self.refuse(error)
