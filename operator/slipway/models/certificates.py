"""Who signed a model, by a certificate: a chain to an authority that the spec trusts, and whom it names.

Nothing in such a signature says when it was made. So the certificate has to be valid when the model is
resolved, and a key that was stolen signs no longer than its certificate lives. Revocations are not looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from slipway.models.bundle import InvalidError, PublicKey, decoded, is_usable, object_of
from slipway.models.faults import ModelError, listed
from slipway.models.trust import Trust, called
from slipway.names import ModelFault

Extension = TypeVar("Extension", bound=x509.ExtensionType)
#: What a certificate that somebody made up may be.
_UNREADABLE = (
    x509.UnsupportedGeneralNameType,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    UnsupportedAlgorithm,
)
#: Certificates in a bundle.
_MOST = 10
_NAMES: Mapping[str, type[x509.RFC822Name | x509.UniformResourceIdentifier | x509.DNSName]] = {
    "email": x509.RFC822Name,
    "uri": x509.UniformResourceIdentifier,
    "dns": x509.DNSName,
}


def signer_of(material: Mapping[str, Any], trust: Trust, now: datetime) -> tuple[PublicKey, str]:
    """The key that a bundle's certificate vouches for, and whom it names.

    Args:
        material: what the bundle has to verify it by.
        trust: the authorities, and who is accepted.
        now: when the certificate has to be valid.

    Raises:
        InvalidError: where it does not count.
        ModelError: where no authority is given.
    """
    authorities = _authorities(trust)
    leaf, *others = _chain(material)
    check_usable(leaf, now)
    # As for clients of TLS, but for what the certificate is for.
    ca = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None
    )
    end = ExtensionPolicy.webpki_defaults_ee().may_be_present(
        x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None
    )
    verifier = (
        PolicyBuilder()
        .store(Store(authorities))
        .time(now)
        .extension_policies(ca_policy=ca, ee_policy=end)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, others)
    except (VerificationError, ValueError, *_UNREADABLE) as error:
        raise InvalidError(
            f"no valid chain leads from its certificate to an authority of {trust.named} ({error}): sign "
            "with a certificate of theirs and the ones between, or add the authority, if it is to be trusted"
        ) from None
    key = leaf.public_key()
    if not is_usable(key):
        raise InvalidError("the key of its certificate is not of the curves P-256, P-384 or P-521")
    return cast("PublicKey", key), accepted(leaf, trust)


def accepted(certificate: x509.Certificate, trust: Trust, issuer: str | None = None) -> str:
    """Which of the accepted identities a certificate names, in words; raises :class:`InvalidError`.

    Args:
        certificate: that of the signer.
        trust: with the identities.
        issuer: of the identity, where the certificate says that.
    """
    found = names_of(certificate)
    for identity in trust.identities:
        if (identity.kind, identity.value) in found and identity.issuer == issuer:
            return called(identity)
    said = listed([f"{kind}:{value[:200]}" for kind, value in found])
    by = f" by the issuer {issuer[:200]}" if issuer is not None else ""
    raise InvalidError(
        f"its certificate is of {said}{by}, and no such identity is accepted: let one of those sign that "
        "are, or add this one, if it is to be trusted"
    )


def _authorities(trust: Trust) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates((trust.authorities or "").encode())
    except ValueError as error:
        raise ModelError(
            ModelFault.SIGNATURE_INVALID,
            f"{trust.named} has no usable certificate ({error}): put those of authorities in PEM there",
        ) from None


def _chain(material: Mapping[str, Any]) -> list[x509.Certificate]:
    if "certificate" in material:
        given: Any = [material["certificate"]]
    elif "x509CertificateChain" in material:
        given = object_of(material, "x509CertificateChain").get("certificates")
    else:
        raise InvalidError("it has no certificate: sign with slipway sign --certificate")
    if not isinstance(given, list) or not 0 < len(given) <= _MOST:
        raise InvalidError(f"it has not one to {_MOST} certificates")
    found = []
    for one in given:
        raw = decoded(one.get("rawBytes") if isinstance(one, dict) else None)
        try:
            found.append(x509.load_der_x509_certificate(raw))
        except (ValueError, *_UNREADABLE):
            raise InvalidError("a certificate in it cannot be read") from None
    return found


def names_of(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """Kinds and values of a certificate's names; raises :class:`InvalidError` where it has none."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        raise InvalidError("its certificate names nobody: it has no subject alternative name")
    found = [(kind, value) for kind, of in _NAMES.items() for value in names.get_values_for_type(of)]
    if not found:
        raise InvalidError("its certificate names nobody by an e-mail address, a URI or a DNS name")
    return found


def check_usable(leaf: x509.Certificate, now: datetime) -> None:
    """Raise :class:`InvalidError` where a certificate is not valid at a time, or not for signatures."""
    _valid(leaf, now)
    _may_sign(leaf)


def _valid(leaf: x509.Certificate, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        raise InvalidError(
            f"its certificate ended at {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, and nothing proves "
            "when it was signed: sign again with one that is valid"
        )
    if now < leaf.not_valid_before_utc:
        raise InvalidError(f"its certificate begins at {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")


def _may_sign(leaf: x509.Certificate) -> None:
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise InvalidError("its certificate is not for signatures: its key usage lacks digitalSignature")
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise InvalidError("its certificate is for something else: its extended key usage lacks codeSigning")


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, *_UNREADABLE) as error:
        raise InvalidError(f"its certificate cannot be read: {error}") from None
