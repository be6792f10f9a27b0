"""The one exception that model sources raise on purpose."""

from __future__ import annotations

from slipway.contract import Failure, ModelFault

#: Longest message of a :class:`Failure`, in characters.
MESSAGE_LIMIT = 1024


class ModelError(Exception):
    """A model cannot be had; ``str()`` is the fact and the next step, made for a status condition."""

    def __init__(self, reason: ModelFault, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def failure(self) -> Failure:
        """As the contract carries it, cut to the length that it allows."""
        return Failure(reason=self.reason, message=shortened(str(self), MESSAGE_LIMIT))


def shortened(text: str, limit: int) -> str:
    """The text on one line, with an ellipsis where it was cut to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def listed(names: list[str], limit: int = 5) -> str:
    """``a, b, c`` or, for more than ``limit`` names, ``a, b, … (12 in all)``; ``none`` for no names."""
    if not names:
        return "none"
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])}, … ({len(names)} in all)"
