"""``spec.access``: who may ask, and what for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import Block, SecretRef, rule, string

#: What a request does.
ACTIONS = ("Infer", "Feedback", "Metadata")
Action = Annotated[Literal["Infer", "Feedback", "Metadata"], Field(description="What a request does.")]

Caller = Annotated[
    str,
    string(
        r"^([*]|anonymous|key:([*]|[-._a-zA-Z0-9]{1,64}))$",
        "a caller is key:NAME, with NAME a key of the Secret; key:* for all with a key; * for all that are "
        "known; or anonymous for whoever shows nothing",
        max_length=68,
    ),
    Field(description="key:NAME, key:*, * or anonymous."),
]


class ApiKeys(Block):
    """Callers that show a key."""

    secretRef: SecretRef = Field(
        description=(
            "Secret with a key for each caller, by the caller's name; its value has a line for each API key: "
            "sha256: and the key's SHA-256 in hexadecimal digits. 'kubectl slipway key new' makes both. A "
            "change of the Secret is followed without a restart."
        )
    )


class AccessRule(Block):
    """These callers may do these things."""

    callers: tuple[Caller, ...] = Field(
        min_length=1,
        max_length=32,
        description="key:NAME, key:* for all with a key, * for all that are known, or anonymous.",
    )
    actions: tuple[Action, ...] = Field(
        min_length=1,
        max_length=3,
        description="Infer: ask the model. Feedback: send labels. Metadata: read what the model takes and "
        "gives, and all else that is no health page.",
    )


class Limits(Block):
    """What may be asked, of all pods of a revision together."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.burst) || has(self.requestsPerSecond)",
                    "burst goes with requestsPerSecond",
                )
            ]
        }
    )

    requestsPerSecond: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests a second, over time; all but health pages count.",
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests at once after a pause; requestsPerSecond unless given.",
    )
    rowsPerDay: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000_000,
        description="Rows that are answered in a day of UTC; a pod that starts again begins at 0.",
    )
    concurrent: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Requests of the model that are under way at a time."
    )


class AccessLimits(Block):
    """How much may be asked; more is answered 429. Each pod keeps to its share of it."""

    perCaller: Limits | None = Field(default=None, description="Of each caller that is known.")
    anonymous: Limits | None = Field(default=None, description="Of all strangers together.")


class Access(Block):
    """Who may ask. Health pages stay open, to probes and to anybody."""

    apiKeys: ApiKeys = Field(description="Callers that show a key: 'Authorization: Bearer KEY'.")
    allow: tuple[AccessRule, ...] = Field(
        default=(),
        max_length=16,
        description="What callers may do: what any rule allows. Left out, each known caller may do "
        "everything.",
    )
    limits: AccessLimits | None = Field(
        default=None, description="How much may be asked; more is answered 429."
    )
