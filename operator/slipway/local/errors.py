"""Why a model cannot be served on this machine."""

from __future__ import annotations


class LocalError(Exception):
    """The message is the fact, and what to do about it."""
