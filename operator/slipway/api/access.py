"""``spec.access``: who may ask, and what for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import MESSAGE_KEY, Block, DnsSubdomain, SecretRef, rule, string

#: What a request does.
ACTIONS = ("Infer", "Feedback", "Metadata")
Action = Annotated[Literal["Infer", "Feedback", "Metadata"], Field(description="What a request does.")]

Caller = Annotated[
    str,
    string(
        r"^([*]|anonymous|key:([*]|[-._a-zA-Z0-9]{1,64})"
        r"|jwt:([*]|[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?:[!-~]+)"
        r"|spiffe://[!-~]+|dns:([*]|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)"
        r"|system:serviceaccount:([*]|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:([*]|[a-z0-9]([-.a-z0-9]*[a-z0-9])?)))$",
        "a caller is key:NAME, with NAME a key of the Secret; jwt:ISSUER:SUBJECT; "
        "system:serviceaccount:NAMESPACE:NAME; spiffe://DOMAIN/PATH; dns:NAME; key:*, jwt:*, jwt:ISSUER:*, "
        "system:serviceaccount:NAMESPACE:* or spiffe://DOMAIN/* for all of them; * for all that are known; "
        "or anonymous for whoever shows nothing",
        max_length=339,
    ),
    Field(
        description="key:NAME, jwt:ISSUER:SUBJECT, system:serviceaccount:NAMESPACE:NAME, "
        "spiffe://DOMAIN/PATH, dns:NAME, * or anonymous; what ends with :* or /* means all of them."
    ),
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


DataKey = Annotated[
    str,
    string(
        r"^[-._a-zA-Z0-9]+$",
        "must be a key of a ConfigMap or Secret: letters, digits, '-', '_' and '.'",
        max_length=253,
    ),
]


class KeyRef(Block):
    """A key of a ConfigMap or Secret in the namespace of the ModelDeployment."""

    name: DnsSubdomain = Field(description="Name of the object.")
    key: DataKey = Field(description="Its key.")


class Source(Block):
    """Where a text is: in a ConfigMap or in a Secret."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.configMapKeyRef) != has(self.secretKeyRef)",
                    "give either configMapKeyRef or secretKeyRef",
                )
            ]
        }
    )

    configMapKeyRef: KeyRef | None = Field(default=None, description="Of a ConfigMap.")
    secretKeyRef: KeyRef | None = Field(default=None, description="Of a Secret.")


class KeySet(Source):
    """Where public keys are: in a ConfigMap, in a Secret, or at an address."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.configMapKeyRef), has(self.secretKeyRef), has(self.uri)]"
                    ".filter(found, found).size() == 1",
                    "give one of configMapKeyRef, secretKeyRef and uri",
                )
            ]
        }
    )

    uri: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https://[^\s/?#@]+(/[^\s#]*)?$",
        description="Address that the operator reads them at, every five minutes; one of those that the "
        "chart's value access.issuers lists, letter by letter. Pods ask no issuer.",
        json_schema_extra={MESSAGE_KEY: "must be a URL such as https://sso.example.com/jwks.json"},
    )


Claim = Annotated[str, Field(min_length=1, max_length=128)]


class RequiredClaim(Block):
    """A claim that a token has to have."""

    name: Claim = Field(description="Name of the claim.")
    values: tuple[Annotated[str, Field(min_length=1, max_length=256, description="A value.")], ...] = Field(
        min_length=1,
        max_length=16,
        description="The claim is one of these strings, or a list with one of them.",
    )


class Issuer(Block):
    """Whose signed tokens (JWT) are taken."""

    name: Annotated[
        str,
        string(
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "must be a short name of lower case letters, digits and '-', such as sso",
            max_length=32,
        ),
    ] = Field(description="Callers are jwt:NAME:SUBJECT.")
    issuer: str = Field(
        min_length=1, max_length=512, description="What tokens have as iss, letter by letter."
    )
    audiences: tuple[
        Annotated[str, Field(min_length=1, max_length=256, description="What a token has as aud.")], ...
    ] = Field(
        min_length=1,
        max_length=8,
        description="A token has to be for one of them. Take one that no other service takes.",
    )
    jwks: KeySet = Field(
        description="The issuer's public keys, a JSON Web Key Set; a change is followed without a restart."
    )
    callerClaim: Claim | None = Field(
        default=None, description="The claim that names the caller; sub unless given."
    )
    requiredClaims: tuple[RequiredClaim, ...] = Field(
        default=(), max_length=8, description="What else a token has to have: all of it."
    )


class ServiceAccounts(Block):
    """Tokens of ServiceAccounts are taken, if they are for the audience of the namespace."""


class Tls(Block):
    """The model server's own TLS, for REST and gRPC; its pods then take no request in the clear."""

    secretRef: SecretRef = Field(
        description="Secret with tls.crt and tls.key, as cert-manager makes it. A renewed certificate is "
        "followed without a restart."
    )
    clientCA: Source | None = Field(
        default=None,
        description="Certificates (PEM) of authorities whose clients are callers by their certificates: "
        "spiffe://DOMAIN/PATH by its URI, else dns:NAME by its DNS names. A change is followed without a "
        "restart.",
    )


