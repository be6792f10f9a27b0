"""``status.monitoring``: what was found of the stable revision, so that it outlives the operator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipway.api.base import Block

#: Features that a verdict names.
MAX_FEATURES = 20
#: A verdict's message, in characters.
MAX_MESSAGE = 1024
#: What is far beyond its limit is so by this many percent, no more.
MAX_PERCENT = 100_000


class FeatureStatus(Block):
    """A feature that is not as it should be."""

    name: str = Field(max_length=253, description="Its name in the profile.")
    severity: Literal["Warning", "Critical"] = Field(description="Which limit it is beyond.")
    psi: str = Field(max_length=32, description="Population stability index beyond the noise.")
    rows: int = Field(ge=0, description="Rows of the window that had a value.")


class EpisodeStatus(Block):
    """A time for which something is bad; what is good for less than a window has not ended it."""

    startedAt: str = Field(
        max_length=64, description="When it turned bad.", json_schema_extra={"format": "date-time"}
    )
    endedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When it turned good again.",
        json_schema_extra={"format": "date-time"},
    )
    job: str | None = Field(default=None, max_length=63, description="The Job that was created for it.")
    fault: str | None = Field(
        default=None, max_length=1024, description="Why the Job could not be created, so far."
    )


class VerdictStatus(Block):
    """What was found, and on what it stands."""

    type: Literal["Drift", "DataQuality", "Performance", "Fairness"] = Field(
        description="The condition that reports it."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="As the condition's.")
    reason: str = Field(max_length=64, description="As the condition's; docs/reasons.md explains each.")
    message: str = Field(max_length=MAX_MESSAGE, description="The numbers in words.")
    judgedAt: str = Field(
        max_length=64,
        description="When these numbers were taken; newer ones that say the same are not written.",
        json_schema_extra={"format": "date-time"},
    )
    countedSince: str = Field(
        max_length=64,
        description="Nothing from before is counted: the window's begin or, if later, when counting began.",
        json_schema_extra={"format": "date-time"},
    )
    percentOfLimit: int | None = Field(
        default=None,
        ge=0,
        le=MAX_PERCENT,
        description="The worst figure in percent of its limit; while too little is counted, the count in "
        "percent of what is needed.",
    )
    episode: EpisodeStatus | None = Field(
        default=None, description="The last time for which it was bad, which may go on."
    )
    features: tuple[FeatureStatus, ...] = Field(
        default=(),
        max_length=MAX_FEATURES,
        description="Features that drifted, the furthest first.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class MonitoringStatus(Block):
    """What was found of one version's inputs and answers."""

    version: str = Field(max_length=256, description="Version of the model that is judged.")
    observedGeneration: int = Field(
        default=0, ge=0, description="metadata.generation whose limits it is held against."
    )
    verdicts: tuple[VerdictStatus, ...] = Field(
        default=(),
        max_length=4,
        description="One for each condition.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
