"""What a command says when it cannot do what it was told to."""

from __future__ import annotations


class CommandError(Exception):
    """A command that cannot be carried out; its message says why, and what to do."""


class ChangedError(CommandError):
    """The resource is not the one that was read any more."""


class MissingError(CommandError):
    """There is nothing of that name."""


class NotInstalledError(CommandError):
    """The cluster does not know the resource at all."""


class ForbiddenError(CommandError):
    """The user has no right to it."""


class InvalidError(CommandError):
    """The API server refuses what was sent.

    Attributes:
        complaints: what is wrong, each with the path of its field.
    """

    def __init__(self, message: str, complaints: tuple[str, ...]) -> None:
        super().__init__(message)
        self.complaints = complaints
