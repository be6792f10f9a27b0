"""Why there is no release."""


class ReleaseError(Exception):
    """The message is the fact, and how to fix it."""
