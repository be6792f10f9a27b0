"""``spec.monitoring`` and ``spec.fairness``: what model servers count beside the profile's bins."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from slipway.api.base import Block, HeaderName, SecretRef, rule
from slipway.api.freshness import Freshness

Name = Annotated[str, Field(min_length=1, max_length=63)]
Value = Annotated[str, Field(min_length=1, max_length=63, description="A value, numbers too as text.")]


class Feedback(Block):
    """Tokens in answers, with which labels come back."""

    secretRef: SecretRef = Field(
        description=(
            "Secret with the keys of the tokens, each of 32 random bytes at least. The last by name is used "
            "for new tokens; keep the others as long as their tokens are to be taken."
        )
    )
    maxAgeDays: int = Field(
        default=90, ge=1, le=3650, description="How long after a prediction its label is taken."
    )


class Performance(Block):
    """How often the model is right."""

    feedback: Feedback | None = Field(
        default=None,
        description="Gives each answered row a token, and takes labels at /v2/models/NAME/feedback.",
    )


class Monitoring(Block):
    """What is watched. A change here makes a new revision."""

    performance: Performance | None = Field(default=None, description="How often the model is right.")
    freshness: Freshness | None = Field(
        default=None,
        description="How old the data of a request may be. A change here makes a new revision.",
    )


class SensitiveAttribute(Block):
    """Something by which people must not be treated differently."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(has(self.parameter) ? 1 : 0) + (has(self.tensor) ? 1 : 0) + "
                    "(has(self.header) ? 1 : 0) == 1",
                    "name exactly one of parameter, tensor and header, which holds the attribute",
                )
            ]
        }
    )

    name: Name = Field(description="Its name in the metrics.")
    parameter: Name | None = Field(
        default=None,
        description="Parameter of the request that holds it: one value for all rows, or a list of one a row.",
    )
    header: HeaderName | None = Field(
        default=None,
        description=(
            "Header of the request that holds it, or metadata of a gRPC call: one value for all rows. It "
            "leaves the server as the name of a group only."
        ),
    )
    tensor: str | None = Field(
        default=None, min_length=1, max_length=200, description="Input of the model that holds it."
    )
    column: int = Field(default=0, ge=0, le=9999, description="Its place in a row of the tensor, from 0.")
    groups: tuple[Value, ...] = Field(
        min_length=1,
        max_length=10,
        description="Values that are counted, numbers too as text; all others are the group 'other'.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Fairness(Block):
    """Who gets what. A change here makes a new revision."""

    sensitiveAttributes: tuple[SensitiveAttribute, ...] = Field(
        min_length=1,
        max_length=3,
        description="Attributes whose groups are compared; they need not be inputs of the model.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    favorableOutcomes: tuple[Value, ...] = Field(
        min_length=1,
        max_length=20,
        description="Classes that are good for whom they are given to, numbers too as text.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
