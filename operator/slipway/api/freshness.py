"""``spec.monitoring.freshness``: how old the data is that a model is asked about."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from slipway.api.base import HEADER_NAME, Block, rule


class Freshness(Block):
    """Where the time of a request's data is, and how old the data may be. A change makes a new revision.

    A time is a number of seconds since 1970, UTC, or text as RFC 3339 has it, with a time zone.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.source != 'Header' || self.name.matches('{HEADER_NAME}')",
                    "the name of a header has letters, digits and '-', such as x-data-time",
                ),
                rule("self.source == 'Tensor' || self.column == 0", "column goes with source Tensor"),
            ]
        }
    )

    source: Literal["Header", "Parameter", "Tensor"] = Field(
        description=(
            "What holds the time. Header: of the request, or metadata of a gRPC call; one time for all rows. "
            "Parameter: of the request; one time for all rows, or a list of one a row. Tensor: an input of "
            "the model, which is FP64, FP32 (to two minutes), a whole number of 32 or 64 bits, or text."
        )
    )
    name: str = Field(min_length=1, max_length=200, description="Name of the header, parameter or tensor.")
    column: int = Field(
        default=0, ge=0, le=9999, description="The time's place in a row of the tensor, from 0."
    )
    maxAgeSeconds: int = Field(
        ge=1,
        le=31_536_000,
        description="Where half of the rows are older, DataQuality is False, and SlipwayDataStale fires.",
    )
