"""What is left to do after a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What is left to do for a key.

    Attributes:
        requeue_after: seconds until it should be looked at again though nothing changed, or None.
        failed: whether something could not be written; it is tried again with back-off.
    """

    requeue_after: float | None = None
    failed: bool = False
