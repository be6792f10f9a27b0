"""What the server answers when it cannot answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum


class Reason(StrEnum):
    """Why a request never got an answer from the model; a label of ``slipway_inference_rejected_total``."""

    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    SIZE = "size"
    MEDIA_TYPE = "media_type"
    SCHEMA = "schema"
    MODEL_INPUT = "model_input"
    MODEL_OUTPUT = "model_output"
    MODEL_CRASH = "model_crash"
    PEER_CRASHES = "peer_crashes"
    SLOW_CLIENT = "slow_client"
    CLIENT_GONE = "client_gone"
    OVERLOAD = "overload"
    DEADLINE = "deadline"
    NOT_READY = "not_ready"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    ACCESS_UNAVAILABLE = "access_unavailable"
    RATE = "rate"


class RequestError(Exception):
    """A request that gets no inference: an HTTP status and a message that says how to fix it."""

    #: Whether a head of the same bytes is refused just so, until keys change.
    lasts = False

    def __init__(
        self, status: int, reason: Reason, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})


def schema_error(message: str) -> RequestError:
    """A request that the protocol or the model's declared tensors do not allow."""
    return RequestError(400, Reason.SCHEMA, message)


def not_now(reason: Reason, message: str) -> RequestError:
    """A request that may be sent again in a second, unchanged."""
    return RequestError(503, reason, message, {"retry-after": "1"})


def show(value: object, limit: int = 60) -> str:
    """A value from a request as it may appear in a message: quoted and short, whatever it holds."""
    if isinstance(value, str):
        value = value[: limit + 1]
    elif isinstance(value, list):
        return f"a list of {len(value)}"
    elif isinstance(value, dict):
        return "an object"
    elif value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Names for a message, quoted, the first few of them."""
    shown = ", ".join(show(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
