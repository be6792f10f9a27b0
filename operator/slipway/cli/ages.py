"""How long ago, in the few characters that kubectl uses."""

from __future__ import annotations

from datetime import datetime, timedelta


def age(since: str, now: datetime) -> str:
    """Time since an RFC 3339 timestamp: ``45s``, ``12m``, ``5h`` or ``20d``; ``-`` for what is none."""
    try:
        return short(now - datetime.fromisoformat(since))
    except (ValueError, TypeError):
        return "-"


def short(span: timedelta) -> str:
    """A span in its largest unit of which there are two at least; never below 0."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
