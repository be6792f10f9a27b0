"""What a handle raises beyond the command line's errors, which are exported here too."""

from __future__ import annotations

from slipway.cli.errors import CommandError as SlipwayError

__all__ = ["NotServedError", "PredictionError", "SlipwayError"]


class PredictionError(SlipwayError):
    """A table that does not fit the model, or a request that the model server refused.

    Attributes:
        status: of the answer; None where nothing was sent.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotServedError(SlipwayError):
    """What was waited for has failed: the revision was rejected, or nothing of it can be served."""
