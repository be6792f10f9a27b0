"""Another protocol over REST, as the model server sees it."""

from __future__ import annotations

from typing import Protocol

from slipway_server.call.call import Codec


class RestCodec(Codec, Protocol):
    """Another protocol over REST, which has a way of its own to say what went wrong."""

    def error(self, status: int, message: str) -> dict[str, str]: ...
