"""When a rollout's next look is due."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.rollout import Analysis
from slipway.api.rollout_status import RolloutStatus


def next_look(state: RolloutStatus, analysis: Analysis) -> datetime:
    """The time from which on both arms' counts are taken in again."""
    since = datetime.fromisoformat(state.lookedAt or state.startedAt)
    return since + timedelta(seconds=analysis.intervalSeconds)
