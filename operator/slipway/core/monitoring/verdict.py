"""What monitoring says of a model: one verdict a condition, with its reason and its numbers in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slipway.api.reasons import Reason

#: Conditions of ``metav1`` hold longer messages, but nobody reads them.
MOST_CHARACTERS = 1024


class MonitoredCondition(StrEnum):
    """What is judged. ``Drift`` is True when something is wrong; the others are True when all is well."""

    DRIFT = "Drift"
    DATA_QUALITY = "DataQuality"
    PERFORMANCE = "Performance"
    FAIRNESS = "Fairness"


class Status(StrEnum):
    """As in ``metav1.Condition``."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Verdict:
    """A condition's status, why, and the numbers behind it in words."""

    condition: MonitoredCondition
    status: Status
    reason: Reason
    message: str

    @property
    def is_breach(self) -> bool:
        """Whether something is known to be wrong, which is what alerts, gates and ``onBreach`` act on."""
        bad = Status.TRUE if self.condition is MonitoredCondition.DRIFT else Status.FALSE
        return self.status is bad


def say(condition: MonitoredCondition, status: Status, reason: Reason, parts: list[str]) -> Verdict:
    """A verdict whose message is as many of the parts as fit, the most important first."""
    return Verdict(condition, status, reason, bounded(parts))


def bounded(parts: list[str]) -> str:
    """As many of the parts as fit into a message, the most important first."""
    kept: list[str] = []
    for position, part in enumerate(parts):
        left = len(parts) - position
        tail = f"; and {left} more"
        if len("; ".join([*kept, part])) > MOST_CHARACTERS - len(tail):
            return ("; ".join(kept) + tail).removeprefix("; ")
        kept.append(part)
    return "; ".join(kept)


def number(value: float) -> str:
    """Three significant digits, thousands separated; the same for the same value."""
    value = float(value)
    if abs(value) >= 1000 or value.is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A share as a percentage of three significant digits."""
    return f"{100.0 * value:.3g}%"
