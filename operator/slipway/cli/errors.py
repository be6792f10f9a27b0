"""What a command says when it cannot do what it was asked."""


class CommandError(Exception):
    """A command that cannot be carried out; its message says why, and what to do."""


class ChangedError(CommandError):
    """The resource is not the one that was read any more."""
