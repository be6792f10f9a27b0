"""The HTTP header by which a request or an answer says where its JSON ends and binary tensors begin."""

from __future__ import annotations

from slipway_server.errors import schema_error, show

HEADER_LENGTH = "Inference-Header-Content-Length"


def parse_header_length(value: str) -> int:
    """The number in the header; raises :class:`RequestError` (400)."""
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise schema_error(f"{HEADER_LENGTH} must be the size of the JSON part in bytes, not {show(value)}")
    return int(value)
