"""Whether what the spec asks for serves, by the conditions that pipelines wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """Where a change of the spec stands."""

    DONE = "done"
    FAILED = "failed"
    OPEN = "open"


@dataclass(frozen=True)
class Progress:
    """An outcome, and why."""

    outcome: Outcome
    message: str


def progress(manifest: Mapping[str, Any]) -> Progress:
    """Where a ModelDeployment stands, as its newest status says.

    Args:
        manifest: as the API server has it.
    """
    status = manifest.get("status") or {}
    generation = manifest["metadata"].get("generation", 0)
    if status.get("observedGeneration", 0) < generation:
        return Progress(Outcome.OPEN, "the operator has not seen this change yet")
    conditions = {found["type"]: found for found in status.get("conditions") or ()}
    for type_ in ("Stalled", "Ready", "RolloutComplete"):
        found = conditions.get(type_)
        # Conditions are written one generation at a time, but an old one may be left in a merged list.
        if found is not None and found.get("observedGeneration", generation) < generation:
            return Progress(Outcome.OPEN, f"condition {type_} is of an earlier generation")
    stalled, ready = conditions.get("Stalled"), conditions.get("Ready")
    complete = conditions.get("RolloutComplete")
    if stalled is not None and stalled["status"] == "True":
        return Progress(Outcome.FAILED, _told(stalled))
    if complete is None or ready is None:
        return Progress(Outcome.OPEN, "nothing is known of a rollout yet")
    if complete["status"] == "True" and ready["status"] == "True":
        return Progress(Outcome.DONE, _told(complete))
    if complete["reason"] == "Rejected":
        return Progress(Outcome.FAILED, _told(complete))
    return Progress(Outcome.OPEN, _told(complete if complete["status"] != "True" else ready))


def _told(condition: Mapping[str, Any]) -> str:
    return f"{condition['reason']}: {condition['message']}"
