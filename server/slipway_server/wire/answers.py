"""HTTP/1.1's answers as bytes. What time it is has to be told: there is no clock in here."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from slipway_server.protocol.header import HEADER_LENGTH

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Answers:
    """Writes answers with the date of the second that it was told last."""

    def __init__(self, now: float) -> None:
        """``now`` is in seconds since 1970."""
        self._second = -1
        self._date = b""
        #: The whole head of a good JSON answer but for its length.
        self._json_head = b""
        #: The same of a good binary answer, but for both of its lengths.
        self._binary_head = b""
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Renew the date if the second is another one."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
            self._json_head = _LINES[200] + self._date + b"content-type: application/json\r\ncontent-length: "
            self._binary_head = (
                _LINES[200]
                + self._date
                + b"content-type: application/octet-stream\r\n%b: " % HEADER_LENGTH.lower().encode()
            )

    def inference(self, content: bytes, header_length: int | None, request_id: bytes | None) -> bytes:
        """A good answer of the model; ``header_length`` is the size of its JSON where tensors follow it."""
        if header_length is None and request_id is None:
            return b"%b%d\r\n\r\n%b" % (self._json_head, len(content), content)
        head = self._json_head
        if header_length is not None:
            head = b"%b%d\r\ncontent-length: " % (self._binary_head, header_length)
        own = b"" if request_id is None else b"x-request-id: %b\r\n" % request_id
        return b"%b%d\r\n%b\r\n%b" % (head, len(content), own, content)

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int) -> bytes:
        """The head of any answer, to the empty line; ``length`` is that of its body."""
        fields = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return b"%b%b%bcontent-length: %d\r\n\r\n" % (_LINES[status], self._date, fields, length)
