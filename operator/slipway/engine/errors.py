"""Errors of the API server, typed by what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.api.reasons import Reason
from slipway.core.diagnosis import refusal
from slipway.core.observed import Fault

#: The longest that a server's wish to be left alone is followed, in seconds.
MOST_RETRY_AFTER = 120.0


class ApiError(Exception):
    """The API server did not do what it was asked.

    Attributes:
        code: HTTP status; 0 where no answer came at all.
        reason: ``reason`` of the ``Status`` object, such as ``Conflict``.
        message: what the server said.
        causes: ``reason`` of each cause in its details.
        retry_after: seconds for which the server wants to be left alone; 0 where it did not say.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        causes: frozenset[str] = frozenset(),
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after

    @classmethod
    def from_status(cls, code: int, status: Mapping[str, Any], retry_after: str | None = None) -> ApiError:
        """From a ``Status`` object of the API server, and its header ``Retry-After``."""
        details = status.get("details")
        # Not everything that answers with JSON is an API server.
        listed = details.get("causes") if isinstance(details, Mapping) else None
        causes = frozenset(
            str(cause.get("reason", "")) for cause in listed or () if isinstance(cause, Mapping)
        )
        said = retry_after or (details.get("retryAfterSeconds") if isinstance(details, Mapping) else None)
        wait = _seconds(said) if code in (429, 503) else 0.0
        return cls(code, str(status.get("reason", "")), str(status.get("message", "")), causes, wait)


def _seconds(said: object) -> float:
    """A wait in seconds; dates, which HTTP allows too, are of clocks that may not be ours."""
    try:
        return min(max(float(str(said)), 0.0), MOST_RETRY_AFTER)
    except ValueError:
        return 0.0


class NameTakenError(Exception):
    """A name that Slipway needs belongs to an object that is not its own."""


def fault_of(error: ApiError | NameTakenError, knob: str = "spec.runtime.resources") -> Fault | None:
    """What a person has to know of a failed write, or None where trying again is all there is to do.

    ``knob`` is where the amounts are set that the object asks for.
    """
    if isinstance(error, NameTakenError):
        return Fault(Reason.NAME_TAKEN, str(error))
    if "NamespaceTerminating" in error.causes:
        return Fault(Reason.NAMESPACE_TERMINATING, error.message)
    if error.code in (400, 403, 405, 406, 413, 415, 422):
        fault = refusal(error.message, knob)
        # What is not known to be said of pods may be said of anything.
        known = fault.message != error.message
        return fault if known else Fault(Reason.REFUSED_BY_API_SERVER, error.message)
    return None
