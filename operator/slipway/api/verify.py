"""``spec.model.verify``: what a model has to stand before it may run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.access import KeyRef
from slipway.api.base import Block, rule, string

#: What a certificate names somebody by.
Kind = Literal["email", "uri", "dns"]

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


class Authorities(Block):
    """Authorities whose certificates are trusted."""

    configMapRef: KeyRef = Field(
        description="ConfigMap and its key with certificates of authorities in PEM, one after the other, "
        "less than 100 KiB together."
    )


class TrustRoot(Block):
    """What keyless signatures are verified by."""

    configMapRef: KeyRef = Field(
        description="ConfigMap and its key with Sigstore's trusted_root.json, less than 100 KiB."
    )


Email = Annotated[
    str,
    string(
        r"^[^@\s]+@[^@\s]+$",
        "must be an address such as release@example.com",
        max_length=254,
    ),
    Field(description="An e-mail address, in the letters of the certificate."),
]
Uri = Annotated[
    str,
    string(
        r"^[A-Za-z][-+.A-Za-z0-9]*:[!-~]+$",
        "must be a URI such as spiffe://example.com/release",
        max_length=256,
    ),
    Field(description="A URI, in the letters of the certificate; of a workflow with its ref."),
]
DnsName = Annotated[
    str,
    string(
        r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$",
        "must be a DNS name such as release.example.com",
        max_length=253,
    ),
    Field(description="A DNS name, in the letters of the certificate, and no pattern."),
]


class Identity(Block):
    """Whom a certificate names."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.email), has(self.uri), has(self.dns)].filter(given, given).size() == 1",
                    "give one of email, uri and dns",
                )
            ]
        }
    )

    email: Email | None = Field(default=None)
    uri: Uri | None = Field(default=None)
    dns: DnsName | None = Field(default=None)

    def named(self) -> list[tuple[Kind, str]]:
        """Its one kind and value."""
        found: list[tuple[Kind, str | None]] = [("email", self.email), ("uri", self.uri), ("dns", self.dns)]
        return [(kind, value) for kind, value in found if value is not None]


class KeylessIdentity(Block):
    """Whom an OpenID issuer knows."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [rule("has(self.email) != has(self.uri)", "give either email or uri")]
        }
    )

    issuer: Annotated[
        str,
        string(
            r"^https://[!-~]+$",
            "must be the URL of an OpenID issuer, such as https://token.actions.githubusercontent.com",
            max_length=256,
        ),
    ] = Field(description="The issuer, in the letters of the certificate.")
    email: Email | None = Field(default=None)
    uri: Uri | None = Field(default=None)

    def named(self) -> list[tuple[Kind, str]]:
        """Its one kind and value."""
        found: list[tuple[Kind, str | None]] = [("email", self.email), ("uri", self.uri)]
        return [(kind, value) for kind, value in found if value is not None]


class Certificate(Block):
    """A signature by whoever an authority gave a certificate."""

    authorities: Authorities = Field(description="Authorities that the signer's certificate has to lead to.")
    identities: tuple[Identity, ...] = Field(
        min_length=1,
        max_length=16,
        description="One of these the certificate has to name, as a subject alternative name. It has to be "
        "valid when the model is resolved, for signatures (digitalSignature) and, if limited, for code.",
    )


class Keyless(Block):
    """A signature by whoever an OpenID issuer knows, by Sigstore: without a key that anybody keeps."""

    trustRoot: TrustRoot = Field(description="The authorities and logs that are trusted.")
    identities: tuple[KeylessIdentity, ...] = Field(
        min_length=1,
        max_length=16,
        description="One of these the certificate has to name. It has to have been valid when the log took "
        "the signature in.",
    )


class Signature(Block):
    """Of the model's files and its profile: model.sig next to it, or cosign's of its manifest."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.publicKeys), has(self.certificate), has(self.keyless)]"
                    ".filter(given, given).size() == 1",
                    "give one of publicKeys, certificate and keyless",
                )
            ]
        }
    )

    publicKeys: PublicKeys | None = Field(
        default=None, description="A holder of one of these keys has to have signed."
    )
    certificate: Certificate | None = Field(
        default=None, description="Somebody with a certificate of these authorities has to have signed."
    )
    keyless: Keyless | None = Field(
        default=None, description="Somebody whom an OpenID issuer knows has to have signed, by Sigstore."
    )


class Provenance(Block):
    """Where a model was built, and from what, by the word of whoever may sign it."""

    builder: Annotated[
        str,
        string(
            r"^[A-Za-z][-+.A-Za-z0-9]*:[!-~]+$",
            "must be the URI of a builder, such as "
            "https://github.com/acme/fraud/.github/workflows/release.yml",
            max_length=256,
        ),
    ] = Field(
        description="The builder's id, letter by letter, as SLSA's provenance has it. Without an @, whatever "
        "ref or version follows one."
    )
    source: Annotated[
        str,
        string(
            r"^(https://)?[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[-_.~A-Za-z0-9]+)+$",
            "must be a repository, such as github.com/acme/fraud",
            max_length=256,
        ),
    ] = Field(description="The repository that it was built from, with or without https:// and .git.")


class Verify(Block):
    """What a model has to stand before it may run."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.provenance) || has(self.signature)",
                    "provenance needs signature, which names whose word counts",
                )
            ]
        }
    )

    signature: Signature | None = Field(default=None, description="Who has to have signed the model.")
    provenance: Provenance | None = Field(
        default=None,
        description="Where the model has to have been built, by an attestation of SLSA (predicate "
        "https://slsa.dev/provenance/v1) that somebody signed whom signature accepts.",
    )
    hazards: Hazards = Field(default_factory=Hazards, description="The check of the model's graph.")
