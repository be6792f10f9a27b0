"""``spec.inputs``: what requests may hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import Block, rule, string

#: A number as people write it; a string where it has a point.
Decimal = Annotated[
    Annotated[int, Field()]
    | Annotated[
        str,
        string(
            r"^-?[0-9]{1,15}([.][0-9]{1,9})?$",
            "must be a number, such as 18 or '0.5'",
            max_length=26,
        ),
    ],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]


class Column(Block):
    """One column of a row."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.type) || self.type != 'String' || (!has(self.minimum) && !has(self.maximum))",
                    "minimum and maximum are for numbers; a String has enum",
                ),
                rule(
                    "!has(self.minimum) || !has(self.maximum) || !isQuantity(string(self.minimum)) || "
                    "!isQuantity(string(self.maximum)) || "
                    "!quantity(string(self.minimum)).isGreaterThan(quantity(string(self.maximum)))",
                    "minimum must not be above maximum",
                ),
            ]
        }
    )

    name: str = Field(
        min_length=1, max_length=200, description="Its name, as in the profile and in the metrics."
    )
    type: Literal["Number", "Integer", "String"] = Field(
        default="Number",
        description=(
            "What it holds, Number unless given; an Integer may come as a number without a fraction."
        ),
    )
    minimum: Decimal | None = Field(default=None, description="The least number that is taken.")
    maximum: Decimal | None = Field(default=None, description="The greatest number that is taken.")
    nullable: bool = Field(
        default=True,
        description=(
            "Whether it may be missing, true unless given: NaN among numbers, an empty string among text."
        ),
    )
    enum: tuple[Annotated[str, Field(max_length=100, description="A value, numbers too as text.")], ...] = (
        Field(default=(), max_length=50, description="The only values that are taken; none means any.")
    )


class Tensor(Block):
    """One input of the model."""

    name: str = Field(min_length=1, max_length=200, description="The input's name in the model.")
    columns: tuple[Column, ...] = Field(
        min_length=1,
        max_length=200,
        description="Its columns in the order of a row; those at the end may be left out.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Inputs(Block):
    """What requests may hold. A change here makes a new revision."""

    tensors: tuple[Tensor, ...] = Field(
        min_length=1,
        max_length=16,
        description="Inputs of the model; others may hold anything.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    onViolation: Literal["Reject", "Report"] = Field(
        default="Reject",
        description="Whether a request that breaks a rule is answered 400, or answered and counted.",
    )
