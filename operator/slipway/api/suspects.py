"""``spec.monitoring.suspectInputs``: rows that may be a search for another answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Block, rule

Detector = Annotated[Literal["Nearby", "Turned"], Field(description="Which rows it counts.")]


class SuspectInputs(Block):
    """Which rows count as suspect. They are answered like all others. A change makes a new revision."""

    detectors: tuple[Detector, ...] = Field(
        default=("Nearby", "Turned"),
        min_length=1,
        max_length=2,
        description=(
            "Nearby: rows a small step from an earlier row of the same sender; those of slow sensors are, "
            "too. Turned: those of them that got another class. Both need a profile with columns of numbers, "
            "Turned a model that answers with classes."
        ),
        # As a set, a server-side apply would leave both with the one that a manifest names.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            "x-kubernetes-validations": [
                rule("self.all(one, self.exists_one(other, other == one))", "name each detector once")
            ],
        },
    )
