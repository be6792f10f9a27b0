"""Requests to servers on this machine."""

from __future__ import annotations

import http.client

_SECONDS = 30.0
#: Of an answer, in bytes.
_MOST = 16 * 1024 * 1024


def ask(server: tuple[str, int], method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of an answer.

    Args:
        server: address that it listens on, and port.
        method: of HTTP.
        path: without an address.
        body: JSON, or nothing.

    Raises:
        OSError: where it does not answer.
        http.client.HTTPException: where something else than HTTP does.
    """
    host, port = server
    reached = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(reached, port, timeout=_SECONDS)
    try:
        connection.request(method, path, body or None, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST).decode("utf-8", "replace")
    finally:
        connection.close()
