"""Makes what :mod:`slipway.models.signature` verifies: a bundle as OpenSSF Model Signing writes it.

Its own library would read the files again, and has no way to sign files that a store keeps by their sums.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from slipway.models.bundle import HASHES, PAYLOAD, PREDICATE, STATEMENT, InvalidError, authenticated
from slipway.models.trust import PROVENANCE_FILE, SIGNATURE_FILE

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_KINDS = "of the curves P-256, P-384 or P-521, or Ed25519"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class UnusableKeyError(Exception):
    """A private key that cannot sign; the message says why."""


class EncryptedError(UnusableKeyError):
    """It takes a password."""


def private_key(pem: bytes, password: str | None = None) -> PrivateKey:
    """A private key; raises :class:`UnusableKeyError`, and :class:`EncryptedError` for want of a password."""
    try:
        key = serialization.load_pem_private_key(pem, password.encode() if password is not None else None)
    except TypeError:
        if password is None:
            raise EncryptedError("it is encrypted") from None
        return private_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        wrong = ", or the password is wrong" if password is not None else ""
        raise UnusableKeyError(f"it is no private key in PEM, {_KINDS}{wrong}") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in HASHES:
        return key
    raise UnusableKeyError(f"it is of another kind than what verifiers take: make one {_KINDS}")


def certificates(pem: bytes, key: PrivateKey) -> tuple[x509.Certificate, ...]:
    """That of a key, and the ones between it and its authority; raises :class:`UnusableKeyError`."""
    from slipway.models.certificates import check_usable, names_of

    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise UnusableKeyError("it has no certificates in PEM, that of the key first") from None
    if found[0].public_key() != key.public_key():
        raise UnusableKeyError("its first certificate is of another key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnusableKeyError("verifiers take no certificate of Ed25519: use a key of the curve P-256")
    try:
        check_usable(found[0], datetime.now(UTC))
        names_of(found[0])
    except InvalidError as error:
        raise UnusableKeyError(str(error)) from None
    return found


def signature(
    sums: Mapping[str, str], key: PrivateKey, name: str, chain: Sequence[x509.Certificate] = ()
) -> bytes:
    """The content of ``model.sig``.

    Args:
        sums: SHA-256 (64 hexadecimal digits) of each file, by its path next to the signature.
        key: that signs.
        name: of the model, for people: nobody verifies it.
        chain: of certificates, that of the key first; none for a signature by the key alone.
    """
    payload = json.dumps(_statement(sums, name)).encode()
    message = authenticated(payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        made = key.sign(message)
    else:
        made = key.sign(message, ec.ECDSA(HASHES[key.curve.key_size]))
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {**_verified_by(key, chain), "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(made).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode()


def _verified_by(key: PrivateKey, chain: Sequence[x509.Certificate]) -> dict[str, Any]:
    if chain:
        raw = (one.public_bytes(serialization.Encoding.DER) for one in chain)
        listed = [{"rawBytes": base64.b64encode(each).decode()} for each in raw]
        return {"x509CertificateChain": {"certificates": listed}}
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {"publicKey": {"hint": hashlib.sha256(public).hexdigest()}}


def _statement(sums: Mapping[str, str], name: str) -> dict[str, Any]:
    files = sorted(sums.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(found) for _, found in files)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_FILE, PROVENANCE_FILE],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": found} for path, found in files],
        },
    }
