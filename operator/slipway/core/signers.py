"""Who has to have signed and built a model, as a spec says it, for whoever verifies."""

from __future__ import annotations

from dataclasses import dataclass

from slipway import contract
from slipway.api.access import KeyRef
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming


@dataclass(frozen=True)
class Signers:
    """Whose signature counts.

    Attributes:
        place: the ConfigMap's key with what signatures are verified by.
        env: the variable that a resolver has it in.
        identities: whom a certificate may name; none where keys count.
    """

    place: KeyRef
    env: str
    identities: tuple[contract.Identity, ...] = ()


def signers_of(spec: ModelDeploymentSpec) -> Signers | None:
    """Those of a spec; None where nobody has to have signed the model."""
    signature = spec.model.verify.signature if spec.model.verify else None
    if signature is None:
        return None
    if signature.keyless is not None:
        keyless = signature.keyless
        found = tuple(
            contract.Identity(kind=kind, value=value, issuer=each.issuer)
            for each in keyless.identities
            for kind, value in each.named()
        )
        return Signers(keyless.trustRoot.configMapRef, contract.TRUST_ROOT_ENV, found)
    if signature.certificate is not None:
        certificate = signature.certificate
        found = tuple(
            contract.Identity(kind=kind, value=value)
            for each in certificate.identities
            for kind, value in each.named()
        )
        return Signers(certificate.authorities.configMapRef, contract.AUTHORITIES_ENV, found)
    assert signature.publicKeys is not None
    return Signers(signature.publicKeys.configMapRef, contract.PUBLIC_KEYS_ENV)


def built_by(spec: ModelDeploymentSpec) -> contract.BuiltBy | None:
    """Where a spec's model has to have been built; None where that does not matter."""
    wanted = spec.model.verify.provenance if spec.model.verify else None
    return None if wanted is None else contract.BuiltBy(builder=wanted.builder, source=wanted.source)


def verified_for(spec: ModelDeploymentSpec) -> str | None:
    """Hash of who has to have signed the model, and of where it has to have been built; None for nobody."""
    verify = spec.model.verify
    if verify is None or verify.signature is None:
        return None
    signature = verify.signature.model_dump(mode="json", exclude_none=True)
    if verify.provenance is None:
        return naming.content_hash(signature)
    return naming.content_hash([signature, verify.provenance.model_dump(mode="json")])
