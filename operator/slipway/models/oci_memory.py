"""What a look finds out of a registry that makes the next one cheaper; it is noted next to the model's mark.

Whoever may write a status may write such notes, so that none leads a password elsewhere than to the registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from slipway.models.marks import noted, notes

#: A name and password are wanted at once.
BASIC = "basic"
#: Where on its own host a registry gives tokens.
_PATH = re.compile(r"/[!-~]*")
_BY_TAG = "by-tag:"
#: So long a registry without the referrers API is taken for one that still has none.
_HOLDS = timedelta(days=1)


@dataclass(frozen=True)
class Memory:
    """What the looks before found out.

    Attributes:
        entry: :data:`BASIC`, or the path and query at which the registry gives tokens; empty if neither.
        by_tag: the day on which it had no referrers API, so that a tag lists what refers to a manifest.
    """

    entry: str = ""
    by_tag: date | None = None

    @classmethod
    def of(cls, mark: str | None) -> Memory:
        """What is noted next to a mark, as far as it still holds."""
        entry, by_tag = "", None
        for word in notes(mark):
            if word == BASIC or _PATH.fullmatch(word):
                entry = word
            elif word.startswith(_BY_TAG):
                by_tag = _day(word.removeprefix(_BY_TAG))
        return cls(entry, by_tag)

    def with_mark(self, mark: str) -> str:
        """A mark of bytes, and this next to it."""
        return noted(mark, f"{_BY_TAG}{self.by_tag.isoformat()}" if self.by_tag else "", self.entry)


def today() -> date:
    """The day, the same everywhere."""
    return datetime.now(UTC).date()


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if timedelta() <= today() - found <= _HOLDS else None
