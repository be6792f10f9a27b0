"""What gRPC says in headers: a deadline, and words."""

from __future__ import annotations

import re

from slipway_server.errors import schema_error
from slipway_server.wire.head import Head

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def seconds_of(head: Head) -> float | None:
    """The client's own limit, from ``grpc-timeout``; raises :class:`RequestError` (400)."""
    value = head.headers.get(b"grpc-timeout")
    if value is None:
        return None
    text = value.decode("latin-1")
    if not re.fullmatch(r"[0-9]{1,8}[HMSmun]", text):
        raise schema_error("the header 'grpc-timeout' must be up to 8 digits and a unit, such as 500m")
    return int(text[:-1]) * _UNITS[text[-1]]


def percent(text: str) -> bytes:
    """A ``grpc-message``: what is not printable ASCII, percent-encoded."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode()
    )
