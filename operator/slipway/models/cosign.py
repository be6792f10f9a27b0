"""Verifies who signed a manifest of a registry with cosign: its digest, which vouches for every file of it.

Cosign 3 makes a Sigstore bundle with a statement of in-toto about the digest, cosign 2 a payload of its own
with its signature in annotations. Whoever is trusted to sign files is trusted to sign a manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature

from slipway.models.bundle import STATEMENT, InvalidError, check, decoded, object_of
from slipway.models.oci_layers import maps
from slipway.models.signature import LARGEST_SIGNATURE, holder, stated
from slipway.models.trust import Trust

#: Media types: of a bundle, and of what cosign 2 signs.
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
#: What a statement says that is a signature and nothing more, such as the result of a scan.
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
#: What says where something was built, in the version that is read.
PROVENANCE = "https://slsa.dev/provenance/v1"
_TYPE = "cosign container image signature"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_CERTIFICATE, _CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
_ENTRY = "dev.sigstore.cosign/bundle"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Offer:
    """What a registry has as a signature.

    Attributes:
        where: what messages call it.
        read: its bytes, cut once they are more than :data:`LARGEST_SIGNATURE`; raises ``ModelError``.
        notes: annotations by cosign 2; None for a bundle.
    """

    where: str
    read: Callable[[], bytes]
    notes: Mapping[str, Any] | None = None


def signer_of_manifest(offer: Offer, digest: str, trust: Trust) -> str:
    """Who signed a manifest, as :func:`slipway.models.signature.verify` names whoever did.

    Raises:
        InvalidError: where the signature does not count.
        ModelError: where it cannot be read, or there is nothing that it could be verified by.
    """
    content = offer.read()
    if len(content) > LARGEST_SIGNATURE:
        raise InvalidError(f"it has more than {LARGEST_SIGNATURE // 1024**2} MiB")
    try:
        if offer.notes is None:
            signer, statement = stated(content, trust)
            found = _subjects(json.loads(statement))
        else:
            signer = _signer_of_payload(content, offer.notes, trust)
            found = _named(json.loads(content))
    except (ValueError, RecursionError):
        raise InvalidError("it is not as cosign writes it") from None
    if digest not in found:
        raise InvalidError(
            f"it is for {', '.join(found)[:200] or 'nothing'}, and the manifest is {digest}: sign what is to "
            "be served, or restore what was signed"
        )
    return signer


def _subjects(statement: Any) -> list[str]:
    """The digests that a statement is about."""
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise InvalidError("it holds no statement of in-toto, version 1")
    if statement.get("predicateType") != PREDICATE:
        raise InvalidError(f"its statement is not of {PREDICATE}")
    digests = (each.get("digest") for each in maps(statement.get("subject")))
    return [f"sha256:{each['sha256']}" for each in digests if isinstance(each, dict) and "sha256" in each]


def _named(payload: Any) -> list[str]:
    """The digest that a payload of cosign 2 is about."""
    critical = object_of(payload, "critical")
    if critical.get("type") != _TYPE:
        raise InvalidError(f"its type is not {_TYPE!r}")
    return [str(object_of(critical, "image").get("docker-manifest-digest"))]


def _signer_of_payload(payload: bytes, notes: Mapping[str, Any], trust: Trust) -> str:
    signature = decoded(notes.get(_SIGNATURE))
    if trust.root is not None:
        from slipway.models.keyless import signer_of_promised

        return signer_of_promised(
            payload, signature, _certificates(notes, _CERTIFICATE)[0], _entry(notes), trust
        )
    if trust.authorities is None:
        return holder(trust, signature, payload)
    from slipway.models.certificates import signer_of

    chain = _certificates(notes, _CERTIFICATE)
    if notes.get(_CHAIN):
        chain += _certificates(notes, _CHAIN)
    key, name = signer_of({"x509CertificateChain": {"certificates": chain}}, trust, datetime.now(UTC))
    try:
        check(key, signature, payload)
    except InvalidSignature:
        raise InvalidError("it was not made by the key of its certificate: sign the model again") from None
    return name


def _certificates(notes: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """As a bundle has them, the same bytes in the same base64."""
    found = _PEM.findall(str(notes.get(name, "")))
    if not found:
        raise InvalidError("it has no certificate: sign with one")
    return [{"rawBytes": "".join(each.split())} for each in found]


def _entry(notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry that the log promised to hold, and its promise."""
    found = notes.get(_ENTRY)
    if not isinstance(found, str):
        raise InvalidError("no log promised to hold it: let cosign record it in one")
    entry: Any = json.loads(found)
    return {**object_of(entry, "Payload"), "promise": entry.get("SignedEntryTimestamp")}
