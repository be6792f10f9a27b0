"""How requests reach the revisions: the ``traffic`` block of the spec."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from slipway.api.base import MESSAGE_KEY, Block, rule


class SessionAffinity(Block):
    """By what clients are told apart."""

    header: str = Field(
        max_length=63,
        pattern=r"^[a-z0-9]([-_.a-z0-9]*[a-z0-9])?$",
        description="Header, or metadata of gRPC, whose value names a client, such as x-user-id.",
        json_schema_extra={
            MESSAGE_KEY: "header must be lower case letters, digits, '-', '_' and '.', such as x-user-id",
            "x-kubernetes-validations": [
                rule(
                    "!self.startsWith('x-slipway-') && self != 'host' && self != 'x-request-id'",
                    "host, x-request-id and x-slipway-… name no client; take a header such as x-user-id",
                )
            ],
        },
    )


class Traffic(Block):
    """How requests reach the revisions."""

    router: Literal["Shared", "Dedicated"] = Field(
        default="Shared",
        description=(
            "Shared: by routers that the ModelDeployments of a namespace have together. "
            "Dedicated: by routers of its own."
        ),
    )
    sessionAffinity: SessionAffinity | None = Field(
        default=None,
        description=(
            "Keeps a client on its revision while a canary's weight grows; requests without the header are "
            "split at random. Heavy clients make the shares of requests differ from the weights."
        ),
    )


#: What goes with which strategy; rules of the whole spec.
RULES: list[Any] = [
    rule(
        "self.traffic.router == 'Shared' || self.rollout.strategy in ['Canary', 'BlueGreen', 'Shadow']",
        "traffic.router: Dedicated goes with rollout.strategy Canary, BlueGreen or Shadow",
    ),
    rule(
        "!has(self.traffic.sessionAffinity) || self.rollout.strategy == 'Canary'",
        "traffic.sessionAffinity goes with rollout.strategy Canary; no other splits traffic",
    ),
]