class AccessRule(Block):
    """These callers may do these things."""

    callers: tuple[Caller, ...] = Field(
        min_length=1,
        max_length=32,
        description="key:NAME, jwt:ISSUER:SUBJECT, system:serviceaccount:NAMESPACE:NAME, "
        "spiffe://DOMAIN/PATH, dns:NAME, * for all that are known, or anonymous; what ends with :* or /* "
        "means all of them.",
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
    bytesInFlight: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000_000,
        description="Bytes of bodies, as they came, that are in memory at a time, of requests of the model "
        "and of labels.",
    )


class AccessLimits(Block):
    """How many requests are allowed; more are answered 429. Each pod keeps to its share of it."""

    perCaller: Limits | None = Field(default=None, description="Of each caller that is known.")
    anonymous: Limits | None = Field(default=None, description="Of all strangers together.")


RULES = [
    rule(
        "has(self.apiKeys) || has(self.serviceAccounts) || (has(self.issuers) && self.issuers.size() > 0) || "
        "(has(self.tls) && has(self.tls.clientCA))",
        "say by what callers are known: give apiKeys, issuers, serviceAccounts or tls.clientCA",
    ),
    rule(
        "!has(self.issuers) || self.issuers.all(a, self.issuers.exists_one(b, b.issuer == a.issuer))",
        "each issuer is there once",
    ),
    rule(
        "!has(self.allow) || has(self.apiKeys) || self.allow.all(r, r.callers.all(c, !c.startsWith('key:')))",
        "allow names a caller with a key, and no key is taken: give apiKeys",
    ),
    rule(
        "!has(self.allow) || self.allow.all(r, r.callers.all(c, !c.startsWith('jwt:') || "
        "(has(self.issuers) && self.issuers.exists(i, c == 'jwt:*' || "
        "c.startsWith('jwt:' + i.name + ':')))))",
        "allow names a caller of an issuer that is not in issuers",
    ),
    rule(
        "!has(self.allow) || has(self.serviceAccounts) || "
        "self.allow.all(r, r.callers.all(c, !c.startsWith('system:')))",
        "allow names a ServiceAccount, and no token of any is taken: give serviceAccounts",
    ),
    rule(
        "!has(self.allow) || (has(self.tls) && has(self.tls.clientCA)) || self.allow.all(r, "
        "r.callers.all(c, !c.startsWith('spiffe:') && !c.startsWith('dns:')))",
        "allow names a certificate's caller, and no certificate is taken: give tls.clientCA",
    ),
]


class Access(Block):
    """Who may ask. Health pages stay open, to probes and to anybody."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [*RULES]})

    apiKeys: ApiKeys | None = Field(
        default=None, description="Callers that show a key: 'Authorization: Bearer KEY'."
    )
    issuers: tuple[Issuer, ...] = Field(
        default=(),
        max_length=4,
        description="Callers that show a signed token (JWT): 'Authorization: Bearer TOKEN'.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    serviceAccounts: ServiceAccounts | None = Field(
        default=None,
        description="Callers that show a token of a ServiceAccount of this cluster, for audience "
        "slipway.dev/NAMESPACE with the namespace of the ModelDeployment. Give {}.",
    )
    tls: Tls | None = Field(
        default=None,
        description="The model server's own TLS. It goes with the strategies RollingUpdate and Recreate, and "
        "with provider ReplicaRatio: whatever else splits traffic speaks to pods in the clear.",
    )
    allow: tuple[AccessRule, ...] = Field(
        default=(),
        max_length=16,
        description="What callers may do: what any rule allows. Left out, each known caller may do "
        "everything.",
    )
    limits: AccessLimits | None = Field(
        default=None, description="How many requests are allowed; more are answered 429."
    )


def key_addresses(access: Access | None) -> frozenset[str]:
    """Where public keys of issuers are to be read."""
    issuers = () if access is None else access.issuers
    return frozenset(each.jwks.uri for each in issuers if each.jwks.uri is not None)
