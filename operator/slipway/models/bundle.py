"""What signatures are read from: a bundle of Sigstore, and a statement of in-toto within it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
#: Of ECDSA, by the bits of the curve.
HASHES: Mapping[int, hashes.HashAlgorithm] = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class InvalidError(Exception):
    """The bundle is not one that counts; the message names what is wrong."""


def is_usable(key: object) -> bool:
    """Whether a public key is of a kind that signs models."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return True
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size in HASHES


def check(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Raise ``InvalidSignature`` of cryptography where the key did not sign the message."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
        return
    usual = HASHES[key.curve.key_size]
    try:
        key.verify(signature, message, ec.ECDSA(usual))
    except InvalidSignature:
        # Cosign 2 signs by SHA-256 on every curve.
        if usual.name == hashes.SHA256.name:
            raise
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def authenticated(payload: bytes) -> bytes:
    """What a signature is over: DSSE's encoding of a payload and its type."""
    name = PAYLOAD.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def fingerprint(key: PublicKey) -> str:
    """``sha256:`` and 64 hexadecimal digits of a key's DER form."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def object_of(of: Any, name: str) -> Mapping[str, Any]:
    """An object within another; raises :class:`InvalidError` where there is none."""
    found = of.get(name) if isinstance(of, dict) else None
    if not isinstance(found, dict):
        raise InvalidError(f"it has no {name}")
    return found


def decoded(text: Any) -> bytes:
    """The bytes of a text in base64; raises :class:`InvalidError`."""
    if not isinstance(text, str):
        raise InvalidError("a part of it is missing")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidError("a part of it is not base64") from None
