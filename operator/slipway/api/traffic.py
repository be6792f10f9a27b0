"""How requests reach the revisions: the ``traffic`` block of the spec."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import MESSAGE_KEY, Block, DnsSubdomain, rule, string
from slipway.api.rollout import Analysis


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


DnsLabel = Annotated[
    str,
    string(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be a name of lower case letters, digits and '-', such as gateways",
        max_length=63,
    ),
]


class ParentRef(Block):
    """A Gateway, or one listener of it."""

    name: DnsSubdomain = Field(description="Name of the Gateway.")
    namespace: DnsLabel | None = Field(
        default=None, description="Its namespace; the one of the ModelDeployment unless given."
    )
    sectionName: DnsSubdomain | None = Field(
        default=None, description="One of its listeners; all of them unless given."
    )


class GatewayAPI(Block):
    """Which Gateways lead to the model, and by what names."""

    parentRefs: tuple[ParentRef, ...] = Field(
        min_length=1,
        max_length=8,
        description="Gateways that the HTTPRoute is attached to: those of the ModelDeployment's own "
        "namespace, and others as the chart's value gatewayAPI.allow lists them.",
    )
    hostnames: tuple[
        Annotated[
            str,
            string(
                r"^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                "must be a host name such as fraud.example.com or *.example.com",
                max_length=253,
            ),
            Field(description="A host name; *. stands for one name or more before it."),
        ],
        ...,
    ] = Field(
        default=(), max_length=16, description="Host names of the route; those of the listeners unless given."
    )


class Traffic(Block):
    """How requests reach the revisions."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.provider == 'Router' || self.router == 'Shared'",
                    "router: Dedicated goes with provider Router; no other has routers of Slipway's",
                ),
                rule(
                    "self.provider == 'Router' || !has(self.sessionAffinity)",
                    "sessionAffinity goes with provider Router; no other keeps a client on its revision",
                ),
                rule(
                    "(self.provider == 'GatewayAPI') == has(self.gatewayAPI)",
                    "gatewayAPI goes with provider GatewayAPI, which needs it, and with no other",
                ),
            ]
        }
    )

    provider: Literal["Router", "GatewayAPI", "ReplicaRatio"] = Field(
        default="Router",
        description=(
            "What splits traffic between revisions. Router: Envoy, run by Slipway; exact, with copies and "
            "counts. GatewayAPI: an HTTPRoute, done by whichever Gateway there is; counts are the pods' own. "
            "ReplicaRatio: the numbers of ready pods behind one Service; approximate, one connection "
            "at a time, without copies and without evidence."
        ),
    )
    gatewayAPI: GatewayAPI | None = Field(
        default=None, description="Which Gateways lead to the model, and by what names."
    )
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


def _is_default(path: str, value: Any) -> str:
    """CEL that holds while a block is as its defaults have it."""
    if isinstance(value, Block):
        parts = [_is_default(f"{path}.{name}", getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, tuple):
        parts = [f"{path}.size() == {len(value)}"]
        parts += [_is_default(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif value is None:
        parts = [f"!has({path})"]
    else:
        parts = [f"{path} == {json.dumps(value)}"]
    return " && ".join(parts)


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
    rule(
        "self.traffic.provider != 'ReplicaRatio' || (self.rollout.strategy == 'Canary' && "
        "has(self.rollout.steps) && self.rollout.steps.all(step, has(step.setWeight) || has(step.pause)))",
        "traffic.provider ReplicaRatio goes with rollout.strategy Canary and with rollout.steps of setWeight "
        "and pause alone, since nothing copies or counts requests",
    ),
    rule(
        "!has(self.access) || !has(self.access.tls) || self.traffic.provider == 'ReplicaRatio' || "
        "(self.traffic.provider == 'Router' && self.rollout.strategy in ['RollingUpdate', 'Recreate'])",
        "access.tls goes with rollout.strategy RollingUpdate or Recreate, or with traffic.provider "
        "ReplicaRatio: routers and Gateways speak to pods in the clear",
    ),
    rule(
        f"self.traffic.provider != 'ReplicaRatio' || ({_is_default('self.rollout.analysis', Analysis())})",
        "traffic.provider ReplicaRatio gives no evidence; leave rollout.analysis out",
    ),
]
