"""Plans as the lines that people read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from slipway.cli.planned import lines, planned
from slipway.core.observed import Manifest
from slipway.core.revision import Settings


def told(
    manifest: dict[str, Any],
    live: Manifest | None,
    settings: Settings,
    now: datetime,
    children: Sequence[Manifest] | None = None,
) -> list[str]:
    """The lines of a plan."""
    return [line.text for line in lines(planned(manifest, live, settings, now, children))]
