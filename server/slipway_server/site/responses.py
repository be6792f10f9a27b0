"""What is answered to an inference, and in place of it."""

from __future__ import annotations

from slipway_server.errors import RequestError
from slipway_server.protocol.header import HEADER_LENGTH
from slipway_server.site.codec import RestCodec
from slipway_server.wire.head import Head
from slipway_server.wire.response import JSON_HEADER, Headers, Response, json_response

FAILED = "the server failed; its log says why"


def refusal(error: RequestError, codec: RestCodec | None = None) -> Response:
    """The protocol's error object."""
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    return json_response(_words(error.status, error.message, codec), error.status, headers)


def failure(codec: RestCodec | None = None) -> Response:
    # The traceback goes to the log; it is no client's business.
    return json_response(_words(500, FAILED, codec), 500)


def _words(status: int, message: str, codec: RestCodec | None) -> dict[str, str]:
    return {"error": message} if codec is None else codec.error(status, message)


def inference_response(body: bytes, header_length: int | None) -> Response:
    if header_length is None:
        return Response(200, body, [JSON_HEADER])
    return Response(
        200,
        body,
        [
            (b"content-type", b"application/octet-stream"),
            (HEADER_LENGTH.lower().encode(), b"%d" % header_length),
        ],
    )


def echoes(head: Head) -> Headers:
    """What is said back to the client as it came: its id for the request and its trace."""
    pairs = ((b"x-request-id", head.request_id), (b"traceparent", head.traceparent))
    return [(name, value) for name, value in pairs if value is not None]
