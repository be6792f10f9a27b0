"""``spec.card``: what people have to know of a model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway.api.base import Block, string

Link = Annotated[
    str,
    string(
        r"^https?://[^\s]+$",
        "must be an address that starts with https:// or http://",
        max_length=500,
    ),
    Field(description="An address."),
]


class Card(Block):
    """What people have to know of the model; it is shown in the report. A change here restarts no pod."""

    owner: str = Field(default="", max_length=200, description="Who answers for the model.")
    intendedUse: str = Field(default="", max_length=2000, description="What the model is for.")
    limitations: str = Field(
        default="", max_length=2000, description="What it is not for, and where it is known to fail."
    )
    links: tuple[Link, ...] = Field(
        default=(),
        max_length=10,
        description="Where more is written.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    maxAgeDays: int | None = Field(
        default=None,
        ge=1,
        le=3650,
        description=(
            "How old the model may be while it serves, by status.stable.modelCreatedAt. Beyond that "
            "DataQuality is False, and SlipwayModelStale fires."
        ),
    )
