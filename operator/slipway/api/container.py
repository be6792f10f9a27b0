"""What containers are described by: images, variables, and amounts of CPU and memory."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from slipway.api.base import MESSAGE_KEY, Block, rule, string

_NAME_PART = "[a-z0-9]+([._-]+[a-z0-9]+)*"
IMAGE = (
    rf"^(([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?{_NAME_PART}(/{_NAME_PART})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?)?$"
)
IMAGE_MESSAGE = "image must be [REGISTRY/]NAME[:TAG][@sha256:DIGEST]"
Quantity = Annotated[
    Annotated[int, Field(ge=0)]
    | Annotated[
        str,
        string(
            r"^[0-9]{1,15}([.][0-9]{1,9})?(m|k|Ki|[MGTPE]i?|e[0-9]{1,2})?$",
            "must be a quantity that is not negative, such as 500m, 2 or 1Gi",
            max_length=28,
        ),
    ],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]


ExtendedName = Annotated[
    str,
    string(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        "names must be those of extended resources, such as nvidia.com/gpu or nvidia.com/mig-1g.5gb",
        max_length=317,
    ),
]


class ResourceList(Block):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = Field(default=None, description="CPU, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Memory, such as 512Mi.")


def _at_most(small: str, large: str) -> str:
    """A CEL rule that compares two quantities; what is none is refused elsewhere, in better words."""
    return (
        f"!isQuantity(string({small})) || !isQuantity(string({large})) || "
        f"!quantity(string({small})).isGreaterThan(quantity(string({large})))"
    )


class Requests(ResourceList):
    """What a pod asks for; never absent, since scaling counts the CPU that is used in percent of it."""

    cpu: Quantity = Field(default="100m", description="CPU, such as 500m or 2.")
    memory: Quantity = Field(default="256Mi", description="Memory, such as 512Mi.")


class Limits(ResourceList):
    """What a pod may use at most; CPU is without limit unless one is given."""

    memory: Quantity = Field(default="1Gi", description="Memory, such as 512Mi.")


class Resources(Block):
    """What a pod asks for and may use at most."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!isQuantity(string(self.requests.cpu)) || "
                    "quantity(string(self.requests.cpu)).isGreaterThan(quantity('0'))",
                    "requests.cpu must be above 0, since scaling counts in percent of it",
                ),
                rule(
                    "!has(self.limits.cpu) || " + _at_most("self.requests.cpu", "self.limits.cpu"),
                    "requests.cpu (100m where it is not given) must not be above limits.cpu",
                ),
                rule(
                    _at_most("self.requests.memory", "self.limits.memory"),
                    "requests.memory (256Mi where it is not given) must not be above limits.memory "
                    "(1Gi where it is not given)",
                ),
            ]
        }
    )

    requests: Requests = Field(
        default=Requests(),
        description="What a pod asks for. Scaling counts the CPU that is used in percent of requests.cpu.",
    )
    limits: Limits = Field(
        default=Limits(), description="What a pod may use at most; CPU is without limit unless one is given."
    )
    extended: dict[ExtendedName, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default={},
        max_length=16,
        description="Whole units of what device plugins offer, such as nvidia.com/gpu: 1; requests and "
        "limits alike, as Kubernetes wants them.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(key, !key.contains('kubernetes.io/') && !key.startsWith('requests.'))",
                    "names of kubernetes.io and names that start with requests. are no extended resources",
                )
            ]
        },
    )


class EnvVar(Block):
    """A plain environment variable of the model server."""

    name: str = Field(
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the variable.",
        json_schema_extra={
            MESSAGE_KEY: "must be letters, digits and '_', and not start with a digit",
            "x-kubernetes-validations": [
                rule("!self.startsWith('SLIPWAY_')", "names that start with SLIPWAY_ are set by the operator")
            ],
        },
    )
    value: str = Field(default="", max_length=4096, description="Its value.")
