"""``spec.model.verify``: what a model has to stand before it may run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.access import KeyRef
from slipway.api.base import Block, string

OperatorDomain = Annotated[
    str,
    string(
        r"^[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?$",
        "a domain of operators is letters, digits, '-', '_' and '.', such as com.example.ops",
        max_length=100,
    ),
    Field(description="A domain of operators, such as com.example.ops."),
]


class Hazards(Block):
    """The check of a model's graph before its pods start."""

    onFinding: Literal["Block", "Report"] = Field(
        default="Block",
        description=(
            "Block refuses a model with a hazard, with the reason ModelHazard and the node's name. Report "
            "takes it on, and the resolver's log alone names it."
        ),
    )
    allowedOperatorDomains: tuple[OperatorDomain, ...] = Field(
        default=(),
        max_length=16,
        description=(
            "Domains of operators that are no hazard next to those that the model server has, for an image "
            "of one's own that has more."
        ),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class PublicKeys(Block):
    """Keys whose holders are trusted."""

    configMapRef: KeyRef = Field(
        description="ConfigMap and its key with public keys in PEM, one after the other, at most 20."
    )


class Signature(Block):
    """A signature of OpenSSF Model Signing: the file model.sig next to the model."""

    publicKeys: PublicKeys = Field(
        description="A holder of one of these keys has to have signed the model's files and its profile."
    )


class Verify(Block):
    """What a model has to stand before it may run."""

    signature: Signature | None = Field(default=None, description="Who has to have signed the model.")
    hazards: Hazards = Field(default_factory=Hazards, description="The check of the model's graph.")
