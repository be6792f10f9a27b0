"""A store's mark of a model's bytes, and what of the store makes the next look at it cheaper."""

from __future__ import annotations

#: As status keeps it.
LONGEST = 128
#: How a mark begins that is of a file, and of all that lies next to it.
BESIDE = "beside:"


def is_same(one: str | None, other: str | None) -> bool:
    """Whether two marks are of the same bytes, whatever else was noted."""
    return one is not None and other is not None and of_bytes(one) == of_bytes(other)


def of_bytes(mark: str) -> str:
    """A mark without notes."""
    return mark.partition(" ")[0]


def notes(mark: str | None) -> list[str]:
    """What was noted next to a mark."""
    return (mark or "").split(" ")[1:]


def noted(mark: str, *words: str) -> str:
    """A mark with notes, which have no spaces; those for which there is no room are left out."""
    found = of_bytes(mark)
    for word in words:
        if word and len(found) + 1 + len(word) <= LONGEST:
            found = f"{found} {word}"
    return found
