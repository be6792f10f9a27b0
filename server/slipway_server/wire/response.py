"""An answer of HTTP as a value, as :class:`slipway_server.wire.head.Head` is a request."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

JSON_HEADER = (b"content-type", b"application/json")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; ``headers`` without length, date and connection, which the sender adds."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.headers


def json_response(content: object, status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, orjson.dumps(content), [JSON_HEADER, *(headers or [])])
