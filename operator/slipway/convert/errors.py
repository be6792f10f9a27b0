"""What is said of a model that cannot be converted."""

from __future__ import annotations


class ConvertError(ValueError):
    """The model cannot be converted, or the data not be used; the message says why, and what to do."""


class DifferentError(ConvertError):
    """The converted model answers otherwise than the original."""
