"""What is said of a model that cannot be converted."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.conversion import Compared, Rows


class ConvertError(ValueError):
    """The model cannot be converted, or the data not be used; the message says why, and what to do."""


class DifferentError(ConvertError):
    """The converted model answers otherwise than the original.

    Attributes:
        compared: what was found, by kind of rows.
    """

    def __init__(self, message: str, compared: Mapping[Rows, Compared]) -> None:
        super().__init__(message)
        self.compared = compared
