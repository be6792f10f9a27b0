"""What every part of the resource's schema is made of."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

#: Beside a pattern in a schema: the sentence that the API server answers instead of the bare expression.
MESSAGE_KEY = "x-slipway-message"
#: The most that Kubernetes' own counters hold.
INT32 = 2**31 - 1


def rule(rule: str, message: str) -> dict[str, Any]:
    """A CEL rule with the message a person reads when it refuses."""
    return {"rule": rule, "message": message}


def string(pattern: str, message: str, *, max_length: int) -> Any:
    """Constraints of a string, with the message a person reads when the pattern does not match."""
    return Field(pattern=pattern, max_length=max_length, json_schema_extra={MESSAGE_KEY: message})


def share(text: str) -> float:
    """A share such as ``82%`` as a number between 0 and 1."""
    return float(text.removesuffix("%")) / 100.0


Share = Annotated[
    str,
    string(
        r"^(0|[1-9][0-9]?)([.][0-9]{1,4})?%$", "must be a share below 100%, such as 1% or 0.25%", max_length=8
    ),
]
#: A share that a minimum may be: none of 0.
Minimum = Annotated[
    str,
    string(
        r"^([1-9][0-9]?([.][0-9]+)?|0[.][0-9]*[1-9][0-9]*)%$",
        "must be a share above 0% and below 100%, such as 82% or 99.5%",
        max_length=8,
    ),
]


class Block(BaseModel):
    """Base of every part of the resource."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """The same: pydantic copies each default that cannot be hashed, for each resource anew."""
        return self


DnsSubdomain = Annotated[
    str,
    string(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be a name of lower case letters, digits, '-' and '.', such as store or store.v2",
        max_length=253,
    ),
]


HEADER_NAME = "^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$"
HeaderName = Annotated[
    str,
    string(
        HEADER_NAME,
        "must be the name of a header: letters, digits and '-', such as x-data-time",
        max_length=63,
    ),
]


class SecretRef(Block):
    """A Secret in the namespace of the ModelDeployment."""

    name: DnsSubdomain = Field(description="Name of the Secret.")


LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelKey = Annotated[
    str,
    string(LABEL_KEY, "keys must be label keys, such as disktype or example.com/disktype", max_length=317),
]
LabelValue = Annotated[
    str,
    string(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be a label value: letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        max_length=63,
    ),
]
